//! What stands behind the edge in these tests: a caller that does what the prompt says, two tenants, three functions.

use coldframe_host::call::{
    Answer, Call, CallError, CallEvent, Caller, Cold, Finish, Later, Phases, Prompt, TokenInfo, ToolChoice,
    Usage, Work,
};
use coldframe_host::http::app::{
    Adapters, App, Base, Behind, Bound, Card, Chat, Denied, Exchange, Functions, Identify, LoadAdapter,
    LoraAdapter, LoraList, Machine, Observe, Principal, Settings, UnloadAdapter,
};
use coldframe_host::http::body::{self, Body};
use coldframe_host::http::problem::{Problem, Result};
use coldframe_host::records::{Generation, ModuleRecord, Names, Scope};
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The base model's name.
pub const BASE: &str = "tiny";

/// Counts what happens behind the edge.
#[derive(Default)]
pub struct Seen {
    /// Calls as they came.
    pub calls: Mutex<Vec<Call>>,
    /// Calls under way.
    pub running: AtomicU32,
    /// Panics of handlers.
    pub panics: AtomicU32,
    /// Exchanges that are over.
    pub exchanges: Mutex<Vec<Exchange>>,
    /// Why connections were closed.
    pub closed: Mutex<Vec<&'static str>>,
    /// Adapters loaded by the routes.
    pub loaded: Mutex<Vec<String>>,
    asleep: AtomicBool,
}

/// The behind of a test: everything in one.
#[derive(Clone)]
pub struct Scripted(pub Arc<Seen>);

impl Seen {
    /// The last call.
    pub fn last(&self) -> Call {
        self.calls.lock().unwrap().last().expect("a call").clone()
    }
}

fn prompt_of(work: &Work) -> String {
    match work {
        Work::Chat { messages, .. } => {
            let last = messages.as_array().and_then(|list| list.last());
            last.and_then(|message| message["content"].as_str()).unwrap_or("").to_owned()
        }
        Work::Completion { prompt: Prompt::Text(text) } => text.clone(),
        Work::Completion { prompt: Prompt::Tokens(ids) } => format!("{ids:?}"),
        Work::Invoke { method, path, .. } => format!("{method} {path}"),
    }
}

/// What comes before the first token in every scripted call: 45 ms in all.
fn phases() -> Phases {
    let ms = Duration::from_millis;
    Phases {
        prepare: ms(1),
        parked: ms(2),
        adapter_read: ms(3),
        adapter_load: ms(4),
        backbone: ms(5),
        module: ms(6),
        handler: ms(7),
        queue: ms(8),
        prefill: ms(9),
    }
}

fn token(id: u32, text: &str) -> TokenInfo {
    let top = vec![
        (text.to_owned(), text.as_bytes().to_vec(), -0.5),
        ("other".to_owned(), b"other".to_vec(), -1.5),
    ];
    TokenInfo { id, token: text.to_owned(), bytes: text.as_bytes().to_vec(), logprob: -0.5, top }
}

