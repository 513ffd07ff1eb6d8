//! One call of one function, between whoever took it from a client and whoever runs it.
//!
//! A [`Call`] is bound to a tenant and an immutable generation before it gets here, so that replacing what a name means
//! changes nothing for it. [`Caller::call`] gives an [`Answer`]: events as they come, dropped to cancel. Nothing here
//! knows HTTP; status codes are the edge's business.

use crate::records::{Generation, Names};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A future of a trait method.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the caller wants done.
#[derive(Debug, Clone)]
pub enum Work {
    /// A conversation, as OpenAI's `messages` (and `tools`): rendered by the adapter's or the model's template.
    Chat {
        /// `messages`, a JSON array.
        messages: serde_json::Value,
        /// `tools`, a JSON array, passed to the template.
        tools: Option<serde_json::Value>,
        /// Whether and which of them the answer calls.
        tool_choice: ToolChoice,
        /// Further variables for the template (`chat_template_kwargs`).
        extra: serde_json::Map<String, serde_json::Value>,
    },
    /// Text as it stands; several prompts of one request are several calls.
    Completion {
        /// The prompt.
        prompt: Prompt,
    },
    /// A raw request for the function's own code.
    Invoke {
        /// HTTP method.
        method: String,
        /// Path and query below the function.
        path: String,
        /// Headers, hop-by-hop and credentials left out.
        headers: Vec<(String, String)>,
    },
}

/// A completion's prompt.
#[derive(Debug, Clone)]
pub enum Prompt {
    /// Text.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
}

/// OpenAI's `tool_choice`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes; without `tools` it means nothing.
    #[default]
    Auto,
    /// No call: the template is not told of the tools.
    None,
    /// A call of any of them.
    Required,
    /// A call of this one.
    Named(String),
}

/// What a text must look like.
#[derive(Debug, Clone)]
pub enum Shape {
    /// Any text.
    Free,
    /// Any JSON object.
    JsonObject,
    /// JSON that keeps to a schema.
    JsonSchema(serde_json::Value),
}

/// A call, bound.
#[derive(Debug, Clone)]
pub struct Call {
    /// `x-request-id`.
    pub id: String,
    /// Who pays and whose the function is.
    pub names: Names,
    /// The generation it is bound to; `None` is the base model itself.
    pub generation: Option<Arc<Generation>>,
    /// One of the generation's adapters by name, where the caller chose; `None` is the first.
    pub adapter: Option<String>,
    /// What to do.
    pub work: Work,
    /// The body as it came: for the function's code.
    pub body: bytes::Bytes,
    /// How tokens are chosen, `max_tokens` and `stop` included.
    pub params: coldframe_backbone::sample::SamplingParams,
    /// Choices (`n`).
    pub choices: u32,
    /// What the text must look like.
    pub shape: Shape,
    /// Whether stop strings are part of the text.
    pub include_stop: bool,
    /// When the request came in.
    pub arrived: Instant,
    /// When the caller is answered at the latest.
    pub deadline: Instant,
}

/// Where the time before the first token went; the sum is the TTFT. Names follow the cold start's chain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Phases {
    /// Body, names, template, tokenizer.
    pub prepare: Duration,
    /// Parked until the policy admitted it, loads not counted.
    pub parked: Duration,
    /// Reading the adapter from the store's disk (and its hash and parse).
    pub adapter_read: Duration,
    /// Packing and copying the adapter into place.
    pub adapter_load: Duration,
    /// Mapping and checking the backbone.
    pub backbone: Duration,
    /// Compiling the module, or reading it compiled.
    pub module: Duration,
    /// Instantiating the handler and its work before the first token.
    pub handler: Duration,
    /// In the engine's queue.
    pub queue: Duration,
    /// Computing the prompt.
    pub prefill: Duration,
}

impl Phases {
    /// All of them: the TTFT.
    pub fn total(&self) -> Duration {
        self.prepare
            + self.parked
            + self.adapter_read
            + self.adapter_load
            + self.backbone
            + self.module
            + self.handler
            + self.queue
            + self.prefill
    }
}

