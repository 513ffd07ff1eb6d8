//! A request on its way to a handler: who asks, which names the path held, what the body is.

use super::app::{App, Bound, Principal};
use super::body::{self, Body, Read};
use super::problem::Result;
use super::trace::Trace;
use super::{json, router};
use http::HeaderMap;
use http::request::Parts;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

/// A request.
pub struct Ask {
    /// The application.
    pub app: Arc<App>,
    /// Method, address, headers.
    pub parts: Parts,
    /// The body, until it is read; behind a lock only so that a request may be shared between threads.
    pub body: Mutex<Body>,
    /// Who asks; on public routes nobody was asked, and this is `None`.
    pub who: Option<Principal>,
    /// Values of the pattern's names.
    pub values: Vec<String>,
    /// `x-request-id`.
    pub id: String,
    /// The trace that the request belongs to.
    pub trace: Trace,
    /// Where it comes from.
    pub peer: IpAddr,
    /// When its head was there.
    pub arrived: Instant,
    /// The model it turned out to be for, for the metrics.
    pub model: Arc<OnceLock<String>>,
}

impl Ask {
    /// Who asks.
    ///
    /// # Panics
    /// On public routes: a mistake of the program.
    pub fn who(&self) -> &Principal {
        self.who.as_ref().expect("routes that are not public have a principal")
    }

    /// Headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name)?.to_str().ok()
    }

    /// Whether the client wants JSON where text is the default.
    pub fn accepts_json(&self) -> bool {
        self.header("accept").is_some_and(|accept| accept.to_ascii_lowercase().contains("application/json"))
    }

    /// Pairs of the query.
    ///
    /// # Errors
    /// 400 `invalid_query`.
    pub fn query(&self) -> Result<Vec<(String, String)>> {
        router::query(self.parts.uri.query())
    }

    /// Reads the body whole, within the server's limits.
    ///
    /// # Errors
    /// See [`body::read`].
    pub async fn read(&mut self) -> Result<Read> {
        let taken = self.take();
        let limits = &self.app.limits();
        body::read(taken, limits.body_bytes, limits.body_time, &self.app.budget).await
    }

    /// Reads the body as a JSON object.
    ///
    /// # Errors
    /// As [`Self::read`]; 415 and 400 where it is none.
    pub async fn object(&mut self) -> Result<(Map<String, Value>, Read)> {
        json::check_media(&self.parts.headers)?;
        let read = self.read().await?;
        Ok((json::object(&read.bytes)?, read))
    }

    fn take(&mut self) -> Body {
        let body = self.body.get_mut().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(body, body::full(""))
    }

    /// Takes the body piece by piece, within the limits of uploads.
    pub fn pieces(&mut self) -> impl futures_util::Stream<Item = Result<bytes::Bytes>> + Send + 'static {
        let taken = self.take();
        let limits = &self.app.limits();
        body::pieces(taken, limits.upload_bytes, limits.upload_idle)
    }

    /// Notes the model for the metrics; its name is the registry's, not the caller's.
    pub fn note_model(&self, bound: &Bound) {
        let _ = self.model.set(bound.names.function.clone());
    }
}
