//! `POST /v1/chat/completions`.

use super::collect::{Choice, collect};
use super::merged::Merged;
use super::request::{self, Common, common, deadline};
use super::sse::{self, Encode, data};
use super::wire::{self, Frame, Top};
use super::{messages, params, timing};
use crate::call::{CallEvent, TokenInfo, Usage, Work};
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::fields::Fields;
use crate::http::problem::{Problem, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// What a chunk calls itself.
const CHUNK: &str = "chat.completion.chunk";

/// Answers a chat.
///
/// # Errors
/// 400 naming a field, 404 for an unknown model, and what the call says.
pub async fn answer(mut ask: Ask) -> Result<Reply> {
    let (mut body, read) = ask.object().await?;
    let mut common = common(&ask, &mut body)?;
    let work = work(&ask, &mut common, &body)?;
    let top = Top::new(&ask, &common, "chatcmpl");
    let call = common.call(&ask, work, read.bytes.clone());
    drop((body, read));
    let merged = sse::unless_ending(&ask.app, Merged::open(&ask.app, vec![call], deadline(&ask))).await?;
    if common.stream {
        let choices = common.choices as usize;
        return Ok(sse::reply(
            &ask.app,
            merged,
            Lines {
                frame: Frame::new(&top, CHUNK),
                top,
                logprobs: common.params.logprobs,
                begun: vec![false; choices],
            },
        ));
    }
    let whole = sse::unless_ending(&ask.app, whole(merged, &common, &top)).await?;
    Ok(whole)
}

/// Reads the chat's own fields.
fn work(ask: &Ask, common: &mut Common, body: &Map<String, Value>) -> Result<Work> {
    let (fields, limits) = (Fields::top(body), &ask.app.limits());
    fields.refuse("echo", |value| value == &Value::Bool(false), "is for /v1/completions")?;
    fields.refuse("best_of", |best| best.as_u64() == Some(u64::from(common.choices)), "must equal `n`")?;
    params::chat_logprobs(&fields, &mut common.params)?;
    let tools = messages::tools(&fields, limits)?;
    Ok(Work::Chat {
        messages: messages::messages(&fields, limits)?,
        tool_choice: messages::tool_choice(&fields, tools.as_ref())?,
        tools,
        extra: extra(&fields)?,
    })
}

/// `chat_template_kwargs`; what the host itself gives the template cannot be replaced.
pub fn extra(fields: &Fields<'_>) -> Result<Map<String, Value>> {
    const FIELD: &str = "chat_template_kwargs";
    const OWN: [&str; 6] =
        ["messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token"];
    let extra = fields.object(FIELD)?.cloned().unwrap_or_default();
    match OWN.iter().find(|name| extra.contains_key(**name)) {
        Some(name) => Err(Problem::invalid(FIELD, format!("must not hold `{name}`: the server gives it"))),
        None => Ok(extra),
    }
}

async fn whole(mut merged: Merged, common: &Common, top: &Top) -> Result<Reply> {
    let choices = collect(&mut merged, 1, common.choices).await?;
    let choices = choices.iter().enumerate().map(|(place, choice)| one(place, choice, common)).collect();
    let mut object = top.object("chat.completion", choices);
    object["usage"] = wire::usage_of(&merged.usage);
    let mut reply = body::good(&object);
    timing::mark(reply.headers_mut(), merged.opening);
    Ok(reply)
}

fn one(place: usize, choice: &Choice, common: &Common) -> Value {
    let content =
        if choice.calls.is_empty() || !choice.text.is_empty() { json!(choice.text) } else { Value::Null };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !choice.calls.is_empty() {
        let calls: Vec<Value> =
            choice.calls.iter().map(|call| wire::tool_call(&call.id, &call.name, &call.arguments)).collect();
        message["tool_calls"] = json!(calls);
    }
    let logprobs = match common.params.logprobs {
        true => wire::chat_logprobs(choice.tokens.iter().map(|(token, _)| token)),
        false => Value::Null,
    };
    let finish = wire::finish_of(Some(choice.finish.as_ref().unwrap_or(&crate::call::Finish::Stop)));
    json!({"index": place, "message": message, "logprobs": logprobs, "finish_reason": finish})
}

/// A choice in a chunk.
#[derive(Serialize)]
struct Said<D> {
    index: u32,
    delta: D,
    logprobs: Value,
    finish_reason: Value,
}

/// What a token adds.
#[derive(Serialize)]
struct Content<'t> {
    content: &'t str,
}

/// Chunks of a chat.
struct Lines {
    top: Top,
    frame: Frame,
    logprobs: bool,
    /// Which choices have had their role.
    begun: Vec<bool>,
}

impl Lines {
    fn line(&mut self, index: u32, delta: impl Serialize, rest: (Value, Value), out: &mut String) {
        let Some(begun) = self.begun.get_mut(index as usize) else { return };
        if !std::mem::replace(begun, true) {
            let delta = json!({"role": "assistant", "content": ""});
            let first = Said { index, delta, logprobs: Value::Null, finish_reason: Value::Null };
            self.frame.data(&first, out);
        }
        let (logprobs, finish_reason) = rest;
        self.frame.data(&Said { index, delta, logprobs, finish_reason }, out);
    }

    fn text(&mut self, choice: u32, text: &str, token: Option<&TokenInfo>, out: &mut String) {
        let logprobs = match token.filter(|_| self.logprobs) {
            Some(token) => wire::chat_logprobs(std::iter::once(token)),
            None if text.is_empty() => return,
            None => Value::Null,
        };
        self.line(choice, Content { content: text }, (logprobs, Value::Null), out);
    }
}

impl Encode for Lines {
    fn event(&mut self, _call: usize, event: CallEvent, out: &mut String) {
        match event {
            CallEvent::Text { choice, text, token } => self.text(choice, &text, token.as_ref(), out),
            CallEvent::Bytes(bytes) => self.text(0, &String::from_utf8_lossy(&bytes), None, out),
            CallEvent::ToolCall { choice, index, id, name, arguments } => {
                let mut call = wire::tool_call(&id, &name, &arguments);
                call["index"] = json!(index);
                self.line(choice, json!({"tool_calls": [call]}), (Value::Null, Value::Null), out);
            }
            CallEvent::Done { choice, finish } => {
                self.line(choice, json!({}), (Value::Null, wire::finish_of(Some(&finish))), out);
            }
            CallEvent::Head { .. } | CallEvent::First { .. } | CallEvent::End { .. } => {}
        }
    }

    fn end(&mut self, usage: &Usage, out: &mut String) {
        if self.top.include_usage {
            data(&self.top.chunk(CHUNK, vec![], Some(usage)), out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn problem(&mut self, problem: &Problem, out: &mut String) {
        data(&problem.envelope(), out);
    }
}

/// `POST /v1/embeddings`: the models served here make text.
///
/// # Errors
/// 404 for an unknown model, else 400 `unsupported`.
pub async fn embeddings(mut ask: Ask) -> Result<Reply> {
    let (body, _read) = ask.object().await?;
    let named = request::named(&ask, &Fields::top(&body), false)?;
    let problem = format!("{:?} makes text, not embeddings; ask an embedding server", named.model);
    Err(Problem::unsupported("model", problem))
}
