//! One-process engines: replicas started before the run, adapters in least-recently-used slots, requests to the replica
//! with least to do.
//!
//! Nothing here starts or stops with the load: that is what serverful means.

use super::Core;
use super::book::{Place, Queued, Slot, Span, Staged, uses};
use super::memory::Room;
use crate::artifact::{Class, Tier};
use crate::event::{Action, Refused};
use crate::parts::scaling::ScalingPart;
use crate::parts::sharing::SharingDecision;
use crate::units::{BackboneId, Bytes, DeviceId, FunctionId, InstanceId, Nanos};

impl Core {
    /// Starts the replicas a serverful policy wants, in order of backbones, on free devices.
    pub(super) fn ensure_replicas(&mut self) {
        if !self.replicas_due || self.sharing != SharingDecision::OneProcess {
            return;
        }
        self.replicas_due = false;
        let ScalingPart::Fixed { replicas } = self.config.scaling else { return };
        let (devices, backbones) = (self.devices.len(), self.backbones.len().max(1));
        let want = if replicas == 0 { devices.div_ceil(backbones) } else { replicas as usize };
        for round in 0..want {
            for b in 0..self.backbones.len() {
                if self.backbones[b].replicas.len() <= round {
                    self.start_replica(BackboneId(b as u32));
                }
            }
        }
    }

    fn start_replica(&mut self, b: BackboneId) {
        let spec = self.backbones[b.index()].spec.clone();
        let engine = &self.config.engine;
        let slots = Bytes(spec.slot.0.saturating_mul(u64::from(engine.adapter_slots)));
        let fixed = spec.weights + spec.context + slots;
        let free = self
            .devices
            .iter()
            .position(|d| d.exclusive.is_none() && d.used.0 == 0 && self.usable(d.capacity) > fixed);
        let Some(n) = free else { return };
        let d = DeviceId(n as u32);
        let pool = self.usable(self.devices[n].capacity) - fixed;
        let i = self.new_instance(d, b, None);
        self.devices[n].instances.push(i);
        self.devices[n].exclusive = Some(i);
        let taken = [(spec.weights, uses::DUPLICATES), (spec.context, uses::KERNELS), (pool, uses::KV)];
        for (bytes, to) in taken {
            let ok = self.reserve(d, bytes, to, Room::Free);
            debug_assert!(ok, "sized to the device");
        }
        self.add_copy(d, i);
        let instance = &mut self.instances[i.index()];
        instance.have = [Place::Here; 5];
        instance.pool = pool;
        self.backbones[b.index()].replicas.insert((0, i));
        self.out.push(Action::StartInstance { instance: i, device: d, function: None, ready: true });
    }

    pub(super) fn arrived_serverful(&mut self, queued: Queued) {
        let b = self.functions[queued.function.index()].spec.backbone;
        let Some(&(load, i)) = self.backbones[b.index()].replicas.first() else {
            if self.devices.iter().any(|d| d.evicting > Bytes::ZERO) {
                return self.park(queued); // a replica starts once what another policy left is gone
            }
            return self.refuse(queued.request, Refused::NoCapacity, Nanos::ZERO);
        };
        if queued.kv > self.instances[i.index()].pool {
            return self.refuse(queued.request, Refused::NoCapacity, Nanos::ZERO);
        }
        if self.room_to_run(queued.function) == 0 {
            return self.park_bounded(queued);
        }
        if load >= self.config.queue.limit {
            return self.refuse(queued.request, Refused::QueueFull, Nanos(1_000_000_000));
        }
        self.out.push(Action::Route { request: queued.request, instance: i });
        self.reload(i, |load| load + 1);
        if !self.seat(i, queued) {
            self.instances[i.index()].queue.push_back(queued);
            self.watch_patience(i);
        }
    }

