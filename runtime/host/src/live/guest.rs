//! A function's own code at work: its request, what it reaches of the platform, its end.

use super::code::{Code, CodeEnd, CodeRequest, Route};
use super::generation::EngineGeneration;
use super::line::{Line, Stop};
use super::reply::{CallReply, Said};
use super::run::Place;
use super::speak::{Ready, Source, Wish, prepare};
use super::standing::Conduct;
use super::{engine::Job, fault};
use crate::call::{Call, CallError, CallEvent, Finish, Prompt, Work};
use coldframe_backbone::sample::{Grammar, SamplingParams};
use coldframe_backbone::text::Special;
use coldframe_sandbox::services::{
    Failure, Generation, Input, Later, Level, Message, Params, Services, Shape, Task,
};
use cpu_time::ThreadTime;
use serde_json::{Map, Value, json};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When a caller whom a full pool refused should try again. Arbitrary.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What the code used: all of it once it has ended; of code that was cut off, its CPU.
#[derive(Debug, Default)]
pub(super) struct Spent {
    end: Mutex<Option<CodeEnd>>,
    cpu_ns: AtomicU64,
}

impl Spent {
    pub(super) fn read(&self) -> CodeEnd {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        end.unwrap_or_else(|| CodeEnd { cpu_ns: self.cpu_ns.load(Ordering::Relaxed), ..CodeEnd::default() })
    }

    fn set(&self, end: CodeEnd) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// Runs code, counting the thread's time at every step: a caller who goes away leaves no end to read it from.
    async fn timed(&self, code: impl Future<Output = CodeEnd>) -> CodeEnd {
        let mut code = pin!(code);
        poll_fn(|context| {
            let start = ThreadTime::now();
            let polled = code.as_mut().poll(context);
            let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.cpu_ns.fetch_add(ns, Ordering::Relaxed);
            polled
        })
        .await
    }
}

/// Answers a call by the function's code.
pub(super) async fn answer(
    call: Call,
    code: &dyn Code,
    place: &Place,
    line: &Line,
    spent: &Spent,
) -> Result<(), Stop> {
    if call.choices != 1 {
        let problem = "must be 1: this function's own code writes one answer".to_owned();
        return Err(CallError::BadRequest { field: "n".to_owned(), problem }.into());
    }
    let route = route(&call.work);
    let said = Arc::new(Mutex::new(Said::default()));
    let reply = CallReply::new(line.clone(), route, said.clone());
    let conduct = Conduct {
        standings: place.standings.clone(),
        names: call.names.clone(),
        log: place.logs.of(&call.names),
        call: call.id.clone(),
    };
    let services = GuestServices { place: place.clone(), line: line.clone(), conduct: conduct.clone() };
    let end = spent.timed(code.handle(request(call, route), Arc::new(services), Box::new(reply))).await;
    spent.set(end.clone());
    if let Some(fault) = end.fault {
        conduct.ended(&fault.code);
        return Err(match fault.retry {
            true => {
                let what = fault.message;
                CallError::Overloaded { code: "no_capacity", what, retry_after: RETRY_AFTER }
            }
            false => CallError::Function { code: fault.code, message: fault.message },
        }
        .into());
    }
    let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
    close(route, said, line).await
}

/// The events that end an answer which the code has written.
async fn close(route: Route, said: Said, line: &Line) -> Result<(), Stop> {
    line.first().await?;
    if route == Route::Invoke {
        // Code that wrote nothing may still have a status to tell; with none it has answered, with nothing.
        return match said.head() {
            Some((status, headers)) => line.send(CallEvent::Head { status, headers }).await,
            None => Ok(()),
        };
    }
    let finish = match said.finish.as_deref() {
        None | Some("stop") => Finish::Stop,
        Some("length") => Finish::Length,
        Some("tool_calls") => Finish::ToolCalls,
        Some(other) => Finish::Other(other.to_owned()),
    };
    line.send(CallEvent::Done { choice: 0, finish }).await
}

fn route(work: &Work) -> Route {
    match work {
        Work::Chat { .. } => Route::Chat,
        Work::Completion { .. } => Route::Completion,
        Work::Invoke { .. } => Route::Invoke,
    }
}

