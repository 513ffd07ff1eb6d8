//! What every generating route reads from its body besides its own fields: the model, shapes, streaming, and the fields
//! of other servers that would change the answer and are not served here.

use super::params;
use crate::call::{Call, Shape, Work};
use crate::http::ask::Ask;
use crate::http::dialect::{Named, bind, naming::Asked};
use crate::http::fields::Fields;
use crate::http::problem::{Problem, Result};
use bytes::Bytes;
use coldframe_backbone::sample::SamplingParams;
use serde_json::{Map, Value};
use std::time::Instant;

/// A field that is refused rather than ignored, and the values that ask for nothing.
type Refused = (&'static str, fn(&Value) -> bool);

const NEVER: fn(&Value) -> bool = |_| false;
const FALSE: fn(&Value) -> bool = |value| value == &Value::Bool(false);
const TRUE: fn(&Value) -> bool = |value| value == &Value::Bool(true);
const EMPTY: fn(&Value) -> bool = |value| {
    value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_str().is_some_and(str::is_empty)
};
const ZERO: fn(&Value) -> bool = |value| value.as_f64() == Some(0.0);
const ONE: fn(&Value) -> bool = |value| value.as_f64() == Some(1.0);
const TEXT: fn(&Value) -> bool = |value| *value == serde_json::json!(["text"]);

/// Fields of OpenAI, vLLM and SGLang that would change the answer: better an error than an answer to another question.
const REFUSED: [Refused; 32] = [
    ("functions", EMPTY),
    ("function_call", |value| value == "none" || value == "auto"),
    ("audio", NEVER),
    ("modalities", TEXT),
    ("web_search_options", NEVER),
    ("suffix", EMPTY),
    ("prompt_embeds", EMPTY),
    ("use_beam_search", FALSE),
    ("min_tokens", ZERO),
    ("stop_token_ids", EMPTY),
    ("bad_words", EMPTY),
    ("allowed_token_ids", EMPTY),
    ("logits_processors", EMPTY),
    ("skip_special_tokens", TRUE),
    ("spaces_between_special_tokens", TRUE),
    ("prompt_logprobs", ZERO),
    ("truncate_prompt_tokens", NEVER),
    ("continue_final_message", FALSE),
    ("add_generation_prompt", TRUE),
    ("chat_template", NEVER),
    ("documents", EMPTY),
    ("guided_regex", NEVER),
    ("guided_choice", NEVER),
    ("guided_grammar", NEVER),
    ("structured_outputs", EMPTY),
    ("grammar", EMPTY),
    ("regex", NEVER),
    ("ebnf", NEVER),
    ("typical_p", ONE),
    ("length_penalty", ONE),
    ("kv_transfer_params", NEVER),
    ("merged_adapters", NEVER),
];

/// What all surfaces share.
pub struct Common {
    /// Which function.
    pub named: Named,
    /// Sampling, log-probabilities left out.
    pub params: SamplingParams,
    /// `n`.
    pub choices: u32,
    /// `response_format`.
    pub shape: Shape,
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`.
    pub include_usage: bool,
    /// `include_stop_str_in_output`.
    pub include_stop: bool,
}

/// Binds the request and notes its model.
///
/// # Errors
/// See [`bind`].
pub fn named(ask: &Ask, fields: &Fields<'_>, lenient: bool) -> Result<Named> {
    let rewrite = ask.header("x-gateway-model-name-rewrite").filter(|name| !name.is_empty());
    let asked = Asked { app: &ask.app, who: ask.who(), id: &ask.id, rewrite, lenient };
    let named = bind(&asked, fields)?;
    ask.note_model(&named.bound);
    Ok(named)
}

/// Reads what all OpenAI surfaces share; fills `body` with the function's defaults.
///
/// # Errors
/// 400 naming the field, 404 for an unknown model.
pub fn common(ask: &Ask, body: &mut Map<String, Value>) -> Result<Common> {
    let named = named(ask, &Fields::top(body), false)?;
    params::with_defaults(body, named.bound.generation.as_deref());
    let fields = Fields::top(body);
    for (field, harmless) in REFUSED {
        fields.refuse(field, harmless, "is not served here; leave it out")?;
    }
    for text in ["user", "adapter_source", "api_token"] {
        fields.text(text, 4096)?;
    }
    let (stream, include_usage) = streaming(&fields)?;
    Ok(Common {
        named,
        params: params::read(&fields)?,
        choices: fields.count("n", 1, ask.app.limits().choices)?.unwrap_or(1),
        shape: shape(&fields)?,
        stream,
        include_usage,
        include_stop: fields.flag("include_stop_str_in_output")?.unwrap_or(false),
    })
}

fn streaming(fields: &Fields<'_>) -> Result<(bool, bool)> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let Some(options) = fields.object("stream_options")? else { return Ok((stream, false)) };
    if !stream {
        return Err(Problem::invalid("stream_options", "needs `stream` to be true"));
    }
    let options = Fields::below(options, "stream_options.");
    options.refuse("continuous_usage_stats", FALSE, "is not served here; leave it out")?;
    Ok((true, options.flag("include_usage")?.unwrap_or(false)))
}

fn shape(fields: &Fields<'_>) -> Result<Shape> {
    let guided = fields.get("guided_json").map(|schema| schema_of(schema, "guided_json")).transpose()?;
    let Some(format) = fields.object("response_format")? else {
        return Ok(guided.map_or(Shape::Free, Shape::JsonSchema));
    };
    if guided.is_some() {
        return Err(Problem::invalid(
            "guided_json",
            "and `response_format` both say what the text must look like",
        ));
    }
    let format = Fields::below(format, "response_format.");
    match format.text("type", 64)? {
        Some("text") => Ok(Shape::Free),
        // LoRAX and SGLang put a schema beside `json_object`.
        Some("json_object") => match format.get("schema") {
            Some(schema) => schema_of(schema, "response_format.schema").map(Shape::JsonSchema),
            None => Ok(Shape::JsonObject),
        },
        Some("json_schema") => {
            let inner = format.object("json_schema")?;
            let inner = inner.ok_or_else(|| Problem::missing("response_format.json_schema"))?;
            let schema = inner.get("schema").unwrap_or(&Value::Null);
            schema_of(schema, "response_format.json_schema.schema").map(Shape::JsonSchema)
        }
        Some(_) => Err(Problem::unsupported(
            "response_format.type",
            "must be `text`, `json_object` or `json_schema`",
        )),
        None => Err(Problem::missing("response_format.type")),
    }
}

fn schema_of(value: &Value, field: &str) -> Result<Value> {
    match value {
        Value::Object(_) => Ok(value.clone()),
        // vLLM's `guided_json` may be JSON text.
        Value::String(text) => match crate::http::json::parse(text.as_bytes()) {
            Ok(schema @ Value::Object(_)) => Ok(schema),
            _ => Err(Problem::invalid(field, "must be a JSON schema: an object")),
        },
        _ => Err(Problem::invalid(field, "must be a JSON schema: an object")),
    }
}

impl Common {
    /// A call of it.
    pub fn call(&self, ask: &Ask, work: Work, body: Bytes) -> Call {
        Call {
            id: ask.id.clone(),
            names: self.named.bound.names.clone(),
            generation: self.named.bound.generation.clone(),
            adapter: self.named.bound.adapter.clone(),
            work,
            body,
            params: self.params.clone(),
            choices: self.choices,
            shape: self.shape.clone(),
            include_stop: self.include_stop,
            arrived: ask.arrived,
            deadline: deadline(ask),
        }
    }
}

/// When a call of a request must be over.
pub fn deadline(ask: &Ask) -> Instant {
    ask.arrived + ask.app.limits().request_time
}
