//! Numbers for the core: functions by id, and what it is told of each.
//!
//! Ids are given in order and never used again; a generation that comes back after its removal is a new function.

use super::seam::{FunctionInfo, FunctionKey};
use coldframe_policy::spec::FunctionSpec;
use coldframe_policy::units::{BackboneId, Bytes, FunctionId, Nanos};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Times and rates of this machine, measured: they serve decisions only, never bills.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimates {
    /// Mapping the backbone when its files are not in memory.
    pub backbone: Duration,
    /// Mapping it when they are.
    pub backbone_from_host: Duration,
    /// An adapter's bytes on disk that are read, checked and packed in a second.
    pub adapter_bytes_per_s: u64,
    /// Bytes of a component that are made ready in a second.
    pub module_bytes_per_s: u64,
    /// TTFT of a batch of one usual prompt.
    pub t0: Duration,
    /// TTFT added by each further one.
    pub alpha: Duration,
    /// TTFT promised where a function names none.
    pub slo_ttft: Duration,
}

/// See the module.
#[derive(Default)]
pub(super) struct Functions {
    infos: Vec<Arc<FunctionInfo>>,
    ids: BTreeMap<FunctionKey, FunctionId>,
}

impl Functions {
    pub(super) fn id(&self, key: &FunctionKey) -> Option<FunctionId> {
        self.ids.get(key).copied()
    }

    pub(super) fn info(&self, id: FunctionId) -> &Arc<FunctionInfo> {
        &self.infos[id.index()]
    }

    /// Ids by key, those that are registered now.
    pub(super) fn registered(&self) -> impl Iterator<Item = (&FunctionKey, FunctionId)> {
        self.ids.iter().map(|(key, &id)| (key, id))
    }

    /// The next id, and what the core is to be told.
    pub(super) fn add(&mut self, info: FunctionInfo, estimates: &Estimates) -> (FunctionId, FunctionSpec) {
        let id = FunctionId(self.infos.len() as u32);
        let spec = spec(&info, estimates);
        self.ids.insert(info.key.clone(), id);
        self.infos.push(Arc::new(info));
        (id, spec)
    }

    pub(super) fn remove(&mut self, key: &FunctionKey) -> Option<FunctionId> {
        self.ids.remove(key)
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn moving(bytes: u64, per_second: u64) -> Nanos {
    let ns = u128::from(bytes) * 1_000_000_000 / u128::from(per_second.max(1));
    Nanos(u64::try_from(ns).unwrap_or(u64::MAX))
}

fn spec(info: &FunctionInfo, estimates: &Estimates) -> FunctionSpec {
    let generation = info.generation.as_deref();
    let module =
        generation.and_then(|generation| generation.module.as_ref()).map_or(0, |module| module.bytes);
    let adapters = generation.iter().flat_map(|generation| &generation.adapters);
    let disk: u64 = adapters.map(|adapter| adapter.disk_bytes).sum();
    let settings = generation.map(|generation| &generation.settings);
    let slo = settings.and_then(|own| own.slo_ttft_ms).map(Duration::from_millis);
    FunctionSpec {
        backbone: info.backbone,
        adapter: Bytes(info.adapter_bytes()),
        runtime: Bytes(module),
        kernel: Bytes::ZERO,
        slo_ttft: nanos(slo.unwrap_or(estimates.slo_ttft)),
        t0: nanos(estimates.t0),
        alpha: nanos(estimates.alpha),
        load: [
            moving(module, estimates.module_bytes_per_s),
            Nanos::ZERO,
            nanos(estimates.backbone),
            moving(disk, estimates.adapter_bytes_per_s),
            Nanos::ZERO,
        ],
        backbone_from_host: nanos(estimates.backbone_from_host),
        keep_alive: settings.and_then(|own| own.keep_alive_s).map(|s| nanos(Duration::from_secs(s))),
        max_concurrency: settings.and_then(|own| own.max_concurrency),
    }
}

/// Finds a backbone by the name of the server's configuration.
pub(super) fn backbone_named(names: &[String], name: &str) -> Option<BackboneId> {
    names.iter().position(|known| known == name).map(|at| BackboneId(at as u32))
}
