//! What the edge depends on, and the application that ties it to the routes.
//!
//! The edge knows no store, no engine and no catalog: it knows these traits. So handlers are tested without any of
//! them, with a socket or without, and another host can be put behind the same API.

use super::body::Budget;
use super::dialect::scales::Scales;
use super::limits::Limits;
use super::problem::Result;
use super::router::{Route, Router};
use super::trace::Trace;
use crate::call::{CallError, Caller, Later, ToolChoice};
use crate::records::{Digest, Generation, Names, Scope};
use http::Method;
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::watch;

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The tenant it acts for.
    pub tenant: String,
    /// What it may do.
    pub scope: Scope,
    /// The public part of its key, for logs and the audit trail.
    pub key: String,
}

/// Why nobody was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No secret, and one is needed.
    Missing,
    /// The secret is no key's, or its key has expired or was revoked.
    Wrong,
    /// Too many wrong secrets from there; try again after this long.
    Blocked(Duration),
}

/// Tells who a secret belongs to.
pub trait Identify: Send + Sync + 'static {
    /// The principal behind a secret. Called for every request but those of public routes; counts failures by peer.
    ///
    /// # Errors
    /// [`Denied`].
    fn identify(&self, secret: Option<&str>, peer: IpAddr) -> std::result::Result<Principal, Denied>;
}

/// What a model name means for a tenant, at the time it was asked: never changes for the request.
#[derive(Debug, Clone)]
pub struct Bound {
    /// Tenant and function; the backbone's name for the base model.
    pub names: Names,
    /// The generation; `None` is the base model.
    pub generation: Option<Arc<Generation>>,
    /// One of its adapters, where the name said which.
    pub adapter: Option<String>,
}

/// A base model that is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// Its name.
    pub id: String,
    /// Further names that mean it (`--served-model-name`).
    pub also: Vec<String>,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Tokens of its context.
    pub max_model_len: u32,
    /// What `system_fingerprint` says: changes when the weights or the numerics do.
    pub fingerprint: String,
}

/// A function in the list of models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its name.
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// The base model's name.
    pub parent: String,
    /// The generation that its bare name means now; `None` where the name is split over several.
    pub generation: Option<Digest>,
    /// Tokens of its context.
    pub max_model_len: u32,
}

/// A chat to render.
#[derive(Debug, Clone)]
pub struct Chat {
    /// `messages`.
    pub messages: Value,
    /// `tools`.
    pub tools: Option<Value>,
    /// Whether the template is told of the tools.
    pub tool_choice: ToolChoice,
    /// Whether the template opens the answer.
    pub add_generation_prompt: bool,
    /// Further variables of the template.
    pub extra: Map<String, Value>,
}

/// Names, cards and tokenizers of what is registered, from memory: no method waits.
pub trait Functions: Send + Sync + 'static {
    /// Base models, the default first; at least one.
    fn bases(&self) -> Vec<Base>;
    /// What a function's name means for a tenant: `name`, `name@alias` or `name@generation`. A split alias is drawn by
    /// `request`, so that a repeat of one request means the same. Never answers for another tenant's function.
    fn resolve(&self, tenant: &str, name: &str, request: &str) -> Option<Bound>;
    /// The tenant's function that has this generation.
    fn generation(&self, tenant: &str, generation: &str) -> Option<Bound>;
    /// The tenant's functions, by name.
    fn list(&self, tenant: &str) -> Vec<Card>;
    /// Text to token ids; with `special`, as a prompt starts (with its opening control token), else as plain text.
    ///
    /// # Errors
    /// [`CallError::BadRequest`] past the context.
    fn tokenize(&self, bound: &Bound, text: &str, special: bool) -> std::result::Result<Vec<u32>, CallError>;
    /// Token ids to text.
    ///
    /// # Errors
    /// [`CallError::BadRequest`] for an id outside the vocabulary.
    fn detokenize(&self, bound: &Bound, tokens: &[u32]) -> std::result::Result<String, CallError>;
    /// A chat as the adapter's or the model's template renders it.
    ///
    /// # Errors
    /// [`CallError::BadRequest`] with the template's own words.
    fn render(&self, bound: &Bound, chat: &Chat) -> std::result::Result<String, CallError>;
}