/// Runs while a call does.
struct Running(Arc<Seen>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

type Events = tokio::sync::mpsc::Sender<std::result::Result<CallEvent, CallError>>;

async fn play(call: Call, prompt: String, events: Events, running: Running) {
    let send = async |event| events.send(event).await.is_ok();
    let first = CallEvent::First { phases: phases(), cold: Cold::Disk };
    if let Work::Invoke { .. } = call.work {
        let headers = vec![("content-type".into(), "text/html".into()), ("set-cookie".into(), "a=b".into())];
        send(Ok(CallEvent::Head { status: 201, headers })).await;
        send(Ok(first)).await;
        send(Ok(CallEvent::Bytes(prompt.into()))).await;
        send(Ok(CallEvent::Bytes(call.body.clone()))).await;
        send(Ok(CallEvent::End { usage: Usage::default() })).await;
        return;
    }
    if !send(Ok(first)).await {
        return;
    }
    let endless = prompt == "endless";
    let words = ["Hello", " from", " ", call.names.function.as_str()];
    let most = call.params.max_tokens.unwrap_or(u32::MAX) as usize;
    let mut sent = 0;
    for choice in 0..call.choices {
        let tool = matches!(&call.work, Work::Chat { tools: Some(_), tool_choice, .. } if *tool_choice != ToolChoice::None);
        if tool {
            let (name, arguments) = ("get_weather".into(), r#"{"city":"Paris"}"#.into());
            send(Ok(CallEvent::ToolCall { choice, index: 0, id: "call_1".into(), name, arguments })).await;
            send(Ok(CallEvent::Done { choice, finish: Finish::ToolCalls })).await;
            continue;
        }
        let words: Vec<&str> = match call.shape {
            coldframe_host::call::Shape::Free => words.to_vec(),
            _ => vec!["{\"name\"", ": \"Ada\"}"],
        };
        let repeat = if endless { usize::MAX } else { words.len() };
        for (place, word) in words.iter().cycle().take(repeat.min(most)).enumerate() {
            if prompt == "break" && place == 2 {
                send(Err(CallError::Function { code: "trap".into(), message: "it broke".into() })).await;
                return;
            }
            if prompt == "vanish" && place == 2 {
                return;
            }
            if prompt == "slowly" {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let token = call.params.logprobs.then(|| token(place as u32, word));
            if !send(Ok(CallEvent::Text { choice, text: (*word).to_owned(), token })).await {
                return;
            }
            sent += 1;
        }
        let finish = if most < words.len() { Finish::Length } else { Finish::Stop };
        send(Ok(CallEvent::Done { choice, finish })).await;
    }
    let usage = Usage { prompt_tokens: 7, cached_tokens: 3, completion_tokens: sent, ..Usage::default() };
    send(Ok(CallEvent::End { usage })).await;
    drop(running);
}

impl Caller for Scripted {
    fn call(&self, call: Call) -> Later<'_, std::result::Result<Answer, CallError>> {
        let prompt = prompt_of(&call.work);
        self.0.calls.lock().unwrap().push(call.clone());
        Box::pin(async move {
            let retry_after = Duration::from_millis(1500);
            match prompt.as_str() {
                "overload" => {
                    return Err(CallError::Overloaded {
                        code: "queue_full",
                        what: "too much".into(),
                        retry_after,
                    });
                }
                "panic" => panic!("as the prompt says"),
                "bug" => return Err(CallError::Internal("secret-canary".into())),
                "start" => return Err(CallError::Start("secret-canary".into())),
                "deadline" => {
                    return Err(CallError::Function { code: "deadline".into(), message: "too slow".into() });
                }
                _ => {}
            }
            let (events, taken) = tokio::sync::mpsc::channel(8);
            self.0.running.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(play(call, prompt, events, Running(self.0.clone())));
            Ok(Answer { events: taken })
        })
    }
}

impl Identify for Scripted {
    fn identify(&self, secret: Option<&str>, _peer: IpAddr) -> std::result::Result<Principal, Denied> {
        let (tenant, scope) = match secret.ok_or(Denied::Missing)? {
            "acme-invoke" => ("acme", Scope::Invoke),
            "acme-admin" => ("acme", Scope::Admin),
            "zeta-invoke" => ("zeta", Scope::Invoke),
            "operator" => ("acme", Scope::Operator),
            "blocked" => return Err(Denied::Blocked(Duration::from_secs(9))),
            _ => return Err(Denied::Wrong),
        };
        Ok(Principal { tenant: tenant.into(), scope, key: "k1".into() })
    }
}

/// A generation's id, made of one digit.
pub fn digest(digit: char) -> String {
    std::iter::repeat_n(digit, 64).collect()
}

fn generation(tenant: &str, name: &str) -> Option<Arc<Generation>> {
    let (digit, code) = match (tenant, name) {
        ("acme", "pirate") => ('a', false),
        ("acme", "json") => ('b', false),
        ("acme", "coded") => ('c', true),
        ("zeta", "secret") => ('d', false),
        _ => return None,
    };
    let module = code.then(|| ModuleRecord { digest: digest('0'), bytes: 1, world: "coldframe".into() });
    let mut settings = coldframe_host::records::Settings::default();
    if name == "json" {
        settings.defaults.insert("temperature".into(), json!(0.25));
    }
    let generation = Generation {
        id: digest(digit),
        backbone: BASE.into(),
        adapters: vec![],
        module,
        settings,
        created_ms: 1_700_000_000_000,
    };
    Some(Arc::new(generation))
}

impl Functions for Scripted {
    fn bases(&self) -> Vec<Base> {
        vec![Base {
            id: BASE.into(),
            also: vec!["org/tiny".into()],
            created_ms: 1_700_000_000_000,
            max_model_len: 2048,
            fingerprint: "fp_tiny".into(),
        }]
    }

    fn resolve(&self, tenant: &str, name: &str, _request: &str) -> Option<Bound> {
        let function = name.split('@').next()?;
        let generation = generation(tenant, function)?;
        let names = Names { tenant: tenant.into(), function: function.into() };
        Some(Bound { names, generation: Some(generation), adapter: None })
    }

    fn generation(&self, tenant: &str, wanted: &str) -> Option<Bound> {
        let mut cards = Functions::list(self, tenant).into_iter();
        let card = cards.find(|card| card.generation.as_deref() == Some(wanted))?;
        self.resolve(tenant, &card.id, "")
    }

    fn list(&self, tenant: &str) -> Vec<Card> {
        let card = |name: &str| {
            let generation = generation(tenant, name)?;
            Some(Card {
                id: name.into(),
                created_ms: generation.created_ms,
                parent: BASE.into(),
                generation: Some(generation.id.clone()),
                max_model_len: 2048,
            })
        };
        ["coded", "json", "pirate", "secret"].into_iter().filter_map(card).collect()
    }

    fn tokenize(&self, _: &Bound, text: &str, special: bool) -> std::result::Result<Vec<u32>, CallError> {
        Ok(special.then_some(1).into_iter().chain(text.bytes().map(u32::from)).collect())
    }

    fn detokenize(&self, _: &Bound, tokens: &[u32]) -> std::result::Result<String, CallError> {
        let byte = |id: &u32| u8::try_from(*id).ok().filter(u8::is_ascii);
        let bytes: Option<Vec<u8>> = tokens.iter().map(byte).collect();
        let wrong =
            || CallError::BadRequest { field: "tokens".into(), problem: "holds an unknown id".into() };
        Ok(String::from_utf8(bytes.ok_or_else(wrong)?).expect("ASCII"))
    }

    fn render(&self, _: &Bound, chat: &Chat) -> std::result::Result<String, CallError> {
        Ok(format!("<{}>", chat.messages[0]["content"].as_str().unwrap_or("")))
    }
}

impl Adapters for Scripted {
    fn load<'a>(&'a self, _: &'a Principal, ask: LoadAdapter) -> Later<'a, Result<LoraAdapter>> {
        Box::pin(async move {
            let mut loaded = self.0.loaded.lock().unwrap();
            if loaded.contains(&ask.name) && !ask.in_place {
                return Err(Problem::new(StatusCode::CONFLICT, "lora_adapter_already_loaded", "it is there"));
            }
            loaded.push(ask.name.clone());
            Ok(adapter(ask.name))
        })
    }

    fn unload<'a>(&'a self, _: &'a Principal, ask: UnloadAdapter) -> Later<'a, Result<u32>> {
        Box::pin(async move {
            let mut loaded = self.0.loaded.lock().unwrap();
            let absent = || Problem::new(StatusCode::NOT_FOUND, "lora_adapter_not_found", "it is not there");
            let place = loaded.iter().position(|name| *name == ask.name).ok_or_else(absent)?;
            loaded.remove(place);
            Ok(0)
        })
    }

    fn list<'a>(&'a self, _: &'a Principal) -> Later<'a, Result<LoraList>> {
        Box::pin(async move {
            let loaded = self.0.loaded.lock().unwrap().clone();
            Ok(LoraList { adapters: loaded.into_iter().map(adapter).collect(), ..LoraList::default() })
        })
    }
}

fn adapter(id: String) -> LoraAdapter {
    LoraAdapter {
        id,
        generation: digest('e'),
        rank: 8,
        bytes: 4096,
        source: Some("file:///adapters/x".into()),
        tier: "device".into(),
        pinned: false,
    }
}

impl Machine for Scripted {
    fn ready(&self) -> std::result::Result<(), String> {
        if self.is_sleeping() { Err("the server sleeps".into()) } else { Ok(()) }
    }

    fn started(&self) -> std::result::Result<(), String> {
        Ok(())
    }

    fn info(&self) -> Value {
        json!({"model_id": BASE})
    }

    fn sleep<'a>(&'a self, _: u8, _: &'a [String]) -> Later<'a, Result<()>> {
        self.0.asleep.store(true, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }

    fn wake<'a>(&'a self, _: &'a [String]) -> Later<'a, Result<()>> {
        self.0.asleep.store(false, Ordering::SeqCst);
        Box::pin(async { Ok(()) })
    }

    fn is_sleeping(&self) -> bool {
        self.0.asleep.load(Ordering::SeqCst)
    }
}

impl Observe for Scripted {
    fn begun(&self) {}

    fn ended(&self, exchange: &Exchange) {
        self.0.exchanges.lock().unwrap().push(exchange.clone());
    }

    fn panicked(&self, _: Option<&'static str>) {
        self.0.panics.fetch_add(1, Ordering::SeqCst);
    }

    fn closed(&self, why: &'static str) {
        self.0.closed.lock().unwrap().push(why);
    }

    fn metrics(&self) -> Later<'_, String> {
        Box::pin(async { "up 1\n".into() })
    }
}

/// An application over a fresh script.
pub fn app_with(settings: Settings) -> (Arc<App>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let scripted = Arc::new(Scripted(seen.clone()));
    let behind = Behind {
        caller: scripted.clone(),
        identify: scripted.clone(),
        functions: scripted.clone(),
        adapters: scripted.clone(),
        machine: scripted.clone(),
        observe: scripted,
    };
    (App::new(behind, settings, vec![], Map::new()), seen)
}

/// An application with the gate of runtime loading open.
pub fn app() -> (Arc<App>, Arc<Seen>) {
    app_with(Settings { runtime_lora_updating: true, ..Settings::default() })
}

/// A reply, read.
pub struct Got {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: http::HeaderMap,
    /// Body.
    pub text: String,
}

impl Got {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// A header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }

    /// `data:` lines of a stream, parsed; `[DONE]` is a string.
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.text.split("\n\n").filter_map(|line| line.strip_prefix("data: "));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| json!(line))).collect()
    }

    /// `error.code` of the envelope, all of whose fields must be there.
    pub fn code(&self) -> String {
        let error = &self.json()["error"];
        for field in ["message", "type", "param", "code"] {
            assert!(error.get(field).is_some(), "no error.{field} in {}", self.text);
        }
        error["code"].as_str().expect("a word").to_owned()
    }
}

