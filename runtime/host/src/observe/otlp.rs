//! Traces to a collector: OTLP over HTTP as JSON, from a thread of its own.
//!
//! Off unless an endpoint is named. The queue is bounded and what finds it full is dropped and counted: no request ever
//! waits for a collector. A batch that the collector does not take is dropped too, and the log says so.

use super::spans::{Halves, Root, Span, Value};
use crate::auth::Secret;
use crate::meter::RequestRow;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Halves that wait for the thread. Arbitrary: seconds of a busy host.
const QUEUE: usize = 8192;
/// Spans of a batch, as OpenTelemetry's own exporters have it.
const BATCH: usize = 512;
/// A batch goes out after this at the latest.
const EVERY: Duration = Duration::from_secs(2);
/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where traces go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// The collector's address, `/v1/traces` included; without, there are no traces.
    pub endpoint: Option<String>,
    /// What the server is called in traces; `coldframe` without.
    pub service: Option<String>,
    /// Headers for the collector, `name=value` joined by commas: they may hold its key.
    #[serde(skip)]
    pub headers: Option<Secret>,
}

impl TraceConfig {
    /// Takes what OpenTelemetry's variables say, which stand above a file.
    pub fn overlay(&mut self, variable: impl Fn(&str) -> Option<String>) {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let base = given("OTEL_EXPORTER_OTLP_ENDPOINT");
        let base = base.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        self.endpoint = given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or(base).or(self.endpoint.take());
        self.service = given("OTEL_SERVICE_NAME").or(self.service.take());
        self.headers = given("OTEL_EXPORTER_OTLP_HEADERS").map(Secret::new).or(self.headers.take());
    }
}

enum Half {
    Root(Box<Root>),
    Row(Box<RequestRow>),
}

/// Sends traces.
pub struct Tracer {
    halves: Option<SyncSender<Half>>,
    thread: Option<JoinHandle<()>>,
    dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// Starts the thread; `None` where no endpoint is named.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(config: &TraceConfig) -> std::io::Result<Option<Self>> {
        let Some(endpoint) = config.endpoint.clone() else { return Ok(None) };
        let (halves, waiting) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
        let exporter = Exporter {
            agent,
            endpoint,
            service: config.service.clone().unwrap_or_else(|| "coldframe".to_owned()),
            headers: config.headers.clone(),
            dropped: dropped.clone(),
        };
        let thread = std::thread::Builder::new().name("traces".to_owned());
        let thread = thread.spawn(move || exporter.run(&waiting))?;
        Ok(Some(Self { halves: Some(halves), thread: Some(thread), dropped }))
    }

    /// An exchange is over.
    pub fn root(&self, root: Root) {
        self.send(Half::Root(Box::new(root)));
    }

    /// A call has ended.
    pub fn row(&self, row: &RequestRow) {
        self.send(Half::Row(Box::new(row.clone())));
    }

    /// Spans and halves that were dropped.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn send(&self, half: Half) {
        if self.halves.as_ref().is_none_or(|halves| halves.try_send(half).is_err()) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.halves = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so itself.
            let _ = thread.join();
        }
    }
}

struct Exporter {
    agent: ureq::Agent,
    endpoint: String,
    service: String,
    headers: Option<Secret>,
    dropped: Arc<AtomicU64>,
}

/// A span's name that is new. Without random numbers spans could not be told apart: zeros mean none.
fn fresh() -> String {
    let mut bytes = [0; 8];
    let known = getrandom::fill(&mut bytes).is_ok();
    if known { bytes.iter().map(|byte| format!("{byte:02x}")).collect() } else { "0".repeat(16) }
}

impl Exporter {
    fn run(self, waiting: &Receiver<Half>) {
        let (mut halves, mut batch, mut sent) = (Halves::default(), Vec::new(), Instant::now());
        loop {
            let half = waiting.recv_timeout(EVERY);
            let now = Instant::now();
            match half {
                Ok(Half::Root(root)) => batch.extend(halves.root(*root, now, &mut fresh)),
                Ok(Half::Row(row)) => batch.extend(halves.row(*row, now, &mut fresh)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if batch.len() >= BATCH || now.saturating_duration_since(sent) >= EVERY {
                batch.extend(halves.age(now));
                self.export(&mut batch);
                sent = now;
            }
        }
        batch.extend(halves.rest());
        self.export(&mut batch);
    }

    fn export(&self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let spans = std::mem::take(batch);
        let mut request = self.agent.post(&self.endpoint).header("content-type", "application/json");
        let given = self.headers.as_ref().map_or("", |headers| headers.reveal());
        for (name, value) in given.split(',').filter_map(|header| header.split_once('=')) {
            request = request.header(name.trim(), value.trim());
        }
        if let Err(error) = request.send(document(&self.service, &spans).to_string()) {
            self.dropped.fetch_add(spans.len() as u64, Ordering::Relaxed);
            tracing::warn!(%error, spans = spans.len(), "the collector did not take spans; they are dropped");
        }
    }
}

/// Spans as OTLP has them in JSON.
pub fn document(service: &str, spans: &[Span]) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{
            "scope": {"name": "coldframe", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

fn span(span: &Span) -> Json {
    let attribute = |(key, value): &(&'static str, Value)| match value {
        Value::Text(text) => json!({"key": key, "value": {"stringValue": text}}),
        // 64-bit numbers are texts in protobuf's JSON.
        Value::Count(count) => json!({"key": key, "value": {"intValue": count.to_string()}}),
    };
    let attributes: Vec<Json> = span.attributes.iter().map(attribute).collect();
    json!({
        "traceId": span.trace,
        "spanId": span.id,
        "parentSpanId": span.parent.clone().unwrap_or_default(),
        "name": span.name,
        "kind": if span.server { 2 } else { 1 },
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": attributes,
        "status": if span.failed { json!({"code": 2}) } else { json!({}) },
    })
}