/// `POST /v1/load_lora_adapter`, in any of its dialects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadAdapter {
    /// The function it becomes.
    pub name: String,
    /// Path or URI of the adapter.
    pub path: String,
    /// Replace what the name means.
    pub in_place: bool,
    /// The generation that the name must mean now.
    pub expected_generation: Option<Digest>,
    /// Which base model; `None` is the only one.
    pub base: Option<String>,
    /// Never evict it.
    pub pinned: bool,
    /// Bring its weights into place now rather than with its first call.
    pub load: bool,
}

/// `POST /v1/unload_lora_adapter`, in any of its dialects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnloadAdapter {
    /// The function.
    pub name: String,
    /// The generation that the name must mean now.
    pub expected_generation: Option<Digest>,
    /// Which base model.
    pub base: Option<String>,
}

/// An adapter as these routes show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoraAdapter {
    /// The function's name.
    pub id: String,
    /// Its generation.
    pub generation: Digest,
    /// Largest rank.
    pub rank: u32,
    /// Bytes in memory when loaded.
    pub bytes: u64,
    /// Where it came from; the edge hides it from callers who may not change it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where it is now: `device`, `host`, `disk` or `remote`.
    pub tier: String,
    /// Never evicted.
    pub pinned: bool,
}

/// A generation that is in memory or was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoraGeneration {
    /// Its id.
    pub generation: Digest,
    /// Functions whose name means it.
    pub aliases: Vec<String>,
    /// Largest rank.
    pub rank: u32,
    /// Bytes in memory.
    pub bytes: u64,
    /// No name means it any more; it goes when its last lease ends.
    pub retired: bool,
    /// Calls that hold it.
    pub active_leases: u32,
}

/// `GET /v1/lora_adapters`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoraList {
    /// The tenant's adapters, by name.
    pub adapters: Vec<LoraAdapter>,
    /// Their generations.
    pub generations: Vec<LoraGeneration>,
    /// Adapters that may be registered; `None` is without limit.
    pub max_adapters: Option<u64>,
    /// Largest rank that is accepted.
    pub max_rank: u32,
    /// Bytes of adapters that device memory may hold.
    pub max_bytes: u64,
}

/// Registering and removing adapters the way other servers' clients do it.
///
/// Problems use the codes of `docs/api.md` (`lora_adapter_already_loaded`, `lora_adapter_not_found`, …); the routes
/// put them into the words that each client looks for.
pub trait Adapters: Send + Sync + 'static {
    /// Registers an adapter.
    fn load<'a>(&'a self, who: &'a Principal, ask: LoadAdapter) -> Later<'a, Result<LoraAdapter>>;
    /// Removes one. Returns how many calls still hold it.
    fn unload<'a>(&'a self, who: &'a Principal, ask: UnloadAdapter) -> Later<'a, Result<u32>>;
    /// The tenant's adapters and where they are.
    fn list<'a>(&'a self, who: &'a Principal) -> Later<'a, Result<LoraList>>;
}

/// The state of the machine behind the API.
pub trait Machine: Send + Sync + 'static {
    /// Whether calls can be answered now.
    ///
    /// # Errors
    /// What is missing, in words that give nothing away.
    fn ready(&self) -> std::result::Result<(), String>;
    /// Whether start-up is over.
    ///
    /// # Errors
    /// What it waits for.
    fn started(&self) -> std::result::Result<(), String>;
    /// Facts for `/info`: model, limits, device, policy.
    fn info(&self) -> Value;
    /// Gives memory back: level 1 adapters and KV pages, level 2 the backbone too.
    fn sleep<'a>(&'a self, level: u8, tags: &'a [String]) -> Later<'a, Result<()>>;
    /// Takes it again.
    fn wake<'a>(&'a self, tags: &'a [String]) -> Later<'a, Result<()>>;
    /// Whether it sleeps.
    fn is_sleeping(&self) -> bool;
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The reply went out whole.
    Whole,
    /// The client went away, or took nothing for too long.
    Dropped,
}

/// An exchange, when it is over. What may be a label is the server's own text and so bounded; `id` and `trace` are for
/// logs and traces only.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// `x-request-id`.
    pub id: String,
    /// The trace it belongs to, and this server's span.
    pub trace: Trace,
    /// Method.
    pub method: Method,
    /// The route's pattern; `None` where no route matched.
    pub route: Option<&'static str>,
    /// The function or base model, once it was found in the registry.
    pub model: Option<String>,
    /// Status.
    pub status: u16,
    /// From the head of the request to the last byte of the reply.
    pub took: Duration,
    /// How it ended.
    pub ended: Ended,
}

