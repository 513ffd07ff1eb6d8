//! The seam between a call and a function's code, whatever runs it.

use coldframe_sandbox::services::{Later, Message, Params, Reply, Services};
use std::sync::Arc;
use std::time::Duration;

/// How the caller came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completion,
    /// `/invoke/{function}`
    Invoke,
}

/// A request as a function's code sees it.
#[derive(Debug, Clone)]
pub struct CodeRequest {
    /// Number of the request.
    pub id: String,
    /// How it came in.
    pub route: Route,
    /// `chat`: the conversation, as text.
    pub messages: Vec<Message>,
    /// `completion`: the prompt.
    pub prompt: String,
    /// The body as the caller sent it.
    pub body: bytes::Bytes,
    /// `invoke`: the HTTP method.
    pub method: String,
    /// `invoke`: path and query below the function.
    pub path: String,
    /// `invoke`: headers.
    pub headers: Vec<(String, String)>,
    /// Sampling as the caller asked for it.
    pub params: Params,
    /// Time left until the call is ended.
    pub deadline: Duration,
}

/// Why code ended otherwise than it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeFault {
    /// `out_of_fuel`, `deadline`, `memory`, `trap`, … or the code's own word.
    pub code: String,
    /// For people.
    pub message: String,
    /// Nothing was done for want of room: trying again makes sense.
    pub retry: bool,
}

/// How a call of the code ended, and what it used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CodeEnd {
    /// Why it failed, if it did.
    pub fault: Option<CodeFault>,
    /// CPU, nanoseconds.
    pub cpu_ns: u64,
    /// Fuel spent.
    pub fuel: u64,
    /// Peak memory, bytes.
    pub memory_bytes: u64,
}

/// A function's code, ready to be called.
pub trait Code: Send + Sync + 'static {
    /// Answers one request through `reply`. Dropping the future ends the call and its generations.
    fn handle(
        &self,
        request: CodeRequest,
        services: Arc<dyn Services>,
        reply: Box<dyn Reply>,
    ) -> Later<'_, CodeEnd>;

    /// Memory of the compiled code, bytes.
    fn bytes(&self) -> u64;
}
