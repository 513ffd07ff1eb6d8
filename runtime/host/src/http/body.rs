//! Bodies both ways: replies as bytes or streams, requests read whole within bytes and time, or piece by piece.
//!
//! What all requests together hold in memory is bounded by a budget, so that many large bodies at once are refused
//! rather than collected.

use super::problem::{Problem, Result};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body as HttpBody;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Why a body ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body, either way.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;
/// A reply.
pub type Reply = Response<Body>;

/// A body of bytes.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A reply of bytes.
pub fn bytes(status: StatusCode, media: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(full(bytes));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    reply
}

/// A reply of JSON.
pub fn json(status: StatusCode, value: &Value) -> Reply {
    bytes(status, "application/json", value.to_string())
}

/// A reply of JSON that says all is well.
pub fn good(value: &Value) -> Reply {
    json(StatusCode::OK, value)
}

/// A reply of plain text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    bytes(status, "text/plain; charset=utf-8", text)
}

/// A reply without a body.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(full(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// Memory that bodies being read may take together, counted in KiB.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.div_ceil(1024).min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        self.0.clone().try_acquire_many_owned(units).map_err(|_| {
            let message = "too many large requests are being read; try again";
            Problem::overloaded("bodies", message, Duration::from_secs(1))
        })
    }
}

/// A body whose budget is given back when it is dropped.
#[derive(Debug)]
pub struct Read {
    /// The bytes.
    pub bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

/// Reads a body whole: at most `limit` bytes within `time`.
///
/// # Errors
/// 413 past the limit (before anything is read, where the length is announced), 408 past the time, 503 past the budget,
/// 400 when the client breaks off.
pub async fn read(body: Body, limit: usize, time: Duration, budget: &Budget) -> Result<Read> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(time, collect(body, limit, budget)).await {
        Ok(read) => read,
        Err(_) => Err(too_slow()),
    }
}

async fn collect(mut body: Body, limit: usize, budget: &Budget) -> Result<Read> {
    let mut bytes = BytesMut::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        let more = budget.take(data.len())?;
        match &mut held {
            Some(held) => held.merge(more),
            None => held = Some(more),
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Read { bytes: bytes.freeze(), _held: held })
}

/// A body piece by piece: at most `limit` bytes in all, at most `idle` between two pieces. For uploads.
pub fn pieces(
    body: Body,
    limit: u64,
    idle: Duration,
) -> impl futures_util::Stream<Item = Result<Bytes>> + Send + 'static {
    let start = Some((body, 0_u64));
    futures_util::stream::unfold(start, move |state| async move {
        let (mut body, mut seen) = state?;
        loop {
            let frame = match tokio::time::timeout(idle, body.frame()).await {
                Err(_) => return Some((Err(too_slow()), None)),
                Ok(None) => return None,
                Ok(Some(Err(_))) => return Some((Err(broken()), None)),
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            seen += data.len() as u64;
            if seen > limit {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                return Some((Err(too_large(limit)), None));
            }
            return Some((Ok(data), Some((body, seen))));
        }
    })
}

fn too_large(limit: usize) -> Problem {
    let message = format!("the body has more than {limit} bytes; send less, or raise the server's limit");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request_body_too_large", message)
}

fn too_slow() -> Problem {
    let message = "the body did not arrive in time; send it at once";
    Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", message)
}

fn broken() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "incomplete_body", "the body broke off before its end")
}
