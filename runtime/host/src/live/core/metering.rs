//! From what happens to ledger rows: requests as they end, residencies as they change.
//!
//! Residency is read off the core's book after every turn of its task, so rows begin and end when the book says so.

use super::admission::Request;
use super::functions::Functions;
use super::seam::{FunctionInfo, Ran};
use crate::call::Phases;
use crate::meter::{Keepers, LedgerRow, LedgerSink, Outcome, RequestRow, ResidencyRow, Thing};
use coldframe_policy::artifact::Class;
use coldframe_policy::core::Core;
use coldframe_policy::core::book::{Place, Staged};
use coldframe_policy::units::{BackboneId, FunctionId, Nanos};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest stretch told in one row: a period's rows are there soon after it.
const STRETCH: Nanos = Nanos(300_000_000_000);

/// What is resident, and as whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Resident {
    Adapter(FunctionId, &'static str),
    Code(FunctionId),
    Backbone(BackboneId),
}

/// See the module.
pub(super) struct Metering {
    sink: Arc<dyn LedgerSink>,
    backbones: Vec<(String, u64)>,
    started_ms: u64,
    since: BTreeMap<Resident, (Nanos, u64)>,
    keepers: BTreeMap<BackboneId, Keepers<FunctionId>>,
}

impl Metering {
    pub(super) fn new(sink: Arc<dyn LedgerSink>, backbones: Vec<(String, u64)>, started_ms: u64) -> Self {
        Self { sink, backbones, started_ms, since: BTreeMap::new(), keepers: BTreeMap::new() }
    }

    /// Reads the book: what came, what went, who needs the backbones.
    pub(super) fn look(&mut self, now: Nanos, core: &Core, functions: &Functions) {
        let mut here: BTreeMap<Resident, u64> = BTreeMap::new();
        let mut needing: BTreeMap<BackboneId, Vec<FunctionId>> = BTreeMap::new();
        for instance in core.instances().iter().filter(|instance| instance.alive) {
            let has = |class: Class| instance.have[class as usize] == Place::Here;
            let b = instance.backbone;
            match instance.function {
                Some(f) => {
                    let spec = &core.function(f).spec;
                    if has(Class::Adapter) && spec.adapter.0 > 0 {
                        here.insert(Resident::Adapter(f, "device"), spec.adapter.0);
                    }
                    if has(Class::Runtime) && spec.runtime.0 > 0 {
                        here.insert(Resident::Code(f), spec.runtime.0);
                    }
                    if has(Class::Backbone) {
                        here.insert(Resident::Backbone(b), self.backbones[b.index()].1);
                        needing.entry(b).or_default().push(f);
                    }
                }
                None if instance.pool.0 > 0 => {
                    here.insert(Resident::Backbone(b), self.backbones[b.index()].1);
                    for (&f, slot) in instance.slots.iter().filter(|(_, slot)| slot.here) {
                        here.insert(Resident::Adapter(f, "device"), core.function(f).spec.adapter.0);
                        if slot.users > 0 {
                            needing.entry(b).or_default().push(f);
                        }
                    }
                }
                None => {}
            }
        }
        for device in core.devices() {
            for (&b, _) in device.shared.iter().filter(|(_, shared)| shared.here) {
                here.insert(Resident::Backbone(b), self.backbones[b.index()].1);
            }
        }
        for (what, bytes) in core.workers().iter().flat_map(|worker| &worker.staged) {
            if let Staged::Adapter(f) = what {
                here.insert(Resident::Adapter(*f, "host"), bytes.0);
            }
        }
        self.turn(now, &here, functions);
        for (what, bytes) in here {
            self.since.entry(what).or_insert((now, bytes));
        }
        for (b, needing) in needing {
            self.keepers.entry(b).or_default().set(now.0, needing);
        }
    }

