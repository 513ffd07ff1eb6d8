//! From what is wished to what the engine takes: template, tokens, grammar, voices. Work for threads that may block.

use super::hook::HookBridge;
use super::model::Model;
use super::resident::Loaded;
use coldframe_backbone::engine::{Speech, SpeechOptions, Voice};
use coldframe_backbone::error::{Error, Result};
use coldframe_backbone::sample::{Grammar, SamplingParams};
use coldframe_backbone::text::{ChatInput, ChatTemplate};
use coldframe_sandbox::services::TokenHook;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What the text goes on from.
pub(super) enum Source {
    /// A conversation, for the template.
    Chat { messages: Value, tools: Option<Value>, extra: Map<String, Value> },
    /// Text as it stands.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// Something to generate.
pub(super) struct Wish {
    pub(super) source: Source,
    pub(super) params: SamplingParams,
    pub(super) choices: u32,
    pub(super) grammar: Option<Grammar>,
    pub(super) include_stop: bool,
    /// For a single choice.
    pub(super) hook: Option<Box<dyn TokenHook>>,
}

/// Something that the engine takes.
pub(super) struct Ready {
    pub(super) prompt: Vec<u32>,
    pub(super) max_tokens: Option<usize>,
    pub(super) voices: Vec<Box<dyn Voice>>,
}

/// Makes a wish ready on a thread that may block.
pub(super) async fn prepare(model: &Arc<Model>, loaded: Option<&Loaded>, wish: Wish) -> Result<Ready> {
    let (model, template) = (model.clone(), loaded.and_then(|loaded| loaded.template.clone()));
    let work = tokio::task::spawn_blocking(move || ready(&model, template.as_deref(), wish));
    // A panic of the work is a panic of the call; it ends nowhere else, as the runtime is not shut down before calls are.
    work.await.unwrap_or_else(|failed| match failed.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Interrupted("the host is stopping".to_owned())),
    })
}

fn ready(model: &Model, template: Option<&ChatTemplate>, wish: Wish) -> Result<Ready> {
    wish.params.validate(model.vocab())?;
    let going_on = !matches!(wish.source, Source::Chat { .. });
    let (prompt, field) = tokens(model, template, wish.source)?;
    // More than the context holds is no error: the answer ends there, by its length.
    let left = model.context().saturating_sub(prompt.len());
    if prompt.is_empty() || left == 0 {
        let most = model.context() - 1;
        let problem = format!("has {} tokens; give 1 to {most}, so that an answer has room", prompt.len());
        return Err(Error::BadRequest { field, problem });
    }
    let max_tokens = wish.params.max_tokens.map(|tokens| left.min(tokens as usize));
    let seed = match wish.params.seed {
        Some(seed) => seed,
        None => random_seed()?,
    };
    let mut hook = wish.hook;
    let mut voices: Vec<Box<dyn Voice>> = Vec::with_capacity(wish.choices as usize);
    for choice in 0..wish.choices {
        // Each choice is a draw of its own, and the same one when the request comes again.
        let params =
            SamplingParams { seed: Some(seed.wrapping_add(i64::from(choice))), ..wish.params.clone() };
        let mut options = SpeechOptions::new(params, 0);
        options.include_stop = wish.include_stop;
        options.keep_first_space = going_on;
        options.constraint = wish.grammar.as_ref().map(|g| model.grammars.compile(g)).transpose()?;
        options.hook = match hook.take() {
            Some(hook) => Some(Box::new(HookBridge::new(hook, model.tokenizer.clone())?)),
            None => None,
        };
        voices.push(Box::new(Speech::new(&model.tokenizer, &prompt, options)?));
    }
    Ok(Ready { prompt, max_tokens, voices })
}

/// The prompt's tokens, and the parameter that they came from.
fn tokens(
    model: &Model,
    template: Option<&ChatTemplate>,
    source: Source,
) -> Result<(Vec<u32>, &'static str)> {
    let most = model.checkpoint.config().context;
    // The texts' own limits name no parameter; here it is known.
    let named = |field: &'static str| {
        move |error| match error {
            Error::TooLarge { what, size, limit } => {
                let problem = format!("{what}: {size} is more than the limit of {limit}");
                Error::BadRequest { field, problem }
            }
            other => other,
        }
    };
    match source {
        Source::Chat { messages, tools, extra } => {
            let input = ChatInput { tools: tools.as_ref(), extra, ..ChatInput::new(&messages) };
            let rendered = model.render(template, &input).map_err(named("messages"))?;
            Ok((rendered.tokens, "messages"))
        }
        Source::Text(text) => {
            let tokens = model.tokenizer.encode_prompt(&text, most).map_err(named("prompt"))?;
            Ok((tokens, "prompt"))
        }
        Source::Tokens(tokens) => match tokens.iter().find(|&&token| token as usize >= model.vocab()) {
            None => Ok((tokens, "prompt")),
            Some(token) => {
                let problem = format!("token {token} is outside the vocabulary of {}", model.vocab());
                Err(Error::BadRequest { field: "prompt", problem })
            }
        },
    }
}

fn random_seed() -> Result<i64> {
    let seed = getrandom::u64().map_err(|error| Error::Interrupted(format!("no random seed: {error}")))?;
    Ok(seed as i64)
}