    /// As many of a function run as may: the next one waits outside the replica's queue, where it is in nobody's way.
    fn park_bounded(&mut self, queued: Queued) {
        if self.functions[queued.function.index()].parked.len() as u64 >= self.config.queue.limit {
            return self.refuse(queued.request, Refused::QueueFull, Nanos(1_000_000_000));
        }
        self.park(queued);
    }

    /// Admits a request whose adapter is there, or lets it wait for a slot that loads; false when every slot is in use.
    fn seat(&mut self, i: InstanceId, queued: Queued) -> bool {
        let f = queued.function;
        let bytes = self.functions[f.index()].spec.adapter;
        if bytes == Bytes::ZERO {
            self.admit_one(i, queued);
            return true;
        }
        let instance = &mut self.instances[i.index()];
        if let Some(slot) = instance.slots.get_mut(&f) {
            if slot.users == 0 && slot.waiting.is_empty() && slot.here {
                instance.idle_slots.remove(&(slot.idle_since, f));
            }
            if slot.here {
                slot.users += 1;
                self.admit_one(i, queued);
            } else {
                slot.waiting.push(queued);
                self.watch_patience(i);
            }
            return true;
        }
        if instance.slots.len() >= self.config.engine.adapter_slots as usize && !self.evict_slot(i) {
            return false;
        }
        self.load_slot(i, queued);
        true
    }

    fn load_slot(&mut self, i: InstanceId, queued: Queued) {
        let f = queued.function;
        if !self.begin_slot(i, f, vec![queued]) {
            // A slot larger than planned for: the device has no room beside the pool.
            self.unload(i, 1);
            self.refuse(queued.request, Refused::NoCapacity, Nanos::ZERO);
        }
    }

    /// Starts the load of an adapter for who waits and whoever comes; false when the device has no room.
    fn begin_slot(&mut self, i: InstanceId, f: FunctionId, waiting: Vec<Queued>) -> bool {
        let (now, bytes) = (self.now, self.functions[f.index()].spec.adapter);
        let d = self.instances[i.index()].device;
        let w = self.devices[d.index()].worker;
        if !self.reserve(d, bytes, uses::ADAPTERS, Room::Free) {
            return false;
        }
        let from = self.stage(w, Staged::Adapter(f), bytes);
        let span = Span { class: Class::Adapter, start: now, end: Nanos::NEVER };
        let slot = Slot { here: false, users: 0, idle_since: now, waiting, span };
        self.instances[i.index()].slots.insert(f, slot);
        self.devices[d.index()].starting += 1;
        self.mark(d);
        self.watch_patience(i);
        self.out.push(Action::Load {
            instance: i,
            class: Class::Adapter,
            function: Some(f),
            from,
            to: Tier::Device,
            bytes,
        });
        true
    }

    /// Brings an adapter onto the replica with least to do, if a slot is free or idle.
    pub(super) fn warm_slot(&mut self, f: FunctionId) {
        self.ensure_replicas();
        let (b, bytes) = (self.functions[f.index()].spec.backbone, self.functions[f.index()].spec.adapter);
        let Some(&(_, i)) = self.backbones[b.index()].replicas.first() else { return };
        let slots = &self.instances[i.index()].slots;
        if bytes == Bytes::ZERO || slots.contains_key(&f) {
            return;
        }
        if slots.len() < self.config.engine.adapter_slots as usize || self.evict_slot(i) {
            self.begin_slot(i, f, Vec::new());
        }
    }

    /// Drops a function's idle adapters.
    pub(super) fn sleep_slots(&mut self, f: FunctionId) {
        let b = self.functions[f.index()].spec.backbone;
        let replicas: Vec<InstanceId> = self.backbones[b.index()].replicas.iter().map(|&(_, i)| i).collect();
        for i in replicas {
            let idle = self.instances[i.index()].idle_slots.iter().find(|(_, other)| *other == f).copied();
            idle.into_iter().for_each(|key| self.drop_slot(i, key));
        }
    }