fn request(call: Call, route: Route) -> CodeRequest {
    let mut request = CodeRequest {
        id: call.id,
        route,
        messages: Vec::new(),
        prompt: String::new(),
        body: call.body,
        method: String::new(),
        path: String::new(),
        headers: Vec::new(),
        params: asked(&call.params),
        deadline: call.deadline.saturating_duration_since(Instant::now()),
    };
    match call.work {
        Work::Chat { messages, .. } => request.messages = conversation(&messages),
        Work::Completion { prompt: Prompt::Text(text) } => request.prompt = text,
        // Token ids stay in the body, for code that wants them.
        Work::Completion { prompt: Prompt::Tokens(_) } => {}
        Work::Invoke { method, path, headers } => {
            (request.method, request.path, request.headers) = (method, path, headers);
        }
    }
    request
}

/// The conversation as text: of parts, those that are text.
fn conversation(messages: &Value) -> Vec<Message> {
    let text = |content: &Value| match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    };
    let turn = |message: &Value| {
        let role = message["role"].as_str()?.to_owned();
        Some(Message { role, content: text(&message["content"]) })
    };
    messages.as_array().into_iter().flatten().filter_map(turn).collect()
}

/// The caller's sampling, for the code to pass on.
fn asked(params: &SamplingParams) -> Params {
    Params {
        max_tokens: params.max_tokens,
        temperature: Some(params.temperature),
        top_p: Some(params.top_p),
        top_k: i32::try_from(params.top_k).ok(),
        min_p: Some(params.min_p),
        repetition_penalty: Some(params.repetition_penalty),
        frequency_penalty: Some(params.frequency_penalty),
        presence_penalty: Some(params.presence_penalty),
        seed: params.seed,
        stop: params.stop.clone(),
        logit_bias: params.logit_bias.iter().map(|(token, bias)| (*token, *bias)).collect(),
        top_logprobs: params.logprobs.then_some(params.top_logprobs),
    }
}

/// What the code wishes, over the function's defaults, with at most so many tokens.
fn wished(params: &Params, defaults: &Map<String, Value>, budget: u32) -> Result<SamplingParams, Failure> {
    let invalid = |error| Failure::new("invalid", format!("the function's sampling defaults: {error}"));
    let base: SamplingParams = serde_json::from_value(Value::Object(defaults.clone())).map_err(invalid)?;
    Ok(SamplingParams {
        max_tokens: Some(params.max_tokens.or(base.max_tokens).map_or(budget, |asked| asked.min(budget))),
        temperature: params.temperature.unwrap_or(base.temperature),
        top_p: params.top_p.unwrap_or(base.top_p),
        top_k: params.top_k.map_or(base.top_k, i64::from),
        min_p: params.min_p.unwrap_or(base.min_p),
        repetition_penalty: params.repetition_penalty.unwrap_or(base.repetition_penalty),
        frequency_penalty: params.frequency_penalty.unwrap_or(base.frequency_penalty),
        presence_penalty: params.presence_penalty.unwrap_or(base.presence_penalty),
        seed: params.seed.or(base.seed),
        stop: if params.stop.is_empty() { base.stop } else { params.stop.clone() },
        logit_bias: match params.logit_bias.is_empty() {
            true => base.logit_bias,
            false => params.logit_bias.iter().copied().collect(),
        },
        logprobs: params.top_logprobs.is_some(),
        top_logprobs: params.top_logprobs.unwrap_or(0),
        ignore_eos: base.ignore_eos,
    })
}

/// The platform behind one call.
struct GuestServices {
    place: Place,
    line: Line,
    conduct: Conduct,
}

