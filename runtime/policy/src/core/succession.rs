//! Another policy takes over: everything in place leaves, everything that waits is routed anew, what runs goes on.
//!
//! Arrival rates, host memory and functions are kept. Memory of what runs counts as being evicted until the executor
//! reports it free, so the new policy never promises what is still in use. Numbers of old instances are not used again:
//! a late event about one of them is about nothing.

use super::Core;
use super::book::{Queued, uses};
use super::lifecycle::SHARED;
use crate::artifact::{Class, Tier};
use crate::config::PolicyConfig;
use crate::event::Action;
use crate::parts::sharing::Sharing;
use crate::units::{Bytes, DeviceId, InstanceId, Nanos, WorkerId};

impl Core {
    pub(super) fn policy_changed(&mut self, config: PolicyConfig) {
        let waiting = self.take_waiting();
        for n in 0..self.instances.len() {
            self.retire(InstanceId(n as u32));
        }
        for n in 0..self.devices.len() {
            self.clear(DeviceId(n as u32));
        }
        self.free_instances.clear();
        self.recheck.clear();
        self.wishes.clear();
        (self.device_left, self.replan_at, self.replicas_due) = (false, Nanos::NEVER, true);
        (self.sharing, self.exclusive) = (config.sharing.decide(), config.sharing.exclusive());
        self.config = config;
        for w in 0..self.workers.len() {
            self.fill_pool(WorkerId(w as u32));
        }
        self.ensure_replicas();
        for queued in waiting {
            self.take(queued);
        }
    }

    /// Everything that is queued or parked, oldest first.
    fn take_waiting(&mut self) -> Vec<Queued> {
        let mut waiting: Vec<Queued> = Vec::new();
        for instance in &mut self.instances {
            waiting.extend(instance.queue.drain(..));
            waiting.extend(instance.slots.values_mut().flat_map(|slot| slot.waiting.drain(..)));
        }
        self.parked.clear();
        for function in &mut self.functions {
            waiting.extend(function.parked.drain(..));
            function.parked_timer = false;
        }
        waiting.sort_by_key(|queued| (queued.arrival, queued.request));
        waiting
    }

    fn retire(&mut self, i: InstanceId) {
        let instance = &mut self.instances[i.index()];
        if !instance.alive {
            return;
        }
        let (d, b, running, load) = (instance.device, instance.backbone, instance.running, instance.load);
        let engine = instance.function.is_none() && instance.pool > Bytes::ZERO;
        instance.running = 0;
        instance.idle_slots.clear();
        let slots = std::mem::take(&mut instance.slots);
        self.devices[d.index()].active -= u64::from(running > 0);
        self.unload(i, load);
        self.backbones[b.index()].replicas.remove(&(0, i));
        for (f, slot) in slots {
            self.devices[d.index()].starting -= u64::from(!slot.here);
            let bytes = self.functions[f.index()].spec.adapter;
            self.leave(d, Some(i), Class::Adapter, uses::ADAPTERS, bytes);
        }
        if engine {
            let context = self.backbones[b.index()].spec.context;
            self.leave(d, Some(i), Class::Kernel, uses::KERNELS, context);
        }
        self.stop(i);
    }

    /// A device's shared backbones leave, and what requests hold that run on.
    fn clear(&mut self, d: DeviceId) {
        let shared: Vec<_> = self.devices[d.index()].shared.keys().copied().collect();
        shared.into_iter().for_each(|b| self.drop_shared(d, b));
        let kv = Bytes(self.devices[d.index()].uses[uses::KV]);
        if kv > Bytes::ZERO {
            self.leave(d, None, Class::Kernel, uses::KV, kv);
        }
        debug_assert!(!self.backbones.iter().any(|b| b.copies.contains(&(d, SHARED))), "all copies left");
    }

    fn leave(&mut self, d: DeviceId, instance: Option<InstanceId>, class: Class, from: usize, bytes: Bytes) {
        self.release_to_evicting(d, bytes, from);
        self.out.push(Action::Evict { instance, device: d, class, to: Tier::Disk, bytes });
    }
}