    /// Requests that wait for slots of a backbone's replicas try again: what was pinned may leave.
    pub(super) fn seat_everywhere(&mut self, f: FunctionId) {
        let b = self.functions[f.index()].spec.backbone;
        let replicas: Vec<InstanceId> = self.backbones[b.index()].replicas.iter().map(|&(_, i)| i).collect();
        for i in replicas {
            self.seat_queued(i);
            self.watch_slots(i);
        }
    }

    /// Memory came free: a replica that had no device may start, and requests parked for it are seated.
    pub(super) fn seat_parked(&mut self) {
        if self.sharing != SharingDecision::OneProcess || self.parked.is_empty() {
            return;
        }
        self.replicas_due = true;
        self.ensure_replicas();
        let emptying = self.devices.iter().any(|d| d.evicting > Bytes::ZERO);
        if emptying && self.backbones.iter().all(|b| b.replicas.is_empty()) {
            return;
        }
        // Where no replica fits even on an empty device, they are refused here rather than kept waiting.
        for f in std::mem::take(&mut self.parked) {
            for queued in std::mem::take(&mut self.functions[f.index()].parked) {
                self.arrived_serverful(queued);
            }
        }
    }

    /// Frees the slot idle the longest; false when all are in use.
    fn evict_slot(&mut self, i: InstanceId) -> bool {
        let mut idle = self.instances[i.index()].idle_slots.iter();
        let Some(&key) = idle.find(|(_, f)| !self.held_fast(*f)) else { return false };
        self.drop_slot(i, key);
        true
    }

    fn drop_slot(&mut self, i: InstanceId, key: (Nanos, FunctionId)) {
        let f = key.1;
        let instance = &mut self.instances[i.index()];
        instance.idle_slots.remove(&key);
        instance.slots.remove(&f);
        let d = instance.device;
        let bytes = self.functions[f.index()].spec.adapter;
        // A slot is overwritten in place, so its memory is free at once.
        self.release(d, bytes, uses::ADAPTERS);
        self.out.push(Action::Evict {
            instance: Some(i),
            device: d,
            class: Class::Adapter,
            to: Tier::Host,
            bytes: Bytes::ZERO,
        });
    }

    fn admit_one(&mut self, i: InstanceId, queued: Queued) {
        let instance = &mut self.instances[i.index()];
        let d = instance.device;
        if instance.running == 0 {
            self.devices[d.index()].active += 1;
        }
        instance.running += 1;
        self.count_running(i, queued.function, 1);
        self.mark(d);
        self.out.push(Action::Admit { instance: i, batch: vec![(queued.request, Bytes::ZERO)] });
    }

    pub(super) fn adapter_loaded(&mut self, i: InstanceId, f: Option<FunctionId>) {
        let now = self.now;
        let Some(f) = f else { return };
        let instance = &mut self.instances[i.index()];
        let d = instance.device;
        let Some(slot) = instance.slots.get_mut(&f).filter(|s| !s.here) else { return };
        (slot.here, slot.span.end) = (true, now);
        let waiting = std::mem::take(&mut slot.waiting);
        slot.users = waiting.len() as u32;
        if waiting.is_empty() {
            slot.idle_since = now;
            instance.idle_slots.insert((now, f));
        }
        self.watch_slots(i);
        self.devices[d.index()].starting -= 1;
        self.mark(d);
        waiting.into_iter().for_each(|q| self.admit_one(i, q));
        self.free_removed(i, f);
        self.seat_queued(i);
    }

    pub(super) fn adapter_failed(&mut self, i: InstanceId, f: Option<FunctionId>) {
        let Some(f) = f else { return };
        let instance = &mut self.instances[i.index()];
        let d = instance.device;
        if instance.slots.get(&f).is_none_or(|s| s.here) {
            return;
        }
        let slot = instance.slots.remove(&f).expect("just seen");
        self.devices[d.index()].starting -= 1;
        self.unstage(self.devices[d.index()].worker, Staged::Adapter(f));
        let bytes = self.functions[f.index()].spec.adapter;
        self.release(d, bytes, uses::ADAPTERS);
        self.unload(i, slot.waiting.len() as u64);
        slot.waiting.iter().for_each(|q| self.refuse(q.request, Refused::Failed, Nanos(1_000_000_000)));
        self.seat_queued(i);
    }

