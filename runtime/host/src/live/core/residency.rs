//! What is where, for people and metrics: read off the core's own book, with counts of what moved.
//!
//! A snapshot is made on request by the task that owns the core, so it never shows a state between two.

use super::functions::Functions;
use super::seam::FunctionKey;
use coldframe_policy::artifact::{Class, Tier};
use coldframe_policy::core::Core;
use coldframe_policy::core::book::{Place, Staged, uses};
use coldframe_policy::units::{FunctionId, Nanos};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a function is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing of it is in memory.
    Unloaded,
    /// Something is on its way.
    Loading,
    /// Everything is in place, nothing runs.
    Loaded,
    /// Calls run.
    Running,
    /// Some of it is in place.
    Partial,
    /// Put to sleep by hand.
    Sleeping,
}

/// A function's place.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionResidency {
    /// Which.
    #[serde(flatten)]
    pub key: FunctionKey,
    /// Nearest tier that holds its adapters; code and adapters lie on disk from the start.
    pub tier: Tier,
    /// What it is doing.
    pub state: State,
    /// Of its adapters, on the device.
    pub device_bytes: u64,
    /// Of its adapters and code, in host memory.
    pub host_bytes: u64,
    /// Calls that run on it.
    pub leases: u64,
    /// Calls that wait.
    pub waiting: u64,
    /// Nanoseconds since its last request, where there was one.
    pub idle_ns: Option<u64>,
    /// Never evicted.
    pub pinned: bool,
}

/// Memory of a tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TierResidency {
    /// Its budget.
    pub capacity: u64,
    /// Of it, taken.
    pub used: u64,
}

/// The device's memory by use, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DeviceUses {
    /// The backbone's copy that is needed.
    pub backbone: u64,
    /// Further copies, which private policies account for and this host does not make.
    pub duplicates: u64,
    /// Adapters.
    pub adapters: u64,
    /// Contexts and kernels.
    pub kernels: u64,
    /// KV pages promised.
    pub kv: u64,
    /// Leaving: taken until the last call lets go.
    pub leaving: u64,
}

/// What moved since the start. Keys are words with few values, fit for labels.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Loads by class, tier they came from and outcome: `adapter/disk/ok`.
    pub loads: BTreeMap<String, u64>,
    /// Evictions by class, tier they went to and reason: `adapter/host/keep-alive`.
    pub evictions: BTreeMap<String, u64>,
    /// Requests by the farthest class they waited for: `warm`, `adapter`, `backbone`, …
    pub cold_starts: BTreeMap<String, u64>,
    /// Nanoseconds that requests waited, by class.
    pub cold_ns: BTreeMap<String, u64>,
    /// Refusals by reason.
    pub refused: BTreeMap<String, u64>,
    /// Requests that came.
    pub arrived: u64,
    /// Requests handed to the engine.
    pub admitted: u64,
    /// Requests that ran and ended.
    pub ended: u64,
    /// Requests given up by their clients before they ran.
    pub cancelled: u64,
    /// Changes of policy.
    pub policies: u64,
    /// Bytes times seconds held, by tier: what memory cost.
    pub resident_byte_s: BTreeMap<String, u64>,
    /// Of these, while no call ran on what was held.
    pub idle_byte_s: BTreeMap<String, u64>,
}

pub(super) fn count(map: &mut BTreeMap<String, u64>, key: impl Into<String>, by: u64) {
    *map.entry(key.into()).or_default() += by;
}

/// A tier, in one word.
pub fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Remote => "remote",
        Tier::Disk => "disk",
        Tier::Host => "host",
        Tier::Device => "device",
    }
}

/// Everything at one time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Residency {
    /// The policy that decides.
    pub policy: String,
    /// Nanoseconds since the core started.
    pub at_ns: u64,
    /// Host memory.
    pub host: TierResidency,
    /// Device memory, evictions under way included.
    pub device: TierResidency,
    /// Device memory by use.
    pub uses: DeviceUses,
    /// Requests that wait for their function.
    pub waiting: u64,
    /// Requests that run.
    pub running: u64,
    /// Functions, in order of tenant and name.
    pub functions: Vec<FunctionResidency>,
    /// What moved.
    pub counters: Counters,
}