/// Sends a request to the application without a socket.
pub async fn send(app: &Arc<App>, request: Request<Body>) -> Got {
    let reply = app.handle(request, IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
    let (parts, body) = reply.into_parts();
    let bytes = body.collect().await.expect("a whole body").to_bytes();
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    Got { status: parts.status.as_u16(), headers: parts.headers, text }
}

/// A request with a key.
pub fn request(method: &str, path: &str, key: &str, body: impl Into<bytes::Bytes>) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let builder =
        if key.is_empty() { builder } else { builder.header("authorization", format!("Bearer {key}")) };
    builder.body(body::full(body)).expect("a request")
}

/// Posts JSON as a tenant that may call.
pub async fn post(app: &Arc<App>, path: &str, body: &Value) -> Got {
    send(app, request("POST", path, "acme-invoke", body.to_string())).await
}

/// Gets a path with a key.
pub async fn get(app: &Arc<App>, path: &str, key: &str) -> Got {
    send(app, request("GET", path, key, "")).await
}

/// A chat of one message.
pub fn chat(model: &str, content: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": content}]})
}

/// `base` with the fields of `more`.
pub fn with(mut base: Value, more: Value) -> Value {
    let more = more.as_object().expect("an object").clone();
    base.as_object_mut().expect("an object").extend(more);
    base
}