    /// Tells of what is gone, and of what has been there for long.
    fn turn(&mut self, now: Nanos, here: &BTreeMap<Resident, u64>, functions: &Functions) {
        let due = |what: &Resident, since: &Nanos| {
            !here.contains_key(what) || now.saturating_sub(*since) >= STRETCH
        };
        let told: Vec<_> =
            self.since.iter().filter(|(what, (since, _))| due(what, since)).map(|(k, v)| (*k, *v)).collect();
        for (what, (since, bytes)) in told {
            self.since.remove(&what);
            self.residency(what, (since, bytes), now, functions);
            if let (Resident::Backbone(b), false) = (what, here.contains_key(&what)) {
                self.keepers.entry(b).or_default().clear();
            }
        }
    }

    /// The core ends: what is there is told.
    pub(super) fn close(&mut self, now: Nanos, functions: &Functions) {
        for (what, stretch) in std::mem::take(&mut self.since) {
            self.residency(what, stretch, now, functions);
        }
    }

    fn residency(&mut self, what: Resident, (since, bytes): (Nanos, u64), now: Nanos, functions: &Functions) {
        let (thing, tier) = match what {
            Resident::Adapter(_, tier) => (Thing::Adapter, tier),
            Resident::Code(_) => (Thing::Code, "host"),
            Resident::Backbone(_) => (Thing::Backbone, "device"),
        };
        let mut row = ResidencyRow {
            tenant: String::new(),
            function: String::new(),
            generation: String::new(),
            backbone: String::new(),
            thing,
            tier: tier.to_owned(),
            bytes,
            start_ms: self.started_ms + since.0 / 1_000_000,
            ns: now.saturating_sub(since).0,
            keepers: Vec::new(),
        };
        match what {
            Resident::Adapter(f, _) | Resident::Code(f) => {
                let info = functions.info(f);
                row.tenant.clone_from(&info.key.names.tenant);
                row.function.clone_from(&info.key.names.function);
                row.generation = info.key.generation.clone().unwrap_or_default();
                row.backbone.clone_from(&self.backbones[info.backbone.index()].0);
            }
            Resident::Backbone(b) => {
                row.backbone.clone_from(&self.backbones[b.index()].0);
                let weights = self.keepers.entry(b).or_default().take(now.0);
                let name = |(f, weight)| {
                    let names = &functions.info(f).key.names;
                    (names.tenant.clone(), names.function.clone(), weight)
                };
                row.keepers = weights.into_iter().map(name).collect();
            }
        }
        self.sink.append(LedgerRow::Residency(Box::new(row)));
    }

    /// A request ended.
    pub(super) fn request(&self, request: &Request, info: &FunctionInfo, ran: &Ran, now: Nanos) {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let phases = ran.phases.unwrap_or_default();
        let (kv, admitted) = request.held(now);
        self.sink.append(LedgerRow::Request(Box::new(RequestRow {
            id: request.id().to_owned(),
            tenant: info.key.names.tenant.clone(),
            function: info.key.names.function.clone(),
            generation: info.key.generation.clone().unwrap_or_default(),
            backbone: self.backbones[info.backbone.index()].0.clone(),
            arrived_ms: self.started_ms + request.arrived.0 / 1_000_000,
            took_ns: ns(request.came().elapsed()),
            outcome: match (&ran.error, ran.dropped) {
                (Some(_), _) => Outcome::Failed,
                (None, true) => Outcome::Dropped,
                (None, false) => Outcome::Completed,
            },
            cold: request.cold.to_owned(),
            prompt_tokens: ran.usage.prompt_tokens,
            cached_tokens: ran.usage.cached_tokens,
            completion_tokens: ran.usage.completion_tokens,
            device_ns: ran.usage.device_ns,
            kv_bytes: kv.0,
            admitted_ns: admitted.0,
            sandbox_ns: ran.usage.sandbox_ns,
            fuel: ran.usage.fuel,
            guest_bytes: ran.usage.guest_bytes,
            ttft_ns: ns(phases.total()),
            phases_ns: in_order(&phases).map(ns),
        })));
    }
}

/// Phases in the order of [`crate::meter::row::PHASES`].
fn in_order(p: &Phases) -> [Duration; 9] {
    [p.prepare, p.parked, p.adapter_read, p.adapter_load, p.backbone, p.module, p.handler, p.queue, p.prefill]
}
