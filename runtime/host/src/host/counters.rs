//! Counts of the edge, and the engine's numbers, as Prometheus text.

use super::control::Control;
use crate::http::app::{Ended, Exchange, Observe};
use coldframe_policy::units::BackboneId;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Counts.
#[derive(Default)]
pub struct Counters {
    control: OnceLock<Arc<Control>>,
    in_flight: AtomicU64,
    panics: AtomicU64,
    dropped: AtomicU64,
    /// By method, route and status.
    requests: Mutex<BTreeMap<(String, &'static str, u16), u64>>,
    closed: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// Tells of what runs, once it does.
    pub fn watch(&self, control: Arc<Control>) {
        // A host has one machine; a second telling changes nothing.
        let _ = self.control.set(control);
    }

    fn edge(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# HELP http_requests_total Requests answered.\n# TYPE http_requests_total counter")?;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        for ((method, path, status), count) in requests.iter() {
            writeln!(
                text,
                "http_requests_total{{method=\"{method}\",path=\"{path}\",status=\"{status}\"}} {count}"
            )?;
        }
        drop(requests);
        for (name, kind, help, value) in [
            ("http_requests_in_flight", "gauge", "Requests under way.", &self.in_flight),
            ("coldframe_panics_total", "counter", "Handlers that panicked: bugs.", &self.panics),
            ("coldframe_dropped_clients_total", "counter", "Replies whose client went away.", &self.dropped),
        ] {
            let value = value.load(Ordering::Relaxed);
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}")?;
        }
        writeln!(
            text,
            "# HELP coldframe_connections_closed_total Connections refused or closed by the server.\n# TYPE coldframe_connections_closed_total counter"
        )?;
        for (why, count) in self.closed.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(text, "coldframe_connections_closed_total{{reason=\"{why}\"}} {count}")?;
        }
        Ok(())
    }

    fn engine(&self, text: &mut String) -> std::fmt::Result {
        let Some(control) = self.control.get() else { return Ok(()) };
        let open = control.backbones.iter().enumerate().filter_map(|(place, name)| {
            let number = BackboneId(u32::try_from(place).ok()?);
            Some((name, control.machine.model(number)?.engine.snapshot()))
        });
        let open: Vec<_> = open.collect();
        let row = |text: &mut String, name: &str, help: &str, value: &dyn Fn(usize) -> u64| {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")?;
            for (place, (model, _)) in open.iter().enumerate() {
                writeln!(text, "{name}{{model_name=\"{model}\",engine=\"0\"}} {}", value(place))?;
            }
            Ok(())
        };
        row(text, "vllm:num_requests_running", "Sequences in the batch.", &|i| open[i].1.running as u64)?;
        row(text, "vllm:num_requests_waiting", "Sequences in the engine's queue.", &|i| {
            open[i].1.waiting as u64
        })
    }
}

impl Observe for Counters {
    fn begun(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    fn ended(&self, exchange: &Exchange) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if exchange.ended == Ended::Dropped {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        // Without a route the path is the client's own words.
        let key = (exchange.method.to_string(), exchange.route.unwrap_or("other"), exchange.status);
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }

    fn panicked(&self, _: Option<&'static str>) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    fn closed(&self, why: &'static str) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a text does not fail.
        let _ = self.edge(&mut text).and_then(|()| self.engine(&mut text));
        text
    }
}
