//! A request as the guest sees it.

use crate::services::{Message, Params};

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

/// A call of the function.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Number of the request.
    pub id: String,
    /// How the caller came in.
    pub route: Route,
    /// `Chat`: the conversation.
    pub messages: Vec<Message>,
    /// `Completion`: the prompt.
    pub prompt: String,
    /// The body as the caller sent it.
    pub body: Vec<u8>,
    /// `Invoke`: the method.
    pub method: String,
    /// `Invoke`: path below the function, with its query.
    pub path: String,
    /// `Invoke`: headers that may be shown to the function.
    pub headers: Vec<(String, String)>,
    /// Sampling as the caller asked for it.
    pub params: Params,
    /// Milliseconds until the host ends the call; the call's own `wall` limit may be nearer.
    pub deadline_ms: u32,
}

impl Request {
    /// A request of a route with nothing in it, to be filled in by struct update.
    pub fn new(id: impl Into<String>, route: Route) -> Self {
        Self {
            id: id.into(),
            route,
            messages: Vec::new(),
            prompt: String::new(),
            body: Vec::new(),
            method: String::new(),
            path: String::new(),
            headers: Vec::new(),
            params: Params::default(),
            deadline_ms: u32::MAX,
        }
    }
}