impl GuestServices {
    async fn start(&self, task: Task) -> Result<Box<dyn Generation>, Failure> {
        let resident = &self.place.resident;
        let loaded = resident.adapter(task.adapter.as_deref());
        let loaded = loaded.map_err(|what| Failure::new("invalid", what))?;
        let source = match task.input {
            Input::Raw(text) => Source::Text(text),
            Input::Chat(messages) => {
                let turn = |turn: Message| json!({ "role": turn.role, "content": turn.content });
                let messages = messages.into_iter().map(turn).collect();
                Source::Chat { messages, tools: None, extra: Map::new() }
            }
        };
        let params = wished(&task.params, &resident.settings.defaults, task.budget)?;
        let logprobs = params.logprobs;
        let wish = Wish {
            source,
            params,
            choices: 1,
            grammar: grammar(task.shape)?,
            include_stop: false,
            hook: task.hook,
        };
        let guest = |error: &CallError| fault::to_guest(error);
        let ready = prepare(&self.place.model, loaded, wish).await;
        let ready = ready.map_err(|error| guest(&fault::of_backbone(&error)))?;
        let Ready { prompt, max_tokens, voices } = ready;
        let adapter = loaded.map(|loaded| loaded.adapter.clone());
        let meter = self.place.meter.clone();
        let yields = self.place.standings.yields(&self.conduct.names, Instant::now());
        let job = Job { tenant: self.place.tenant, adapter, yields, prompt, max_tokens, voices, meter };
        self.line.submitted();
        let stream = self.place.model.engine.submit(job).await;
        let stream = stream.map_err(|error| guest(&fault::of_job(&error)))?;
        let tokenizer = self.place.model.tokenizer.clone();
        let conduct = self.conduct.clone();
        Ok(Box::new(EngineGeneration::new(stream, tokenizer, self.line.clone(), conduct, logprobs)))
    }
}

fn grammar(shape: Shape) -> Result<Option<Grammar>, Failure> {
    Ok(match shape {
        Shape::Free => None,
        Shape::JsonObject => Some(Grammar::JsonObject),
        Shape::JsonSchema(text) => {
            let invalid = |error| Failure::new("invalid", format!("the JSON schema is no JSON: {error}"));
            Some(Grammar::JsonSchema(serde_json::from_str(&text).map_err(invalid)?))
        }
    })
}

impl Services for GuestServices {
    fn generate(&self, task: Task) -> Later<'_, Result<Box<dyn Generation>, Failure>> {
        Box::pin(self.start(task))
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, Failure> {
        let model = &self.place.model;
        let tokens = model.tokenizer.encode_within(text, Special::AsText, model.context());
        tokens.map_err(|error| Failure::new("too_long", error.to_string()))
    }

    fn detokenize(&self, tokens: &[u32]) -> Result<String, Failure> {
        self.place.model.detokenize(tokens).map_err(|error| Failure::new("invalid", error.to_string()))
    }

    fn adapters(&self) -> Vec<String> {
        self.place.resident.names()
    }

    fn state_get<'a>(&'a self, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>> {
        self.place.state.get(&self.conduct.names, key)
    }

    fn state_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> Later<'a, Result<(), Failure>> {
        self.place.state.set(&self.conduct.names, key, value)
    }

    fn state_delete<'a>(&'a self, key: &'a str) -> Later<'a, Result<(), Failure>> {
        self.place.state.delete(&self.conduct.names, key)
    }

    fn state_keys<'a>(&'a self, prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>> {
        self.place.state.keys(&self.conduct.names, prefix)
    }

    fn log(&self, level: Level, message: &str) {
        self.conduct.log.write(&self.conduct.call, level, message);
    }
}

#[cfg(test)]
mod tests {
    use super::wished;
    use coldframe_sandbox::services::Params;
    use serde_json::json;

    #[test]
    fn the_guest_has_its_way_before_the_manifest_and_the_budget_before_both() {
        let defaults = json!({ "max_tokens": 12 });
        let defaults = defaults.as_object().expect("an object");
        let most = |asked, budget| {
            let params = Params { max_tokens: asked, ..Params::default() };
            wished(&params, defaults, budget).expect("defaults are fine").max_tokens
        };
        assert_eq!(most(None, 100), Some(12));
        assert_eq!(most(Some(30), 100), Some(30));
        assert_eq!((most(None, 5), most(Some(30), 5)), (Some(5), Some(5)));
        let open = wished(&Params::default(), &serde_json::Map::new(), 7).expect("no defaults");
        assert_eq!(open.max_tokens, Some(7));
    }
}
