//! Spans of a request: the exchange, under it each phase before the first token, then the generation.
//!
//! The edge tells of the exchange and the core's task of the call, in either order; they are put together by the name of
//! the request. Whatever never finds its other half is told alone, or forgotten.

use super::metrics::seconds_since_1970;
use crate::http::app::{Ended, Exchange};
use crate::meter::row::PHASES;
use crate::meter::{Outcome, RequestRow};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long an exchange waits for its call; a call that was refused has no row.
const EXCHANGE_WAITS: Duration = Duration::from_secs(2);
/// How long a call waits for its exchange: as long as a slow client may take to read the end.
const CALL_WAITS: Duration = Duration::from_secs(60);
/// Halves that wait at most. Arbitrary; beyond it the oldest name is let go.
const WAITING_MAX: usize = 4096;

/// A value beside a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Count(u64),
}

/// A span.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16.
    pub id: String,
    /// The span it is part of.
    pub parent: Option<String>,
    /// Its name, of a closed list.
    pub name: String,
    /// Whether it is the server's side of an exchange, rather than a part of one.
    pub server: bool,
    /// Nanoseconds since 1970.
    pub start_ns: u64,
    /// Nanoseconds since 1970.
    pub end_ns: u64,
    /// What stands beside it.
    pub attributes: Vec<(&'static str, Value)>,
    /// Whether it failed by the server's fault.
    pub failed: bool,
}

/// An exchange, as a span, with the name of its request.
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    /// `x-request-id`.
    pub request: String,
    /// Whether a call may follow.
    pub calls: bool,
    /// The span.
    pub span: Span,
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Root {
    /// Of an exchange that is over now; `None` where its caller does not record the trace.
    pub fn of(exchange: &Exchange) -> Option<Self> {
        let trace = &exchange.trace;
        if trace.parent.is_some() && !trace.sampled {
            return None;
        }
        let end_ns = ns(Duration::from_secs_f64(seconds_since_1970()));
        let route = exchange.route.unwrap_or("other");
        let mut attributes = vec![
            ("http.request.method", text(exchange.method.as_str())),
            ("http.route", text(route)),
            ("http.response.status_code", Value::Count(u64::from(exchange.status))),
            ("coldframe.request_id", text(exchange.id.clone())),
        ];
        attributes.extend(exchange.model.clone().map(|model| ("gen_ai.request.model", text(model))));
        if exchange.ended == Ended::Dropped {
            attributes.push(("coldframe.client_gone", text("true")));
        }
        let span = Span {
            trace: trace.trace.clone(),
            id: trace.span.clone(),
            parent: trace.parent.clone(),
            name: format!("{} {route}", exchange.method),
            server: true,
            start_ns: end_ns.saturating_sub(ns(exchange.took)),
            end_ns,
            attributes,
            failed: exchange.status >= 500,
        };
        Some(Self { request: exchange.id.clone(), calls: exchange.model.is_some(), span })
    }

    /// The exchange and what its call did.
    fn with(self, row: &RequestRow, fresh: &mut impl FnMut() -> String) -> Vec<Span> {
        let root = self.span;
        let mut part = |name: &str, start_ns: u64, end_ns: u64| Span {
            trace: root.trace.clone(),
            id: fresh(),
            parent: Some(root.id.clone()),
            name: name.to_owned(),
            server: false,
            start_ns,
            end_ns,
            attributes: Vec::new(),
            failed: false,
        };
        let (mut spans, mut at) = (Vec::new(), root.start_ns);
        for (name, took) in PHASES.into_iter().zip(row.phases_ns).filter(|(_, took)| *took > 0) {
            spans.push(part(name, at, at + took));
            at += took;
        }
        if row.ttft_ns > 0 {
            let mut generation = part("generate", at, root.start_ns + row.took_ns.max(row.ttft_ns));
            generation.failed = row.outcome == Outcome::Failed;
            generation.attributes = vec![
                ("gen_ai.usage.input_tokens", Value::Count(row.prompt_tokens)),
                ("gen_ai.usage.output_tokens", Value::Count(row.completion_tokens)),
                ("coldframe.tenant", text(row.tenant.clone())),
                ("coldframe.function", text(row.function.clone())),
                ("coldframe.generation", text(row.generation.clone())),
                ("coldframe.waited_for", text(row.cold.clone())),
                ("coldframe.device_ns", Value::Count(row.device_ns)),
            ];
            spans.push(generation);
        }
        spans.insert(0, root);
        spans
    }
}

/// Halves that wait for each other.
#[derive(Default)]
pub struct Halves {
    roots: BTreeMap<String, (Instant, Root)>,
    rows: BTreeMap<String, (Instant, RequestRow)>,
}

impl Halves {
    /// An exchange is over. Returns spans that are complete by it.
    pub fn root(&mut self, root: Root, now: Instant, fresh: &mut impl FnMut() -> String) -> Vec<Span> {
        if let Some((_, row)) = self.rows.remove(&root.request) {
            return root.with(&row, fresh);
        }
        if !root.calls || self.roots.len() >= WAITING_MAX {
            return vec![root.span];
        }
        let before = self.roots.insert(root.request.clone(), (now, root));
        before.map(|(_, root)| root.span).into_iter().collect()
    }

    /// A call has ended. Returns spans that are complete by it.
    pub fn row(&mut self, row: RequestRow, now: Instant, fresh: &mut impl FnMut() -> String) -> Vec<Span> {
        if let Some((_, root)) = self.roots.remove(&row.id) {
            return root.with(&row, fresh);
        }
        if self.rows.len() < WAITING_MAX {
            self.rows.insert(row.id.clone(), (now, row));
        }
        Vec::new()
    }

    /// Gives up on other halves that do not come. Returns exchanges that had no call.
    pub fn age(&mut self, now: Instant) -> Vec<Span> {
        self.rows.retain(|_, (since, _)| now.saturating_duration_since(*since) < CALL_WAITS);
        let old = |since: &Instant| now.saturating_duration_since(*since) >= EXCHANGE_WAITS;
        let names: Vec<String> =
            self.roots.iter().filter(|(_, (since, _))| old(since)).map(|(name, _)| name.clone()).collect();
        names.iter().filter_map(|name| self.roots.remove(name)).map(|(_, root)| root.span).collect()
    }

    /// Everything that waits, at the end.
    pub fn rest(&mut self) -> Vec<Span> {
        std::mem::take(&mut self.roots).into_values().map(|(_, root)| root.span).collect()
    }
}
