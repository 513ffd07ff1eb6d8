//! Everything counted, in one place: told by the edge and by the core's task, written out when somebody scrapes.

use super::edge::Edge;
use super::histogram::{Histogram, LOAD_S};
use super::otlp::Tracer;
use super::recent::Recent;
use super::requests::Requests;
use super::scene::Look;
use super::spans::Root;
use super::text::{Kind, Page};
use super::{machine, process};
use crate::call::Later;
use crate::http::app::{Exchange, Observe};
use crate::live::core::residency::tier_name;
use crate::live::core::{Load, Ran, Witness};
use crate::meter::RequestRow;
use coldframe_policy::artifact::Class;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

/// What is told as it happens.
#[derive(Debug, Default)]
struct Told {
    edge: Edge,
    requests: Requests,
    recent: Recent,
    loads: BTreeMap<(&'static str, &'static str), Histogram>,
}

/// The server's metrics.
pub struct Metrics {
    /// Short critical sections only: a few additions, or writing the text.
    told: Mutex<Told>,
    /// Weak: who is looked at holds these metrics, and must be able to end.
    look: OnceLock<Weak<dyn Look>>,
    tracer: Option<Tracer>,
    started_s: f64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { told: Mutex::default(), look: OnceLock::new(), tracer: None, started_s: seconds_since_1970() }
    }
}

/// Seconds since 1970.
pub(super) fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

impl Metrics {
    /// With traces, where there is somebody to send them to.
    pub fn new(tracer: Option<Tracer>) -> Self {
        Self { tracer, ..Self::default() }
    }

    /// Tells what runs, once it does; before that, metrics say nothing of the machine.
    pub fn watch(&self, look: Weak<dyn Look>) {
        // A host has one machine; a second telling changes nothing.
        let _ = self.look.set(look);
    }

    /// The last requests of a tenant, or of all.
    pub fn recent(&self, tenant: Option<&str>) -> Value {
        self.told().recent.show(tenant)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn page(&self) -> String {
        let scene = match self.look.get().and_then(Weak::upgrade) {
            Some(look) => look.look().await,
            None => None,
        };
        let mut page = Page::default();
        if let Some(scene) = &scene {
            machine::write(&mut page, scene, seconds_since_1970());
        }
        {
            let told = self.told();
            told.requests.write(&mut page);
            told.edge.write(&mut page);
            loads(&mut page, &told.loads);
        }
        let labels = [("version", env!("CARGO_PKG_VERSION"))];
        page.family("coldframe_build_info", Kind::Gauge, "The version, as a label.").count(&labels, 1);
        if let Some(tracer) = &self.tracer {
            let help = "Spans that the collector did not take, or that found the queue full.";
            page.counter("coldframe_trace_spans_dropped_total", help, tracer.dropped());
        }
        process::write(&mut page, self.started_s);
        page.finish()
    }
}

fn loads(page: &mut Page, loads: &BTreeMap<(&'static str, &'static str), Histogram>) {
    let mut all = Histogram::new(LOAD_S);
    let adapters = loads.iter().filter(|((artifact, _), _)| *artifact == Class::Adapter.name());
    adapters.for_each(|(_, times)| all.add(times));
    let help = "Reading and packing an adapter, from wherever it was.";
    page.family("vllm:lora_adapter_load_seconds", Kind::Histogram, help).histogram(&[], &all);
    let help = "Reading and packing, by artifact and the tier it came from.";
    let mut family = page.family("coldframe_load_seconds", Kind::Histogram, help);
    for ((artifact, tier), times) in loads {
        family.histogram(&[("artifact", artifact), ("tier", tier)], times);
    }
}

impl Observe for Metrics {
    fn begun(&self) {
        self.told().edge.begun();
    }

    fn ended(&self, exchange: &Exchange) {
        self.told().edge.ended(exchange);
        if let Some((tracer, root)) = self.tracer.as_ref().zip(Root::of(exchange)) {
            tracer.root(root);
        }
    }

    fn panicked(&self, _: Option<&'static str>) {
        self.told().edge.panicked();
    }

    fn closed(&self, why: &'static str) {
        self.told().edge.closed(why);
    }

    fn metrics(&self) -> Later<'_, String> {
        Box::pin(self.page())
    }
}

impl Witness for Metrics {
    fn ended(&self, row: &RequestRow, ran: &Ran) {
        let mut told = self.told();
        told.requests.ended(row, ran);
        told.recent.keep(row);
        drop(told);
        if let Some(tracer) = &self.tracer {
            tracer.row(row);
        }
    }

    fn loaded(&self, load: Load) {
        if let Some(took) = load.took {
            let key = (load.class.name(), tier_name(load.from));
            let mut told = self.told();
            let times = told.loads.entry(key).or_insert_with(|| Histogram::new(LOAD_S));
            times.observe(took.as_secs_f64());
        }
    }
}
