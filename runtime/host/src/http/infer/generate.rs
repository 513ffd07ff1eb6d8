//! `POST /generate` and `/generate_stream`, as LoRAX and TGI have them.
//!
//! `adapter_id` is the name of a registered function; `adapter_source` and `api_token` are read and not used, since
//! nothing is fetched while a request waits. Tokens that end the text are not reported.

use super::collect::{Choice, collect};
use super::merged::Merged;
use super::request::{self, Common, deadline};
use super::sse::{self, Encode, data};
use super::{params, timing};
use crate::call::{CallEvent, Finish, Phases, Prompt, Shape, TokenInfo, ToolChoice, Usage, Work};
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::fields::Fields;
use crate::http::problem::{Dialect, Problem, Result};
use coldframe_backbone::sample::{SamplingParams, TOP_LOGPROBS_MAX};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// A request, read.
struct Generate {
    common: Common,
    inputs: String,
    chat: bool,
    full_text: bool,
    details: bool,
    alternatives: bool,
    arrived: Instant,
}

/// Answers with the whole text.
///
/// # Errors
/// In LoRAX's form: 422 naming a field, 404 for an unknown adapter, and what the call says.
pub async fn whole(ask: Ask) -> Result<Reply> {
    let (ask, asked, mut merged) = open(ask).await?;
    let choices = sse::unless_ending(&ask.app, collect(&mut merged, 1, 1)).await?;
    let choice = choices.into_iter().next().unwrap_or_default();
    let mut object = json!({ "generated_text": asked.text(&choice.text) });
    if asked.details {
        object["details"] = details(&asked, &choice, &merged.usage);
    }
    let mut reply = body::good(&object);
    mark(reply.headers_mut(), &asked, &merged, true);
    Ok(reply)
}

/// Answers token by token.
///
/// # Errors
/// As [`whole`].
pub async fn stream(ask: Ask) -> Result<Reply> {
    let (ask, asked, merged) = open(ask).await?;
    let mut headers = HeaderMap::new();
    mark(&mut headers, &asked, &merged, false);
    let mut reply = sse::reply(&ask.app, merged, Lines { asked, held: None, choice: Choice::default() });
    reply.headers_mut().extend(headers);
    Ok(reply)
}

async fn open(mut ask: Ask) -> Result<(Ask, Generate, Merged)> {
    let (body, read) = ask.object().await?;
    let asked = asked(&ask, body)?;
    let work = match asked.chat {
        false => Work::Completion { prompt: Prompt::Text(asked.inputs.clone()) },
        true => Work::Chat {
            messages: json!([{"role": "user", "content": asked.inputs}]),
            tools: None,
            tool_choice: ToolChoice::Auto,
            extra: Map::new(),
        },
    };
    let call = asked.common.call(&ask, work, read.bytes.clone());
    drop(read);
    let merged = sse::unless_ending(&ask.app, Merged::open(&ask.app, vec![call], deadline(&ask))).await?;
    Ok((ask, asked, merged))
}

fn asked(ask: &Ask, body: Map<String, Value>) -> Result<Generate> {
    let top = Fields::top(&body);
    let inputs = top.text("inputs", usize::MAX)?.ok_or_else(|| Problem::missing("inputs"))?.to_owned();
    let mut given = top.object("parameters")?.cloned().unwrap_or_default();
    // SGLang names the adapter beside the parameters.
    if let Some(path) = body.get("lora_path") {
        given.insert("lora_path".to_owned(), path.clone());
    }
    let named = request::named(ask, &Fields::below(&given, "parameters."), true)?;
    rename(&mut given);
    params::with_defaults(&mut given, named.bound.generation.as_deref());
    let fields = Fields::below(&given, "parameters.");
    refuse(&fields)?;
    let alternatives = fields.count("return_k_alternatives", 0, TOP_LOGPROBS_MAX)?.unwrap_or(0);
    let details = fields.flag("details")?.unwrap_or(false);
    let params = sampling(&fields, alternatives)?;
    let flag = |name: &str| fields.flag(name).map(|flag| flag.unwrap_or(false));
    let common = Common {
        named,
        params,
        choices: 1,
        shape: shape(&fields)?,
        stream: false,
        include_usage: false,
        // As in TGI, a stop string is part of the text.
        include_stop: true,
    };
    Ok(Generate {
        common,
        inputs,
        chat: flag("apply_chat_template")?,
        full_text: flag("return_full_text")?,
        details,
        alternatives: alternatives > 0,
        arrived: ask.arrived,
    })
}

