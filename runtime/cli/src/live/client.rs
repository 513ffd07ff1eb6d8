//! HTTP to one host: small JSON answers, and answers that stream.

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client as Pooled, Error};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// Bytes of a JSON answer that are read at most.
const ANSWER_MAX: usize = 16 << 20;

/// The host.
pub struct Client {
    http: Pooled<HttpConnector, Full<Bytes>>,
    base: String,
    key: Option<String>,
}

impl Client {
    /// A client of the host at `url`, plain HTTP.
    pub fn new(url: &str, key: Option<String>) -> Result<Self> {
        let base = url.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        ensure!(
            base.starts_with("http://"),
            "--live {url}: give an http:// address; reach a host behind TLS through a tunnel on this machine, so that \
             its encryption is not measured as the host's work"
        );
        base.parse::<hyper::Uri>().with_context(|| format!("--live {url} is no address"))?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Pooled::builder(TokioExecutor::new()).pool_max_idle_per_host(1024).build(connector);
        Ok(Self { http, base, key })
    }

    /// Asks for JSON.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let place = format!("{}{path}", self.base);
        let answer = self.send(method, path, bytes.into()).await;
        let answer = answer.with_context(|| format!("cannot reach {place}: is the host running?"))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        let Ok(body) = body else { bail!("{place} broke off its answer") };
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        ensure!(
            status.is_success(),
            "{place} answered {status}: {}",
            text.chars().take(300).collect::<String>()
        );
        serde_json::from_str(&text).with_context(|| format!("{place} answered no JSON"))
    }

    /// Sends a body; the answer as it begins.
    pub async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let request = request.body(Full::new(body)).expect("the address was checked; paths are fixed");
        self.http.request(request).await
    }
}