/// How cold the call was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cold {
    /// Everything was in place.
    #[default]
    Warm,
    /// The adapter had to come from host memory.
    Host,
    /// The adapter or the module had to come from disk.
    Disk,
    /// The artifact had to come from afar.
    Remote,
    /// The backbone had to come.
    Backbone,
}

/// Tokens and resources of a call, for billing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Of these, found in cached pages.
    pub cached_tokens: u64,
    /// Tokens generated, over all choices.
    pub completion_tokens: u64,
    /// Share of the engine's step time, nanoseconds.
    pub device_ns: u64,
    /// The sandbox's CPU, nanoseconds, and its fuel.
    pub sandbox_ns: u64,
    /// Fuel spent by the guest.
    pub fuel: u64,
    /// Peak memory of the guest, bytes.
    pub guest_bytes: u64,
}

/// A token with what was asked for beside it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: u32,
    /// Its bytes as text (lossy) and as they are.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens: text, bytes, log-probability.
    pub top: Vec<(String, Vec<u8>, f32)>,
}

/// Why a choice ended, in OpenAI's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// End of text or a stop string.
    Stop,
    /// The most tokens it may have.
    Length,
    /// It calls tools: see [`CallEvent::ToolCall`].
    ToolCalls,
    /// A word of the function's own.
    Other(String),
}

/// Something of an answer. [`CallEvent::First`] comes first.
#[derive(Debug, Clone, PartialEq)]
pub enum CallEvent {
    /// `invoke`: status and headers of the function's own; follows [`CallEvent::First`].
    Head {
        /// HTTP status.
        status: u16,
        /// Headers, checked by the edge.
        headers: Vec<(String, String)>,
    },
    /// The first token is there: where the time went.
    First {
        /// Phases; their sum is the time since [`Call::arrived`].
        phases: Phases,
        /// How cold it was.
        cold: Cold,
    },
    /// Text of a choice; may be empty where only a token came.
    Text {
        /// Which choice.
        choice: u32,
        /// The text.
        text: String,
        /// The token, where log-probabilities were asked for.
        token: Option<TokenInfo>,
    },
    /// A choice calls a tool; each call comes whole.
    ToolCall {
        /// Which choice.
        choice: u32,
        /// Which of the choice's calls.
        index: u32,
        /// The call's own name, for the message that will answer it.
        id: String,
        /// The tool.
        name: String,
        /// Its arguments: JSON text.
        arguments: String,
    },
    /// `invoke`: bytes.
    Bytes(bytes::Bytes),
    /// A choice ended.
    Done {
        /// Which choice.
        choice: u32,
        /// Why.
        finish: Finish,
    },
    /// The last event of a call that worked.
    End {
        /// What it used.
        usage: Usage,
    },
}

/// Why a call was not answered, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// A parameter is wrong.
    #[error("{field}: {problem}")]
    BadRequest {
        /// Which.
        field: String,
        /// Why, and what to do.
        problem: String,
    },
    /// Too much at once; nothing was done.
    #[error("{what}; try again in {} ms", retry_after.as_millis())]
    Overloaded {
        /// `queue_full`, `timed_out`, `no_capacity`, `draining`.
        code: &'static str,
        /// In words.
        what: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// The function's code ended in an error of its own or ran over a limit.
    #[error("the function ended: {code}: {message}")]
    Function {
        /// `out_of_fuel`, `deadline`, `memory`, `trap`, … or the guest's own word.
        code: String,
        /// For people.
        message: String,
    },
    /// An artifact could not be brought into place.
    #[error("the function could not start: {0}")]
    Start(String),
    /// Anything else: a bug or a fault of the machine.
    #[error("internal error: {0}")]
    Internal(String),
}

/// An answer under way. Dropping it cancels the call within one step.
pub struct Answer {
    /// Events in order; bounded, so that a slow reader slows its own call. After [`CallEvent::End`] or an error nothing
    /// more comes.
    pub events: tokio::sync::mpsc::Receiver<Result<CallEvent, CallError>>,
}

/// Whoever runs calls.
pub trait Caller: Send + Sync + 'static {
    /// Starts a call.
    fn call(&self, call: Call) -> Later<'_, Result<Answer, CallError>>;
}