/// LoRAX's words for what OpenAI calls otherwise.
fn rename(given: &mut Map<String, Value>) {
    for (theirs, ours) in [("max_new_tokens", "max_tokens"), ("ignore_eos_token", "ignore_eos")] {
        if let Some(value) = given.remove(theirs) {
            given.insert(ours.to_owned(), value);
        }
    }
}

/// A problem with a renamed field, by the name that the caller used.
fn in_their_words(mut problem: Problem) -> Problem {
    for (theirs, ours) in [("max_new_tokens", "max_tokens"), ("ignore_eos_token", "ignore_eos")] {
        if problem.param.as_deref().is_some_and(|field| field.ends_with(ours)) {
            problem.message = problem.message.replacen(ours, theirs, 1);
            problem.param = problem.param.map(|field| field.replacen(ours, theirs, 1));
        }
    }
    problem
}

fn refuse(fields: &Fields<'_>) -> Result<()> {
    let no = |value: &Value| value == &Value::Bool(false);
    let one = |value: &Value| value.as_f64() == Some(1.0);
    for field in ["watermark", "decoder_input_details"] {
        fields.refuse(field, no, "is not served here; leave it out")?;
    }
    for field in ["best_of", "typical_p"] {
        fields.refuse(field, one, "is not served here; leave it out or give 1")?;
    }
    for field in ["merged_adapters", "adapter_parameters", "truncate", "schema"] {
        fields.refuse(field, |_| false, "is not served here; leave it out")?;
    }
    for field in ["adapter_source", "api_token"] {
        fields.text(field, 4096)?;
    }
    Ok(())
}

/// Without `do_sample` and without a parameter that only sampling has, the likeliest token is taken.
fn sampling(fields: &Fields<'_>, alternatives: u32) -> Result<SamplingParams> {
    let mut params = params::read(fields).map_err(in_their_words)?;
    let sampled = ["temperature", "top_k", "top_p", "min_p"].iter().any(|name| fields.get(name).is_some());
    if !fields.flag("do_sample")?.unwrap_or(sampled) {
        params.temperature = 0.0;
    }
    params.logprobs = true;
    params.top_logprobs = alternatives;
    params::check(&params)?;
    Ok(params)
}

fn shape(fields: &Fields<'_>) -> Result<Shape> {
    let Some(format) = fields.object("response_format")? else { return Ok(Shape::Free) };
    match (format.get("type").and_then(Value::as_str), format.get("schema")) {
        (Some("json_object"), Some(schema)) if schema.is_object() => Ok(Shape::JsonSchema(schema.clone())),
        (Some("json_object"), None | Some(Value::Null)) => Ok(Shape::JsonObject),
        (Some("text"), _) => Ok(Shape::Free),
        _ => {
            let problem = "must be {\"type\": \"json_object\", \"schema\": {…}}";
            Err(Problem::invalid(fields.name("response_format"), problem))
        }
    }
}

impl Generate {
    fn text(&self, generated: &str) -> String {
        if self.full_text { format!("{}{generated}", self.inputs) } else { generated.to_owned() }
    }

    fn finish(&self, choice: &Choice) -> &'static str {
        let stopped = self.common.params.stop.iter().any(|stop| choice.text.ends_with(stop.as_str()));
        match choice.finish {
            Some(Finish::Length) => "length",
            _ if stopped => "stop_sequence",
            _ => "eos_token",
        }
    }

    fn token(&self, token: &TokenInfo, text: &str) -> Value {
        let mut entry = json!({
            "id": token.id,
            "text": text,
            "logprob": super::wire::finite(token.logprob),
            "special": false,
        });
        if self.alternatives {
            let alternative = |(text, _, logprob): &(String, Vec<u8>, f32)| json!({"text": text, "logprob": super::wire::finite(*logprob)});
            entry["alternative_tokens"] = token.top.iter().map(alternative).collect();
        }
        entry
    }
}

