//! Pieces of OpenAI's replies that chats and completions share.

use super::request::Common;
use crate::call::{Finish, TokenInfo, Usage};
use crate::http::ask::Ask;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// What stands at the top of every reply and chunk.
#[derive(Debug, Clone)]
pub struct Top {
    /// `id`.
    pub id: String,
    /// `created`.
    pub created: u64,
    /// `model`, as the caller wrote it.
    pub model: String,
    /// `system_fingerprint`.
    pub fingerprint: String,
    /// `adapter_generation`; null for the base.
    pub generation: Option<String>,
    /// Whether every chunk has a `usage`.
    pub include_usage: bool,
}

impl Top {
    /// The top of a request's replies.
    pub fn new(ask: &Ask, common: &Common, prefix: &str) -> Self {
        Self {
            id: format!("{prefix}-{}", ask.id),
            created: now(),
            model: common.named.model.clone(),
            fingerprint: common.named.base.fingerprint.clone(),
            generation: common.named.bound.generation.as_ref().map(|generation| generation.id.clone()),
            include_usage: common.include_usage,
        }
    }

    /// A reply or chunk.
    pub fn object(&self, object: &str, choices: Vec<Value>) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "adapter_generation": self.generation,
            "choices": choices,
        })
    }

    /// A chunk of a stream; the one with usage has no choices.
    pub fn chunk(&self, object: &str, choices: Vec<Value>, usage: Option<&Usage>) -> Value {
        let mut chunk = self.object(object, choices);
        if self.include_usage {
            chunk["usage"] = usage.map_or(Value::Null, usage_of);
        }
        chunk
    }
}

/// A stream's chunks around their one choice, as text: nothing but the choice differs between tokens.
#[derive(Debug, Clone)]
pub struct Frame {
    before: String,
    after: String,
}

impl Frame {
    /// The frame of a stream's chunks.
    pub fn new(top: &Top, object: &str) -> Self {
        const CHOICES: &str = "\"choices\":[";
        let whole = top.chunk(object, vec![], None).to_string();
        // Inside of a text the quotes would be escaped, so this is the field itself.
        let at = whole.find(CHOICES).expect("a chunk has choices") + CHOICES.len();
        let (before, after) = whole.split_at(at);
        Self { before: format!("data: {before}"), after: format!("{after}\n\n") }
    }

    /// Writes a chunk of one choice.
    pub fn data(&self, choice: &impl Serialize, out: &mut String) {
        out.push_str(&self.before);
        out.push_str(&serde_json::to_string(choice).expect("choices are made of texts, numbers and JSON"));
        out.push_str(&self.after);
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// `usage`.
pub fn usage_of(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    })
}

/// `finish_reason`.
pub fn finish_of(finish: Option<&Finish>) -> Value {
    match finish {
        None => Value::Null,
        Some(Finish::Stop) => json!("stop"),
        Some(Finish::Length) => json!("length"),
        Some(Finish::ToolCalls) => json!("tool_calls"),
        Some(Finish::Other(word)) => json!(word),
    }
}

/// A tool call, as a message has it.
pub fn tool_call(id: &str, name: &str, arguments: &str) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

/// `logprobs` of a chat's choice.
pub fn chat_logprobs<'t>(tokens: impl Iterator<Item = &'t TokenInfo>) -> Value {
    let content: Vec<Value> = tokens
        .map(|token| {
            let top: Vec<Value> =
                token.top.iter().map(|(text, bytes, logprob)| likely(text, bytes, *logprob)).collect();
            let mut entry = likely(&token.token, &token.bytes, token.logprob);
            entry["top_logprobs"] = json!(top);
            entry
        })
        .collect();
    json!({"content": content, "refusal": null})
}

fn likely(text: &str, bytes: &[u8], logprob: f32) -> Value {
    json!({"token": text, "logprob": finite(logprob), "bytes": bytes})
}

/// `logprobs` of a completion's choice; `offset` is where its text begins, in characters, and moves on.
pub fn completion_logprobs<'t>(
    tokens: impl Iterator<Item = (&'t TokenInfo, &'t str)>,
    offset: &mut usize,
) -> Value {
    let (mut texts, mut logprobs, mut tops, mut offsets) = (vec![], vec![], vec![], vec![]);
    for (token, text) in tokens {
        texts.push(json!(token.token));
        logprobs.push(json!(finite(token.logprob)));
        let top: Map<String, Value> =
            token.top.iter().map(|(text, _, logprob)| (text.clone(), json!(finite(*logprob)))).collect();
        tops.push(Value::Object(top));
        offsets.push(json!(*offset));
        *offset += text.chars().count();
    }
    json!({"tokens": texts, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets})
}

/// JSON knows no infinity; OpenAI's floor stands for it.
pub fn finite(logprob: f32) -> f32 {
    if logprob.is_finite() { logprob } else { -9999.0 }
}