    /// A removed function's requests leave a replica, and its adapter once idle.
    pub(super) fn unseat(&mut self, i: InstanceId, f: FunctionId) {
        let instance = &mut self.instances[i.index()];
        let mut gone: Vec<Queued> = instance.queue.iter().filter(|q| q.function == f).copied().collect();
        instance.queue.retain(|q| q.function != f);
        if let Some(slot) = instance.slots.get_mut(&f) {
            gone.append(&mut slot.waiting);
        }
        self.unload(i, gone.len() as u64);
        gone.iter().for_each(|q| self.refuse(q.request, Refused::NoFunction, Nanos::ZERO));
        self.free_removed(i, f);
        self.seat_queued(i);
    }

    /// Drops the idle adapter of a function that was removed.
    fn free_removed(&mut self, i: InstanceId, f: FunctionId) {
        let instance = &self.instances[i.index()];
        let idle = instance.slots.get(&f).filter(|s| s.here && s.users == 0);
        let idle = idle.map(|s| (s.idle_since, f)).filter(|key| instance.idle_slots.contains(key));
        if let Some(key) = idle.filter(|_| !self.functions[f.index()].alive) {
            self.drop_slot(i, key);
        }
    }

    /// A replica went with its worker: the next arrival starts another, if a device is free.
    pub(super) fn replica_lost(&mut self, i: InstanceId) {
        let instance = &mut self.instances[i.index()];
        let (b, load) = (instance.backbone, instance.load);
        instance.slots.clear();
        instance.idle_slots.clear();
        self.backbones[b.index()].replicas.remove(&(load, i));
        self.replicas_due = true;
    }

    pub(super) fn done_serverful(&mut self, i: InstanceId, f: FunctionId) {
        let now = self.now;
        let instance = &mut self.instances[i.index()];
        if let Some(slot) = instance.slots.get_mut(&f) {
            slot.users = slot.users.saturating_sub(1);
            if slot.users == 0 && slot.waiting.is_empty() {
                slot.idle_since = now;
                instance.idle_slots.insert((now, f));
            }
        }
        self.watch_slots(i);
        self.free_removed(i, f);
        self.seat_queued(i);
    }

    /// Queued requests take slots as they come free, first come first served.
    pub(super) fn seat_queued(&mut self, i: InstanceId) {
        while let Some(&head) = self.instances[i.index()].queue.front() {
            if !self.seat(i, head) {
                break;
            }
            self.instances[i.index()].queue.pop_front();
        }
        self.seat_bounded();
    }

    /// Drops the adapters of functions whose own keep-alive is over; the others stay until a slot is needed.
    pub(super) fn slots_due(&mut self, i: InstanceId) {
        let now = self.now;
        let idle = self.instances[i.index()].idle_slots.iter().copied();
        let due: Vec<_> = idle.filter(|key| self.slot_due(key).is_some_and(|due| due <= now)).collect();
        due.into_iter().for_each(|key| self.drop_slot(i, key));
        self.watch_slots(i);
    }

    /// When an idle adapter is to go for its function's own keep-alive.
    fn slot_due(&self, &(since, f): &(Nanos, FunctionId)) -> Option<Nanos> {
        let keep = self.functions[f.index()].spec.keep_alive.filter(|_| !self.held_fast(f))?;
        Some(Nanos(since.0.saturating_add(keep.0)))
    }

    fn watch_slots(&mut self, i: InstanceId) {
        let next = self.instances[i.index()].idle_slots.iter().filter_map(|key| self.slot_due(key)).min();
        if let Some(due) = next {
            self.keep_alive_timer(i, due.max(self.now));
        }
    }
}