fn details(asked: &Generate, choice: &Choice, usage: &Usage) -> Value {
    let tokens: Vec<Value> = choice.tokens.iter().map(|(token, text)| asked.token(token, text)).collect();
    json!({
        "finish_reason": asked.finish(choice),
        "prompt_tokens": usage.prompt_tokens,
        "generated_tokens": usage.completion_tokens,
        "skipped_tokens": usage.cached_tokens,
        "seed": asked.common.params.seed,
        "prefill": [],
        "tokens": tokens,
        "best_of_sequences": null,
    })
}

/// LoRAX's headers; those that are known at the end only are left out of a stream.
fn mark(headers: &mut HeaderMap, asked: &Generate, merged: &Merged, whole: bool) {
    timing::mark(headers, merged.opening);
    let bound = &asked.common.named.bound;
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    let ms = |time: Duration| time.as_millis().to_string();
    set("x-compute-type", "coldframe");
    set("x-compute-characters", &asked.inputs.chars().count().to_string());
    set("x-model-id", &asked.common.named.base.id);
    if bound.generation.is_some() {
        set("x-adapter-id", &bound.names.function);
        set("x-adapter-source", "local");
    }
    let phases = merged.opening.map(|(phases, _)| phases).unwrap_or_default();
    set("x-validation-time", &ms(phases.prepare));
    set("x-queue-time", &ms(waited(&phases)));
    set("x-time-to-first-token", &ms(timing::ttft(&phases)));
    if whole {
        let (usage, total) = (&merged.usage, asked.arrived.elapsed());
        let inference = total.saturating_sub(waited(&phases)).saturating_sub(phases.prepare);
        let tokens = u32::try_from(usage.completion_tokens).unwrap_or(u32::MAX);
        let later = total.saturating_sub(timing::ttft(&phases));
        set("x-compute-time", &ms(total));
        set("x-total-time", &ms(total));
        set("x-inference-time", &ms(inference));
        set("x-time-per-token", &ms(inference / tokens.max(1)));
        set("x-time-per-output-token", &ms(later / tokens.saturating_sub(1).max(1)));
        set("x-prompt-tokens", &usage.prompt_tokens.to_string());
        set("x-generated-tokens", &usage.completion_tokens.to_string());
        set("x-skipped-tokens", &usage.cached_tokens.to_string());
        set("x-total-tokens", &(usage.prompt_tokens + usage.completion_tokens).to_string());
    }
}

/// Everything before the model computes.
fn waited(phases: &Phases) -> Duration {
    phases.parked
        + phases.adapter_read
        + phases.adapter_load
        + phases.backbone
        + phases.module
        + phases.handler
        + phases.queue
}

/// Events of a stream. The last token's event carries the whole text, so each is held back until the next.
struct Lines {
    asked: Generate,
    held: Option<Value>,
    choice: Choice,
}

impl Lines {
    fn flush(&mut self, out: &mut String) {
        if let Some(event) = self.held.take() {
            data(&event, out);
        }
    }
}

impl Encode for Lines {
    fn event(&mut self, _call: usize, event: CallEvent, out: &mut String) {
        match event {
            CallEvent::Text { text, token, .. } => {
                let token = token.unwrap_or_default();
                self.flush(out);
                let entry = self.asked.token(&token, &text);
                self.held = Some(json!({"token": entry, "generated_text": null, "details": null}));
                self.choice.text.push_str(&text);
            }
            CallEvent::Bytes(bytes) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                self.event(0, CallEvent::Text { choice: 0, text, token: None }, out);
            }
            CallEvent::Done { finish, .. } => self.choice.finish = Some(finish),
            CallEvent::ToolCall { .. }
            | CallEvent::Head { .. }
            | CallEvent::First { .. }
            | CallEvent::End { .. } => {}
        }
    }

    fn end(&mut self, usage: &Usage, out: &mut String) {
        let empty = || json!({"token": {"id": 0, "text": "", "logprob": 0.0, "special": true}});
        let mut last = self.held.take().unwrap_or_else(empty);
        last["generated_text"] = json!(self.asked.text(&self.choice.text));
        last["details"] = json!({
            "finish_reason": self.asked.finish(&self.choice),
            "prompt_tokens": usage.prompt_tokens,
            "generated_tokens": usage.completion_tokens,
            "skipped_tokens": usage.cached_tokens,
            "seed": self.asked.common.params.seed,
        });
        data(&last, out);
    }

    fn problem(&mut self, problem: &Problem, out: &mut String) {
        self.flush(out);
        data(&problem.render(Dialect::Lorax).1, out);
    }
}
