//! From what happens to ledger rows: requests as they end, residencies as they change.
//!
//! Residency is read off the core's book after every turn of its task, so rows begin and end when the book says so.

use super::admission::Request;
use super::functions::Functions;
use super::residency::Counters;
use super::seam::{FunctionInfo, Load, Ran, Witness};
use crate::call::Phases;
use crate::meter::{Keepers, LedgerRow, LedgerSink, Outcome, RequestRow, ResidencyRow, Thing};
use coldframe_policy::artifact::Class;
use coldframe_policy::core::Core;
use coldframe_policy::core::book::{Place, Staged};
use coldframe_policy::units::{BackboneId, FunctionId, Nanos};
use std::collections::{BTreeMap, BTreeSet};
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

impl Resident {
    fn tier(&self) -> &'static str {
        match self {
            Self::Adapter(_, tier) => tier,
            Self::Code(_) => "host",
            Self::Backbone(_) => "device",
        }
    }
}

/// Bytes in a tier, and of them those that no call runs on.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    held: u128,
    idle: u128,
}

/// Bytes times time, by tier: counted at every look with what was there since the one before.
#[derive(Debug, Default)]
struct Integral {
    last: Nanos,
    now: BTreeMap<&'static str, Amount>,
    byte_ns: BTreeMap<&'static str, Amount>,
}

impl Integral {
    fn advance(&mut self, now: Nanos, next: BTreeMap<&'static str, Amount>) {
        let ns = u128::from(now.saturating_sub(self.last).0);
        for (tier, amount) in std::mem::replace(&mut self.now, next) {
            let sum = self.byte_ns.entry(tier).or_default();
            sum.held += amount.held * ns;
            sum.idle += amount.idle * ns;
        }
        self.last = now;
    }
}

/// See the module.
pub(super) struct Metering {
    sink: Arc<dyn LedgerSink>,
    witness: Arc<dyn Witness>,
    integral: Integral,
    backbones: Vec<(String, u64)>,
    started_ms: u64,
    since: BTreeMap<Resident, (Nanos, u64)>,
    keepers: BTreeMap<BackboneId, Keepers<FunctionId>>,
}

impl Metering {
    pub(super) fn new(
        sink: Arc<dyn LedgerSink>,
        witness: Arc<dyn Witness>,
        backbones: Vec<(String, u64)>,
        started_ms: u64,
    ) -> Self {
        Self {
            sink,
            witness,
            integral: Integral::default(),
            backbones,
            started_ms,
            since: BTreeMap::new(),
            keepers: BTreeMap::new(),
        }
    }

    /// A load is over.
    pub(super) fn loaded(&self, load: Load) {
        self.witness.loaded(load);
    }

    /// Puts bytes times seconds, as of the last look, among the counters.
    pub(super) fn byte_seconds(&self, counters: &mut Counters) {
        let seconds = |byte_ns: u128| u64::try_from(byte_ns / 1_000_000_000).unwrap_or(u64::MAX);
        for (tier, sum) in &self.integral.byte_ns {
            counters.resident_byte_s.insert((*tier).to_owned(), seconds(sum.held));
            counters.idle_byte_s.insert((*tier).to_owned(), seconds(sum.idle));
        }
    }

    /// Reads the book: what came, what went, who needs the backbones.
    pub(super) fn look(&mut self, now: Nanos, core: &Core, functions: &Functions) {
        let mut here: BTreeMap<Resident, u64> = BTreeMap::new();
        let mut needing: BTreeMap<BackboneId, Vec<FunctionId>> = BTreeMap::new();
        let mut busy: BTreeSet<Resident> = BTreeSet::new();
        let mut runs = |f: FunctionId, b: BackboneId| {
            let adapters = ["device", "host"].map(|tier| Resident::Adapter(f, tier));
            busy.extend(adapters.into_iter().chain([Resident::Code(f), Resident::Backbone(b)]));
        };
        for instance in core.instances().iter().filter(|instance| instance.alive) {
            let has = |class: Class| instance.have[class as usize] == Place::Here;
            let b = instance.backbone;
            match instance.function {
                Some(f) => {
                    let spec = &core.function(f).spec;
                    if instance.running > 0 {
                        runs(f, b);
                    }
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
                            runs(f, b);
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
        let mut amounts: BTreeMap<&'static str, Amount> = BTreeMap::new();
        for (what, bytes) in &here {
            let amount = amounts.entry(what.tier()).or_default();
            amount.held += u128::from(*bytes);
            amount.idle += if busy.contains(what) { 0 } else { u128::from(*bytes) };
        }
        self.integral.advance(now, amounts);
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
            Resident::Adapter(..) => (Thing::Adapter, what.tier()),
            Resident::Code(_) => (Thing::Code, what.tier()),
            Resident::Backbone(_) => (Thing::Backbone, what.tier()),
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
            nanodollars: 0,
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
        let row = Box::new(RequestRow {
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
            nanodollars: 0,
        });
        self.witness.ended(&row, ran);
        self.sink.append(LedgerRow::Request(row));
    }
}

/// Phases in the order of [`crate::meter::row::PHASES`].
fn in_order(p: &Phases) -> [Duration; 9] {
    [p.prepare, p.parked, p.adapter_read, p.adapter_load, p.backbone, p.module, p.handler, p.queue, p.prefill]
}
