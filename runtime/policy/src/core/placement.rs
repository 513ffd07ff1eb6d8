//! Where instances go: scores of instances and devices for one function.
//!
//! It starts nothing. Scans are over a function's instances (bounded by the scaling part) and, for a cold start only,
//! over devices; never over functions.

use super::Core;
use super::book::Place as At;
use super::book::Staged;
use crate::artifact::Class;
use crate::parts::eviction::EvictionPart;
use crate::parts::routing::{Place, Routing};
use crate::parts::sharing::SharingDecision;
use crate::units::{Bytes, DeviceId, FunctionId, InstanceId, Nanos};

/// Where an instance could go.
pub(super) struct Spot {
    pub(super) device: DeviceId,
    /// Estimated TTFT there.
    pub(super) estimate: Nanos,
    /// The idle instance that has the device and would have to stop.
    pub(super) holder: Option<InstanceId>,
}

impl Core {
    /// The function's best instance, its estimated TTFT, and the part of it that is queue and contention.
    pub(super) fn best_instance(&self, f: FunctionId) -> Option<(InstanceId, Nanos, Nanos)> {
        let instances = self.functions[f.index()].instances.iter().copied();
        let scored = instances.map(|i| {
            let (place, service) = self.view_instance(f, i);
            (self.config.routing.score(&place), i, place.estimate, service)
        });
        scored
            .min_by_key(|&(score, i, ..)| (score, i))
            .map(|(_, i, estimate, service)| (i, estimate, service))
    }

    fn view_instance(&self, f: FunctionId, i: InstanceId) -> (Place, Nanos) {
        let instance = &self.instances[i.index()];
        let spec = &self.functions[f.index()].spec;
        let here = |c: &Class| instance.have[*c as usize] == At::Here;
        let device = &self.devices[instance.device.index()];
        let others = device.active - u64::from(instance.running > 0);
        let service = spec.prefill(instance.queue.len() as u64 + 1).0.saturating_mul(others + 1);
        // Waiting counts against the margin once the instance is ready; before that it is the start that is awaited.
        let head = instance.queue.front().filter(|_| instance.missing().is_none());
        let waited = head.map_or(Nanos::ZERO, |q| self.now.saturating_sub(q.arrival));
        let service = service.saturating_add(waited.0);
        // What a load under way has done already is not ahead any more.
        let missing = instance.missing();
        let under_way = missing.filter(|&c| instance.have[c as usize] == At::Loading);
        let elapsed = under_way.map_or(Nanos::ZERO, |c| {
            self.now.saturating_sub(instance.stage_start(c)).min(spec.load[c as usize])
        });
        let start = spec.start_from(missing).saturating_sub(elapsed);
        let place = Place {
            present: Class::ALL.iter().filter(|c| here(c)).count() as u64,
            on_device: Class::ALL.iter().filter(|c| c.on_device() && here(c)).count() as u64,
            pending: instance.load,
            estimate: Nanos(start.0.saturating_add(service)),
        };
        (place, Nanos(service))
    }

    /// A device for a further instance beside one the function already has.
    pub(super) fn place_beside(&self, f: FunctionId, beside: InstanceId) -> Option<Spot> {
        let taken: Vec<DeviceId> =
            self.functions[f.index()].instances.iter().map(|i| self.instances[i.index()].device).collect();
        debug_assert!(taken.contains(&self.instances[beside.index()].device));
        self.place_on(f, &taken)
    }

    /// A device for the function's first instance and its estimated TTFT there.
    pub(super) fn place(&self, f: FunctionId) -> Option<Spot> {
        self.place_on(f, &[])
    }

    fn place_on(&self, f: FunctionId, not: &[DeviceId]) -> Option<Spot> {
        let mut best: Option<((bool, i64, usize, DeviceId), Nanos)> = None;
        for n in 0..self.devices.len() {
            let d = DeviceId(n as u32);
            if not.contains(&d) || !self.could_hold(f, d) {
                continue;
            }
            if self.exclusive && self.devices[n].exclusive.is_some() {
                continue;
            }
            let place = self.view_device(f, d);
            let fits = self.devices[n].free() >= self.need(f, d);
            let key = (!fits, self.config.routing.score(&place), self.devices[n].instances.len(), d);
            if best.as_ref().is_none_or(|(k, _)| key < *k) {
                best = Some((key, place.estimate));
            }
        }
        match best {
            Some(((.., device), estimate)) => Some(Spot { device, estimate, holder: None }),
            None if self.exclusive => self.take_over(f, not),
            None => None,
        }
    }

    /// The device of the instance idle the longest, which would have to stop.
    fn take_over(&self, f: FunctionId, not: &[DeviceId]) -> Option<Spot> {
        if matches!(self.config.eviction, EvictionPart::None {}) {
            return None;
        }
        let holders =
            self.devices.iter().enumerate().filter_map(|(n, d)| d.exclusive.map(|i| (DeviceId(n as u32), i)));
        let idle = holders
            .filter(|(d, i)| !not.contains(d) && self.instances[i.index()].idle() && self.could_hold(f, *d))
            .filter(|(_, i)| !self.instances[i.index()].function.is_some_and(|f| self.held_fast(f)));
        let (_, device, i) = idle.map(|(d, i)| (self.instances[i.index()].idle_since, d, i)).min()?;
        Some(Spot { device, estimate: self.view_device(f, device).estimate, holder: Some(i) })
    }

    fn could_hold(&self, f: FunctionId, d: DeviceId) -> bool {
        let spec = &self.functions[f.index()].spec;
        let whole = self.backbones[spec.backbone.index()].spec.weights + spec.adapter + spec.kernel;
        self.usable(self.devices[d.index()].capacity) >= whole
    }

    /// Device bytes a first instance needs there.
    fn need(&self, f: FunctionId, d: DeviceId) -> Bytes {
        let spec = &self.functions[f.index()].spec;
        let b = spec.backbone;
        let shared =
            self.sharing == SharingDecision::SharedWeights && self.devices[d.index()].shared.contains_key(&b);
        let weights = if shared { Bytes::ZERO } else { self.backbones[b.index()].spec.weights };
        weights + spec.adapter + spec.kernel
    }

    fn view_device(&self, f: FunctionId, d: DeviceId) -> Place {
        let spec = &self.functions[f.index()].spec;
        let (b, device) = (spec.backbone, &self.devices[d.index()]);
        let worker = &self.workers[device.worker.index()];
        let pooled =
            worker.pool.iter().any(|i| self.instances[i.index()].have[Class::Container as usize] == At::Here);
        let mapped =
            self.sharing == SharingDecision::SharedWeights && device.shared.get(&b).is_some_and(|s| s.here);
        let staged = worker.staged.iter().any(|(s, _)| *s == Staged::Backbone(b));
        let mut start = spec.start_from(Some(Class::Container));
        if pooled {
            start = start.saturating_sub(spec.load[Class::Container as usize]);
        }
        if mapped {
            start = start.saturating_sub(spec.load[Class::Backbone as usize]);
        } else if staged {
            start = start.saturating_sub(spec.load[Class::Backbone as usize]) + spec.backbone_from_host;
        }
        let service = spec.prefill(1).0.saturating_mul(device.active + 1);
        Place {
            present: u64::from(pooled) + u64::from(mapped),
            on_device: u64::from(mapped),
            pending: device.pending,
            estimate: Nanos(start.0.saturating_add(service)),
        }
    }
}
