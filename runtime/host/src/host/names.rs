//! What model names mean, and the tokenizers behind them: the catalog's snapshot and the backbones' text.

use crate::call::{CallError, ToolChoice};
use crate::catalog::Catalog;
use crate::http::app::{Base, Bound, Card, Chat, Functions};
use crate::live::model::Model;
use crate::records::{AdapterRecord, Function, Generation};
use coldframe_backbone::Error;
use coldframe_backbone::text::{ChatInput, ChatTemplate, Special, Tokenizer};
use std::path::PathBuf;
use std::sync::Arc;

/// Functions listed at once; a tenant with more sees the first so many.
const LISTED_MAX: usize = 10_000;
/// Bytes of a template's file.
const TEMPLATE_BYTES_MAX: u64 = 8 << 20;

/// A backbone as clients know it. It holds the tokenizer, not the weights: those may leave memory.
#[derive(Clone)]
pub struct Served {
    /// Its card.
    pub base: Base,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its chat template.
    pub template: Option<Arc<ChatTemplate>>,
    /// Tokens known.
    pub vocab: usize,
}

impl Served {
    /// Of an opened model.
    pub fn of(model: &Model, also: Vec<String>, created_ms: u64) -> Self {
        let fingerprint = crate::admin::generation::digest(&serde_json::json!([
            model.checkpoint.identity(),
            model.device,
            env!("CARGO_PKG_VERSION"),
        ]));
        let base = Base {
            id: model.name.clone(),
            also,
            created_ms,
            max_model_len: u32::try_from(model.context()).unwrap_or(u32::MAX),
            fingerprint: format!("fp_{}", &fingerprint[..12]),
        };
        let (tokenizer, template) = (model.tokenizer.clone(), model.template.clone());
        Self { base, tokenizer, template, vocab: model.vocab() }
    }
}

/// Knows names.
pub struct Known {
    /// What is registered.
    pub catalog: Arc<Catalog>,
    /// Backbones, the default first.
    pub served: Vec<Served>,
    /// Folders of adapters, for their templates.
    pub adapters: PathBuf,
}

impl Known {
    /// The backbone that a name is bound to.
    fn backbone(&self, bound: &Bound) -> Result<&Served, CallError> {
        let name = bound.generation.as_ref().map_or(&bound.names.function, |generation| &generation.backbone);
        let found = self.served.iter().find(|served| served.base.id == *name);
        found.ok_or_else(|| CallError::Start(format!("no backbone `{name}` is served here")))
    }

    fn card(&self, function: &Function) -> Card {
        let live = function.aliases.get(crate::catalog::LIVE).map(Vec::as_slice).unwrap_or_default();
        let first = live.first().and_then(|target| {
            function.generations.iter().find(|generation| generation.id == target.generation)
        });
        let parent = first.map(|generation| generation.backbone.clone()).unwrap_or_default();
        let served = self.served.iter().find(|served| served.base.id == parent);
        Card {
            id: function.names.function.clone(),
            created_ms: function.created_ms,
            generation: (live.len() == 1).then(|| live[0].generation.clone()),
            max_model_len: served.map_or(0, |served| served.base.max_model_len),
            parent,
        }
    }

    /// The template that an adapter brought, where it brought one.
    fn template(&self, bound: &Bound, served: &Served) -> Result<Option<ChatTemplate>, CallError> {
        let Some(adapter) = bound.generation.as_deref().and_then(|generation| adapter(generation, bound))
        else {
            return Ok(None);
        };
        let folder = self.adapters.join(&adapter.generation);
        let Some(source) = source(adapter, &folder)? else { return Ok(None) };
        let (bos, eos) = (served.tokenizer.bos_text(), served.tokenizer.eos_text());
        ChatTemplate::parse(&source, &bos, &eos).map(Some).map_err(bad_request)
    }
}

fn adapter<'a>(generation: &'a Generation, bound: &Bound) -> Option<&'a AdapterRecord> {
    match &bound.adapter {
        Some(name) => generation.adapters.iter().find(|adapter| adapter.name == *name),
        None => generation.adapters.first(),
    }
}