pub(super) fn look(core: &Core, functions: &Functions, now: Nanos, counters: &Counters) -> Residency {
    let mut seen = Residency {
        policy: core.config.name.clone(),
        at_ns: now.0,
        host: TierResidency::default(),
        device: TierResidency::default(),
        uses: DeviceUses::default(),
        waiting: 0,
        running: 0,
        functions: Vec::new(),
        counters: counters.clone(),
    };
    let mut staged = BTreeSet::new();
    for worker in core.workers().iter().filter(|worker| worker.alive) {
        seen.host.capacity += worker.host.0;
        seen.host.used += worker.host_used.0;
        staged.extend(worker.staged.iter().map(|(what, _)| *what));
    }
    for device in core.devices() {
        seen.device.capacity += device.capacity.0;
        seen.device.used += device.used.0;
        seen.uses.backbone += device.uses[uses::BASE];
        seen.uses.duplicates += device.uses[uses::DUPLICATES];
        seen.uses.adapters += device.uses[uses::ADAPTERS];
        seen.uses.kernels += device.uses[uses::KERNELS];
        seen.uses.kv += device.uses[uses::KV];
        seen.uses.leaving += device.evicting.0;
    }
    for instance in core.instances().iter().filter(|instance| instance.alive) {
        seen.running += u64::from(instance.running);
        seen.waiting += instance.load - u64::from(instance.running);
    }
    seen.waiting += core.functions().iter().map(|function| function.parked.len() as u64).sum::<u64>();
    seen.functions = functions
        .registered()
        .map(|(key, id)| of(core, key, id, staged.contains(&Staged::Adapter(id)), now))
        .collect();
    seen
}

/// Where a function stands on one instance: class in place, loading, running, waiting.
#[derive(Default)]
struct Standing {
    here: u64,
    adapter: bool,
    code: bool,
    loading: bool,
    running: u64,
    waiting: u64,
}

fn of(core: &Core, key: &FunctionKey, id: FunctionId, staged: bool, now: Nanos) -> FunctionResidency {
    let function = core.function(id);
    let mut at = Standing { waiting: function.parked.len() as u64, ..Standing::default() };
    for &i in &function.instances {
        let instance = core.instance(i);
        let here = |class: Class| instance.have[class as usize] == Place::Here;
        at.here = at.here.max(Class::ALL.into_iter().filter(|class| here(*class)).count() as u64);
        at.adapter |= here(Class::Adapter);
        at.code |= here(Class::Runtime);
        at.loading |= instance.loading();
        at.running += u64::from(instance.running);
        at.waiting += instance.queue.len() as u64;
    }
    for instance in core.instances().iter().filter(|i| i.alive && i.function.is_none()) {
        if let Some(slot) = instance.slots.get(&id) {
            at.adapter |= slot.here;
            at.here = if slot.here { Class::ALL.len() as u64 } else { at.here };
            at.loading |= !slot.here;
            at.running += u64::from(slot.users);
            at.waiting += slot.waiting.len() as u64;
        }
        at.waiting += instance.queue.iter().filter(|queued| queued.function == id).count() as u64;
    }
    let state = match at {
        _ if at.running > 0 => State::Running,
        _ if at.loading => State::Loading,
        _ if function.asleep => State::Sleeping,
        _ if at.here == Class::ALL.len() as u64 => State::Loaded,
        _ if at.here > 0 => State::Partial,
        _ => State::Unloaded,
    };
    let bytes = function.spec.adapter.0;
    let code = if at.code { function.spec.runtime.0 } else { 0 };
    FunctionResidency {
        key: key.clone(),
        tier: match (at.adapter, staged) {
            (true, _) => Tier::Device,
            (false, true) => Tier::Host,
            (false, false) => Tier::Disk,
        },
        state,
        device_bytes: if at.adapter { bytes } else { 0 },
        host_bytes: code + if staged { bytes } else { 0 },
        leases: at.running,
        waiting: at.waiting,
        idle_ns: function.arrivals.last().map(|last| now.saturating_sub(last).0),
        pinned: function.pinned,
    }
}
