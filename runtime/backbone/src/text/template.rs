//! Chat templates, rendered as Hugging Face's `apply_chat_template` does.
//!
//! Jinja with trimmed blocks, loop controls, Python's string and dict methods, `raise_exception`, `strftime_now` and
//! Python's `tojson`. A template is a stranger's program (adapters bring their own), so it has no files to include and
//! a budget that bounds its time and memory together.

use super::python;
use crate::error::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, context};
use serde_json::{Map, Value};
use std::io::Write;
use std::time::SystemTime;

/// Largest template, bytes: ten times the largest in wide use.
pub const TEMPLATE_BYTES_MAX: usize = 512 << 10;
/// Most bytes that a template may render; past it a chat is no prompt for any model served here.
pub const RENDERED_BYTES_MAX: usize = 4 << 20;
/// Budget of one render: about one unit for an instruction or 64 bytes. Bounds memory at 128 MiB.
const FUEL: u64 = 2_000_000;
/// Nested calls of macros. Arbitrary; templates in use nest two or three.
const RECURSION_MAX: usize = 64;
const NAME: &str = "chat";

/// What a chat template is given.
#[derive(Debug, Clone)]
pub struct ChatInput<'a> {
    /// The messages: an array of objects with `role`, `content` (text, or parts of text) and what else a template reads.
    pub messages: &'a Value,
    /// Tools that the model may call, as OpenAI writes them.
    pub tools: Option<&'a Value>,
    /// Documents for retrieval templates.
    pub documents: Option<&'a Value>,
    /// Whether the answer's opening is rendered.
    pub add_generation_prompt: bool,
    /// The time that `strftime_now` tells, in UTC.
    pub now: SystemTime,
    /// Further variables (`chat_template_kwargs`): `enable_thinking`, `date_string`, …; they cannot hide the ones above.
    pub extra: Map<String, Value>,
}

impl<'a> ChatInput<'a> {
    /// Messages alone, asking for an answer.
    pub fn new(messages: &'a Value) -> Self {
        let extra = Map::new();
        Self {
            messages,
            tools: None,
            documents: None,
            add_generation_prompt: true,
            now: SystemTime::now(),
            extra,
        }
    }
}

/// A parsed chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// Whether it reads content parts itself; else they are joined before.
    reads_parts: bool,
}

impl ChatTemplate {
    /// Parses a template; `bos` and `eos` are the texts of the model's tokens.
    ///
    /// # Errors
    /// [`Error::Template`] with the line for what does not parse; [`Error::TooLarge`] past [`TEMPLATE_BYTES_MAX`].
    pub fn parse(source: &str, bos: &str, eos: &str) -> Result<Self> {
        if source.len() > TEMPLATE_BYTES_MAX {
            let (size, limit) = (source.len() as u64, TEMPLATE_BYTES_MAX as u64);
            return Err(Error::TooLarge { what: "chat template in bytes".into(), size, limit });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_MAX);
        python::install(&mut environment);
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(failed)?;
        Ok(Self { environment, bos: bos.into(), eos: eos.into(), reads_parts: reads_parts(source) })
    }

    /// Renders a chat. To tokenise it, use [`super::Tokenizer::encode_chat`], which keeps users from forging tokens.
    ///
    /// # Errors
    /// [`Error::Template`] for what the template raises, calls in vain or does past its budget; [`Error::BadRequest`]
    /// for messages that are no messages; [`Error::TooLarge`] past [`RENDERED_BYTES_MAX`].
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String> {
        let messages = messages(input.messages, self.reads_parts)?;
        let now = minijinja::Value::from_function(python::strftime(input.now));
        let own = context! {
            messages => python::from_json(&messages),
            tools => input.tools.map(python::from_json), documents => input.documents.map(python::from_json),
            add_generation_prompt => input.add_generation_prompt,
            bos_token => self.bos.as_str(), eos_token => self.eos.as_str(), strftime_now => now,
        };
        let extra = python::from_fields(&input.extra);
        let mut out = Capped::default();
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let rendered = template.render_captured_to(context! { ..own, ..extra }, &mut out).map(drop);
        if out.over {
            let (size, limit) = (out.text.len() as u64 + 1, RENDERED_BYTES_MAX as u64);
            return Err(Error::TooLarge { what: "rendered chat in bytes".into(), size, limit });
        }
        rendered.map_err(failed)?;
        String::from_utf8(out.text).map_err(|error| Error::Template(error.to_string()))
    }
}

/// Output that ends at the limit.
#[derive(Default)]
struct Capped {
    text: Vec<u8>,
    over: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.text.len() + bytes.len() > RENDERED_BYTES_MAX {
            self.over = true;
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn failed(error: minijinja::Error) -> Error {
    let place = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
    let detail = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "did more work than a chat template may; look for a loop".to_owned(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    Error::Template(format!("{place}{detail}"))
}

/// `{% generation %}` marks the answer for training and renders nothing; here it is a block that is always taken.
fn without_generation_tags(source: &str) -> String {
    if !source.contains("generation %") && !source.contains("generation -%") {
        return source.to_owned();
    }
    let tag = |source: &str, name: &str, instead: &str| {
        let expression =
            regex::Regex::new(&format!(r"\{{%(-?)\s*{name}\s*(-?)%\}}")).expect("a constant expression");
        expression.replace_all(source, format!("{{%${{1}} {instead} ${{2}}%}}")).into_owned()
    };
    tag(&tag(source, "endgeneration", "endif"), "generation", "if true")
}

/// Whether a template tells text from parts itself.
fn reads_parts(source: &str) -> bool {
    ["is string", "is not string", "is iterable", "is sequence", "'type'", "\"type\"", ".type"]
        .iter()
        .any(|sign| source.contains(sign))
}

/// The messages, their parts joined where the template reads only text.
fn messages(value: &Value, keep_parts: bool) -> Result<Value> {
    let bad = |problem: String| Error::BadRequest { field: "messages", problem };
    let Value::Array(items) = value else { return Err(bad("give an array of messages".into())) };
    let mut out = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let Value::Object(fields) = item else { return Err(bad(format!("message {index} is no object"))) };
        let mut fields = fields.clone();
        if let (false, Some(Value::Array(parts))) = (keep_parts, fields.get("content")) {
            let text = join_parts(parts).ok_or_else(|| {
                bad(format!("message {index} has a part that is no text; this model reads text alone"))
            })?;
            fields.insert("content".into(), text.into());
        }
        out.push(Value::Object(fields));
    }
    Ok(Value::Array(out))
}

fn join_parts(parts: &[Value]) -> Option<String> {
    let texts: Option<Vec<&str>> =
        parts.iter().map(|part| part.as_str().or_else(|| part.get("text")?.as_str())).collect();
    Some(texts?.join("\n"))
}