/// A template's text from an adapter's files.
fn source(adapter: &AdapterRecord, folder: &std::path::Path) -> Result<Option<String>, CallError> {
    use std::io::Read as _;
    let text = |name: &str| {
        let mut text = String::new();
        let file = std::fs::File::open(folder.join(name));
        let read = file.and_then(|file| file.take(TEMPLATE_BYTES_MAX).read_to_string(&mut text));
        read.map(|_| text).map_err(|error| CallError::Start(format!("{name}: {error}")))
    };
    if adapter.files.contains_key("chat_template.jinja") {
        return text("chat_template.jinja").map(Some);
    }
    if !adapter.files.contains_key("tokenizer_config.json") {
        return Ok(None);
    }
    let config: serde_json::Value = serde_json::from_str(&text("tokenizer_config.json")?)
        .map_err(|error| CallError::Start(format!("tokenizer_config.json: {error}")))?;
    Ok(config["chat_template"].as_str().map(str::to_owned))
}

fn bad_request(error: Error) -> CallError {
    match error {
        Error::BadRequest { field, problem } => CallError::BadRequest { field: field.to_owned(), problem },
        Error::TooLarge { what, size, limit } => CallError::BadRequest {
            field: "prompt".to_owned(),
            problem: format!("{what}: {size} exceeds the limit of {limit}"),
        },
        other => CallError::BadRequest { field: "messages".to_owned(), problem: other.to_string() },
    }
}

impl Functions for Known {
    fn bases(&self) -> Vec<Base> {
        self.served.iter().map(|served| served.base.clone()).collect()
    }

    fn resolve(&self, tenant: &str, name: &str, request: &str) -> Option<Bound> {
        let found = self.catalog.resolve(tenant, name, request)?;
        Some(Bound { names: found.function.names.clone(), generation: Some(found.generation), adapter: None })
    }

    fn generation(&self, tenant: &str, generation: &str) -> Option<Bound> {
        let all = self.catalog.functions(Some(tenant), None, LISTED_MAX);
        let found = all.iter().find(|function| function.generations.iter().any(|g| g.id == generation))?;
        self.resolve(tenant, &format!("{}@{generation}", found.names.function), "")
    }

    fn list(&self, tenant: &str) -> Vec<Card> {
        let all = self.catalog.functions(Some(tenant), None, LISTED_MAX);
        all.iter().map(|function| self.card(function)).collect()
    }

    fn tokenize(&self, bound: &Bound, text: &str, special: bool) -> Result<Vec<u32>, CallError> {
        let served = self.backbone(bound)?;
        if special {
            let context = served.base.max_model_len as usize;
            return served.tokenizer.encode_prompt(text, context).map_err(bad_request);
        }
        served.tokenizer.encode(text, Special::AsText).map_err(bad_request)
    }

    fn detokenize(&self, bound: &Bound, tokens: &[u32]) -> Result<String, CallError> {
        let served = self.backbone(bound)?;
        match tokens.iter().find(|&&token| token as usize >= served.vocab) {
            None => Ok(served.tokenizer.decode(tokens, false)),
            Some(token) => Err(CallError::BadRequest {
                field: "tokens".to_owned(),
                problem: format!("{token} is outside the vocabulary of {}", served.vocab),
            }),
        }
    }

    fn render(&self, bound: &Bound, chat: &Chat) -> Result<String, CallError> {
        let served = self.backbone(bound)?;
        let own = self.template(bound, served)?;
        let template = own.as_ref().or(served.template.as_deref()).ok_or_else(|| CallError::BadRequest {
            field: "messages".to_owned(),
            problem: "this model has no chat template: give a prompt".to_owned(),
        })?;
        let input = ChatInput {
            tools: chat.tools.as_ref().filter(|_| chat.tool_choice != ToolChoice::None),
            add_generation_prompt: chat.add_generation_prompt,
            extra: chat.extra.clone(),
            ..ChatInput::new(&chat.messages)
        };
        let context = served.base.max_model_len as usize;
        let rendered = served.tokenizer.encode_chat(template, &input, context);
        rendered.map(|prompt| prompt.text).map_err(bad_request)
    }
}
