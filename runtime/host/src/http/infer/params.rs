//! Sampling as OpenAI, vLLM and LoRAX name it: read, held against bounds, filled up with the function's defaults.

use crate::http::fields::Fields;
use crate::http::problem::{Problem, Result};
use crate::records::Generation;
use coldframe_backbone::sample::{LOGIT_BIAS_MAX, MAX_TOKENS_MAX, SamplingParams, TOP_LOGPROBS_MAX};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest list of stop strings that is read at all; the backbone's own bound is checked after.
const STOPS_READ_MAX: usize = 64;

/// Names of sampling fields that a function's settings may give defaults for.
const DEFAULTABLE: [&str; 13] = [
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
    "stop",
    "seed",
    "logit_bias",
    "ignore_eos",
];

/// Fills a body with the function's defaults where it says nothing itself.
pub fn with_defaults(body: &mut Map<String, Value>, generation: Option<&Generation>) {
    let Some(generation) = generation else { return };
    let silent = |body: &Map<String, Value>, name: &str| body.get(name).is_none_or(Value::is_null);
    let bounded = !silent(body, "max_tokens") || !silent(body, "max_completion_tokens");
    for name in DEFAULTABLE {
        let Some(value) = generation.settings.defaults.get(name) else { continue };
        if silent(body, name) && !(bounded && name.starts_with("max_")) {
            body.insert(name.to_owned(), value.clone());
        }
    }
}

/// Reads the sampling fields that all surfaces share.
///
/// # Errors
/// 400 naming the field.
pub fn read(fields: &Fields<'_>) -> Result<SamplingParams> {
    let base = SamplingParams::default();
    let max_tokens = match fields.count("max_completion_tokens", 1, MAX_TOKENS_MAX)? {
        Some(tokens) => Some(tokens),
        None => fields.count("max_tokens", 1, MAX_TOKENS_MAX)?,
    };
    let params = SamplingParams {
        temperature: fields.number("temperature", 0.0, 2.0)?.unwrap_or(base.temperature),
        top_p: fields.number("top_p", f32::MIN_POSITIVE, 1.0)?.unwrap_or(base.top_p),
        top_k: fields.integer("top_k", -1, i64::from(u32::MAX))?.unwrap_or(base.top_k),
        min_p: fields.number("min_p", 0.0, 1.0)?.unwrap_or(base.min_p),
        repetition_penalty: fields
            .number("repetition_penalty", 0.01, 10.0)?
            .unwrap_or(base.repetition_penalty),
        frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?.unwrap_or(base.frequency_penalty),
        presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?.unwrap_or(base.presence_penalty),
        logit_bias: bias(fields)?,
        seed: fields.integer("seed", i64::MIN, i64::MAX)?,
        stop: stops(fields)?,
        max_tokens,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
        ..base
    };
    check(&params)?;
    Ok(params)
}

/// Holds parameters against the backbone's own bounds, all but those of the vocabulary.
///
/// # Errors
/// 400 naming the field.
pub fn check(params: &SamplingParams) -> Result<()> {
    match params.validate(usize::MAX) {
        Ok(()) => Ok(()),
        Err(coldframe_backbone::Error::BadRequest { field, problem }) => {
            Err(Problem::invalid(field, problem))
        }
        Err(other) => Err(Problem::internal(&other.to_string())),
    }
}

/// `logprobs` and `top_logprobs` as chats have them.
///
/// # Errors
/// 400 naming the field.
pub fn chat_logprobs(fields: &Fields<'_>, params: &mut SamplingParams) -> Result<()> {
    params.logprobs = fields.flag("logprobs")?.unwrap_or(false);
    params.top_logprobs = fields.count("top_logprobs", 0, TOP_LOGPROBS_MAX)?.unwrap_or(0);
    if params.top_logprobs > 0 && !params.logprobs {
        return Err(Problem::invalid("top_logprobs", "needs `logprobs` to be true"));
    }
    Ok(())
}

/// `logprobs` as completions have it: how many of the likeliest.
///
/// # Errors
/// 400 naming the field.
pub fn completion_logprobs(fields: &Fields<'_>, params: &mut SamplingParams) -> Result<()> {
    // Some clients send what chats have.
    let count = match fields.get("logprobs") {
        Some(Value::Bool(false)) => None,
        Some(Value::Bool(true)) => Some(0),
        _ => fields.count("logprobs", 0, TOP_LOGPROBS_MAX)?,
    };
    params.logprobs = count.is_some();
    params.top_logprobs = count.unwrap_or(0);
    Ok(())
}

fn stops(fields: &Fields<'_>) -> Result<Vec<String>> {
    if let Some(Value::String(stop)) = fields.get("stop") {
        return Ok(vec![stop.clone()]);
    }
    let items = fields.list("stop", STOPS_READ_MAX)?.unwrap_or_default();
    let text = |item: &Value| {
        let text = item.as_str().map(str::to_owned);
        text.ok_or_else(|| Problem::invalid(fields.name("stop"), "must be a string or a list of strings"))
    };
    items.iter().map(text).collect()
}

fn bias(fields: &Fields<'_>) -> Result<BTreeMap<u32, f32>> {
    let Some(map) = fields.object("logit_bias")? else { return Ok(BTreeMap::new()) };
    let wrong = |problem: String| Problem::invalid(fields.name("logit_bias"), problem);
    if map.len() > LOGIT_BIAS_MAX {
        return Err(wrong(format!("has {} entries; at most {LOGIT_BIAS_MAX}", map.len())));
    }
    let mut read = BTreeMap::new();
    for (token, value) in map {
        let id: u32 = token.parse().map_err(|_| wrong("must have token ids as keys".to_owned()))?;
        let value = value.as_f64().filter(|value| (-100.0..=100.0).contains(value));
        let value = value.ok_or_else(|| wrong("must have numbers from -100 to 100 as values".to_owned()))?;
        read.insert(id, value as f32);
    }
    Ok(read)
}