/// Watches the edge.
pub trait Observe: Send + Sync + 'static {
    /// A request came in.
    fn begun(&self);
    /// It is over.
    fn ended(&self, exchange: &Exchange);
    /// A handler panicked: a bug. The client got a 500.
    fn panicked(&self, route: Option<&'static str>);
    /// A connection was refused or closed: `full`, `handshake`, `idle`, `write_idle`.
    fn closed(&self, why: &'static str);
    /// Everything measured, as Prometheus text.
    fn metrics(&self) -> Later<'_, String>;
}

/// Everything behind the edge.
#[derive(Clone)]
pub struct Behind {
    /// Runs calls.
    pub caller: Arc<dyn Caller>,
    /// Knows keys.
    pub identify: Arc<dyn Identify>,
    /// Knows functions.
    pub functions: Arc<dyn Functions>,
    /// Loads and unloads adapters.
    pub adapters: Arc<dyn Adapters>,
    /// Knows the machine.
    pub machine: Arc<dyn Machine>,
    /// Counts.
    pub observe: Arc<dyn Observe>,
}

/// How the edge behaves.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Bytes, time and numbers, as it starts with; [`App::limits`] has them as they are.
    pub limits: Limits,
    /// No keys exist: whoever reaches the socket is the operator. Only ever on loopback; requests that a web page makes
    /// through a user's browser are refused by their `Origin` and `Host`.
    pub open: bool,
    /// Whether `/v1/load_lora_adapter` and its like may change anything, at first.
    pub runtime_lora_updating: bool,
    /// What `x-gateway-destination-endpoint-served` says behind a gateway: this server's `address:port`.
    pub endpoint: Option<String>,
}

/// The application: routes and what is behind them.
pub struct App {
    /// What is behind the edge.
    pub behind: Behind,
    /// How the edge behaves.
    pub settings: Settings,
    /// Every route.
    pub router: Router,
    /// The OpenAPI document of these routes.
    pub openapi: Value,
    pub(super) budget: Budget,
    pub(super) scales: Scales,
    pub(super) stage: watch::Sender<Stage>,
    tuned: RwLock<Arc<Tuned>>,
}

/// What may change while it serves. Requests go on with what they began with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tuned {
    limits: Limits,
    runtime_lora_updating: bool,
}

/// Where the server is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It answers.
    Serving,
    /// It was told to stop: no new connections, what is under way goes on.
    Draining,
    /// Its grace is over: what is under way ends now, streams with an error event.
    Ending,
}

impl App {
    /// The application with this crate's routes and `more` (the admin API's, the dashboard's).
    ///
    /// # Panics
    /// When two routes have one method and pattern: a mistake of the program.
    pub fn new(
        behind: Behind,
        settings: Settings,
        more: Vec<Route>,
        schemas: Map<String, Value>,
    ) -> Arc<Self> {
        let mut routes = super::routes::all();
        routes.extend(more);
        let router = Router::new(routes);
        let openapi = super::openapi::document(&router, schemas);
        let budget = Budget::new(settings.limits.bodies_bytes);
        let (stage, _) = watch::channel(Stage::Serving);
        let tuned = RwLock::new(Arc::new(Tuned {
            limits: settings.limits.clone(),
            runtime_lora_updating: settings.runtime_lora_updating,
        }));
        Arc::new(Self { behind, settings, router, openapi, budget, scales: Scales::default(), stage, tuned })
    }

    fn tuned(&self) -> Arc<Tuned> {
        self.tuned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Limits of requests that begin now.
    pub fn limits(&self) -> Limits {
        self.tuned().limits.clone()
    }

    /// Whether adapters may be loaded and unloaded now.
    pub fn runtime_lora_updating(&self) -> bool {
        self.tuned().runtime_lora_updating
    }

    /// Limits of requests from now on. How many connections there may be, and the memory of their bodies, stay as they
    /// were at the start.
    pub fn tune(&self, limits: Limits, runtime_lora_updating: bool) {
        let tuned = Arc::new(Tuned { limits, runtime_lora_updating });
        *self.tuned.write().unwrap_or_else(PoisonError::into_inner) = tuned;
    }

    /// Where the server is in its life, now and as it changes.
    pub fn stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }
}
