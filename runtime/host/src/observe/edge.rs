//! What happens at the edge: exchanges by route, connections that were closed, clients that went, panics.

use super::histogram::{HTTP_S, Histogram};
use super::text::{Kind, Page};
use crate::http::app::{Ended, Exchange};
use std::collections::BTreeMap;

/// Series of exchanges at most; what is beyond is counted under `other`. Arbitrary: routes × statuses × some models.
const SERIES_MAX: usize = 2_000;

/// Methods that are labels; any other is `other`, since a client may invent one.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];

type Series = (&'static str, &'static str, String, u16);

/// Counts of the edge.
#[derive(Debug, Default)]
pub(super) struct Edge {
    in_flight: u64,
    panics: u64,
    dropped: u64,
    exchanges: BTreeMap<Series, u64>,
    took: BTreeMap<(&'static str, &'static str), Histogram>,
    closed: BTreeMap<&'static str, u64>,
}

impl Edge {
    pub(super) fn begun(&mut self) {
        self.in_flight += 1;
    }

    pub(super) fn ended(&mut self, exchange: &Exchange) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.dropped += u64::from(exchange.ended == Ended::Dropped);
        let method = METHODS.into_iter().find(|known| *known == exchange.method.as_str()).unwrap_or("other");
        // Without a route the path is the client's own words.
        let path = exchange.route.unwrap_or("other");
        let mut key = (method, path, exchange.model.clone().unwrap_or_default(), exchange.status);
        if self.exchanges.len() >= SERIES_MAX && !self.exchanges.contains_key(&key) {
            key.2 = "other".to_owned();
        }
        *self.exchanges.entry(key).or_default() += 1;
        let took = self.took.entry((method, path)).or_insert_with(|| Histogram::new(HTTP_S));
        took.observe(exchange.took.as_secs_f64());
    }

    pub(super) fn panicked(&mut self) {
        self.panics += 1;
    }

    pub(super) fn closed(&mut self, why: &'static str) {
        *self.closed.entry(why).or_default() += 1;
    }

    pub(super) fn write(&self, page: &mut Page) {
        let mut all = page.family("http_requests_total", Kind::Counter, "Exchanges that are over, by route.");
        for ((method, path, model, status), count) in &self.exchanges {
            let status = status.to_string();
            all.count(&[("method", method), ("path", path), ("model", model), ("status", &status)], *count);
        }
        let help = "From the head of a request to the last byte of its reply.";
        let mut took = page.family("http_request_duration_seconds", Kind::Histogram, help);
        for ((method, path), histogram) in &self.took {
            took.histogram(&[("method", method), ("path", path)], histogram);
        }
        page.gauge("http_requests_in_flight", "Exchanges under way.", self.in_flight as f64);
        page.counter("coldframe_panics_total", "Handlers that panicked: bugs.", self.panics);
        page.counter("coldframe_dropped_clients_total", "Replies whose client went away.", self.dropped);
        let help = "Connections that the server refused or closed, by reason.";
        let mut closed = page.family("coldframe_connections_closed_total", Kind::Counter, help);
        self.closed.iter().for_each(|(why, count)| closed.count(&[("reason", why)], *count));
    }
}
