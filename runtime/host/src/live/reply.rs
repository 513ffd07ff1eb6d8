//! The caller's side of a function's code: what it writes becomes events of the call.

use super::code::Route;
use super::line::{Line, Stop};
use crate::call::CallEvent;
use bytes::Bytes;
use coldframe_sandbox::services::{Failure, Later, Reply};
use std::sync::{Arc, Mutex, PoisonError};

/// Status and headers.
type Head = (u16, Vec<(String, String)>);

/// What the code said of its answer beside the text.
#[derive(Debug, Default)]
pub(super) struct Said {
    head: Option<Head>,
    /// Whether the head, its own or the usual, was sent.
    sent: bool,
    pub(super) finish: Option<String>,
}

impl Said {
    /// A head that no bytes have followed.
    pub(super) fn head(self) -> Option<Head> {
        if self.sent { None } else { Some(self.head.unwrap_or((200, Vec::new()))) }
    }
}

/// Sends what is written.
pub(super) struct CallReply {
    line: Line,
    route: Route,
    said: Arc<Mutex<Said>>,
}

fn closed(_: Stop) -> Failure {
    Failure::new("closed", "the caller has gone")
}

impl CallReply {
    pub(super) fn new(line: Line, route: Route, said: Arc<Mutex<Said>>) -> Self {
        Self { line, route, said }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Said) -> T) -> T {
        work(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn put(&mut self, bytes: Vec<u8>) -> Result<(), Failure> {
        if self.route != Route::Invoke {
            let invalid = |_| Failure::new("invalid", "an answer to a chat or completion must be text");
            let text = String::from_utf8(bytes).map_err(invalid)?;
            return self.send(None, CallEvent::Text { choice: 0, text, token: None }).await;
        }
        let head = self.with(|said| {
            let first = !std::mem::replace(&mut said.sent, true);
            first.then(|| said.head.take().unwrap_or((200, Vec::new())))
        });
        self.send(head, CallEvent::Bytes(Bytes::from(bytes))).await
    }

    /// Sends the head, where there is one to send, and then the event. The line fails only when no one listens.
    async fn send(&self, head: Option<Head>, event: CallEvent) -> Result<(), Failure> {
        self.line.first().await.map_err(closed)?;
        if let Some((status, headers)) = head {
            self.line.send(CallEvent::Head { status, headers }).await.map_err(closed)?;
        }
        self.line.send(event).await.map_err(closed)
    }
}

impl Reply for CallReply {
    fn start(&mut self, status: u16, headers: Vec<(String, String)>) -> Result<(), Failure> {
        if self.line.is_gone() {
            return Err(closed(Stop::Gone));
        }
        let late = self.with(|said| {
            said.head = Some((status, headers));
            said.sent
        });
        match (self.route, late) {
            (Route::Invoke, false) => Ok(()),
            (Route::Invoke, true) => Err(Failure::new("invalid", "start comes before the first write")),
            _ => Err(Failure::new("invalid", "start is for /invoke only")),
        }
    }

    fn write(&mut self, bytes: Vec<u8>) -> Later<'_, Result<(), Failure>> {
        Box::pin(self.put(bytes))
    }

    fn finish(&mut self, reason: &str) {
        self.with(|said| said.finish = Some(reason.to_owned()));
    }
}
