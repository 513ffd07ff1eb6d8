//! A stream of server-sent events: calls' events in, lines out, no faster than the client takes them.
//!
//! A task pulls events and hands chunks on through a channel of a few places. While the client takes nothing, nothing is
//! pulled, and the calls' own bounded channels slow their engine rows; past the limit of idle writing, when the client
//! goes, or when the server's grace is over, the calls are dropped and so cancelled.

use super::merged::Merged;
use super::timing;
use crate::call::{CallEvent, Usage};
use crate::http::app::{App, Stage};
use crate::http::body::{BodyError, Reply};
use crate::http::problem::{Problem, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Chunks that wait for the client. Enough to overlap writing with encoding.
const CHUNKS: usize = 4;
/// A chunk gathers what is there up to this many bytes, so that a burst of tokens is one write.
const CHUNK_BYTES: usize = 16 << 10;

/// Writes one surface's lines.
pub trait Encode: Send + Sync + 'static {
    /// An event of a call.
    fn event(&mut self, call: usize, event: CallEvent, out: &mut String);
    /// The end of a stream that went well.
    fn end(&mut self, usage: &Usage, out: &mut String);
    /// The end of one that did not.
    fn problem(&mut self, problem: &Problem, out: &mut String);
}

/// A `data:` line.
pub fn data(value: &Value, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&value.to_string());
    out.push_str("\n\n");
}

/// A reply that streams.
pub fn reply(app: &Arc<App>, merged: Merged, encode: impl Encode) -> Reply {
    let opening = merged.opening;
    let (chunks, taken) = mpsc::channel(CHUNKS);
    let pump = Pump { app: app.clone(), stage: app.stage(), merged, encode, chunks };
    tokio::spawn(pump.guarded());
    let stream = futures_util::stream::unfold(taken, |mut taken| async move {
        let chunk: Bytes = taken.recv().await?;
        Some((Ok::<_, BodyError>(Frame::data(chunk)), taken))
    });
    let mut reply = Response::new(StreamBody::new(stream).boxed_unsync());
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx holds streams back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    timing::mark(headers, opening);
    reply
}

struct Pump<E> {
    app: Arc<App>,
    stage: watch::Receiver<Stage>,
    merged: Merged,
    encode: E,
    chunks: mpsc::Sender<Bytes>,
}

/// What happened next.
enum Next {
    Event(usize, CallEvent),
    Over,
    Quiet,
    Gone,
    Failed(Problem),
}

impl<E: Encode> Pump<E> {
    async fn guarded(self) {
        let (app, chunks) = (self.app.clone(), self.chunks.clone());
        if AssertUnwindSafe(self.run()).catch_unwind().await.is_err() {
            app.behind.observe.panicked(None);
            let mut out = String::new();
            data(&Problem::internal("a stream's encoder panicked").envelope(), &mut out);
            let _ = chunks.try_send(out.into());
        }
    }

    async fn run(mut self) {
        let keep_alive = self.app.limits().keep_alive;
        loop {
            let mut out = String::new();
            let last = match self.next(keep_alive).await {
                Next::Gone => return,
                Next::Quiet => {
                    out.push_str(": still at work\n\n");
                    false
                }
                Next::Event(call, event) => {
                    self.encode.event(call, event, &mut out);
                    self.gather(&mut out)
                }
                Next::Over => {
                    self.encode.end(&self.merged.usage, &mut out);
                    true
                }
                Next::Failed(problem) => {
                    self.encode.problem(&problem, &mut out);
                    true
                }
            };
            if !self.send(out).await || last {
                return;
            }
        }
    }

    async fn next(&mut self, keep_alive: Duration) -> Next {
        tokio::select! {
            biased;
            () = self.chunks.closed() => Next::Gone,
            () = ending(&mut self.stage) => Next::Failed(stopping()),
            event = self.merged.next() => match event {
                Ok(Some((call, event))) => Next::Event(call, event),
                Ok(None) => Next::Over,
                Err(problem) => Next::Failed(problem),
            },
            () = tokio::time::sleep_until(Instant::now() + keep_alive) => Next::Quiet,
        }
    }

    /// Takes along what is there already. Says whether the stream has ended with it.
    fn gather(&mut self, out: &mut String) -> bool {
        while out.len() < CHUNK_BYTES {
            match self.merged.next_now() {
                Ok(Some((call, event))) => self.encode.event(call, event, out),
                Ok(None) if self.merged.is_over() => {
                    self.encode.end(&self.merged.usage, out);
                    return true;
                }
                Ok(None) => return false,
                Err(problem) => {
                    self.encode.problem(&problem, out);
                    return true;
                }
            }
        }
        false
    }

    /// Hands a chunk on. False once the client has gone or takes nothing.
    async fn send(&self, out: String) -> bool {
        if out.is_empty() {
            return true;
        }
        let limits = &self.app.limits();
        match self.chunks.send_timeout(out.into(), limits.write_idle).await {
            Ok(()) => true,
            Err(mpsc::error::SendTimeoutError::Closed(_)) => false,
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                self.app.behind.observe.closed("write_idle");
                false
            }
        }
    }
}

/// Ready once the server's grace is over.
pub async fn ending(stage: &mut watch::Receiver<Stage>) {
    // The sender lives as long as the application, which the caller holds.
    let _ = stage.wait_for(|stage| *stage == Stage::Ending).await;
}

/// What is cut off by the server's end is told so.
pub fn stopping() -> Problem {
    let message = "the server stops; send the request again";
    Problem::overloaded("draining", message, Duration::from_secs(5))
}

/// Runs what makes a whole reply, unless the server's grace ends first.
///
/// # Errors
/// What `work` says, or 503 `draining`.
pub async fn unless_ending<T>(app: &App, work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut stage = app.stage();
    tokio::select! {
        biased;
        () = ending(&mut stage) => Err(stopping()),
        done = work => done,
    }
}
