//! Memory: reserving it, making room by eviction, giving it back, and waking who waited.
//!
//! Nothing in use is ever a candidate: only idle instances lose artifacts, dependants first.

use super::Core;
use super::book::{Place, Staged, uses};
use crate::artifact::{Class, Tier};
use crate::config::Loader;
use crate::event::Action;
use crate::parts::eviction::{Candidate, Eviction, EvictionPart};
use crate::parts::sharing::SharingDecision;
use crate::units::{Bytes, DeviceId, InstanceId, Nanos, WorkerId};

/// What a reservation may do to succeed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Evict what the eviction part lets go, for this instance's queue.
    Evict(InstanceId),
    /// Evict only what is worth less than this.
    Displace(u64),
    /// Take free memory only.
    Free,
}

impl Core {
    /// Takes `bytes` of a device for a use; on failure nothing is taken (evictions may be under way).
    pub(super) fn reserve(&mut self, d: DeviceId, bytes: Bytes, to: usize, room: Room) -> bool {
        if self.devices[d.index()].free() < bytes {
            let missing = bytes - self.devices[d.index()].free();
            let pending = self.devices[d.index()].evicting;
            if room == Room::Free || pending >= missing || !self.make_room(d, missing - pending, room) {
                return false;
            }
            if self.devices[d.index()].free() < bytes {
                return false;
            }
        }
        let device = &mut self.devices[d.index()];
        device.used += bytes;
        device.uses[to] += bytes.0;
        self.mark(d);
        true
    }

    /// Gives back what [`Core::reserve`] took. Call [`Core::wake`] when done.
    pub(super) fn release(&mut self, d: DeviceId, bytes: Bytes, from: usize) {
        let device = &mut self.devices[d.index()];
        device.used -= bytes;
        device.uses[from] = device.uses[from].saturating_sub(bytes.0);
        self.mark(d);
    }

    /// Lets instances that wait for memory try again: first those that only need KV (what they finish frees memory),
    /// then those that load, each by the age of their oldest request. Loads do not overtake one another.
    pub(super) fn wake(&mut self, d: DeviceId) {
        if self.devices[d.index()].waiters.is_empty() {
            return;
        }
        let waiters = std::mem::take(&mut self.devices[d.index()].waiters);
        let key = |i: InstanceId| {
            let instance = &self.instances[i.index()];
            (instance.missing().is_some(), instance.queue.front().map(|q| q.arrival), i)
        };
        let mut order: Vec<_> = waiters.into_iter().map(key).collect();
        order.sort_unstable();
        let mut load_stuck = false;
        for (loads, _, i) in order {
            if !self.instances[i.index()].waiting_memory || (loads && load_stuck) {
                if self.instances[i.index()].waiting_memory {
                    self.devices[d.index()].waiters.push_back(i);
                }
                continue;
            }
            self.instances[i.index()].waiting_memory = false;
            self.advance(i);
            load_stuck |= loads && self.instances[i.index()].waiting_memory;
        }
    }

    pub(super) fn wait_for_memory(&mut self, i: InstanceId) {
        let instance = &mut self.instances[i.index()];
        if !instance.waiting_memory {
            instance.waiting_memory = true;
            self.devices[instance.device.index()].waiters.push_back(i);
        }
        self.watch_patience(i);
    }

    /// Evicts lowest score first until `missing` bytes are free or on their way out. Evicts nothing when that can't
    /// be reached, since half the room helps nobody.
    fn make_room(&mut self, d: DeviceId, missing: Bytes, room: Room) -> bool {
        let mut candidates = self.candidates(d, room);
        if let Room::Displace(limit) = room {
            candidates.retain(|c| c.0 < limit);
        }
        let all = candidates.iter().fold(Bytes::ZERO, |sum, c| sum + c.3);
        if all < missing {
            return false;
        }
        candidates.sort_unstable_by_key(|c| (c.0, std::cmp::Reverse(c.2), c.1));
        let mut freed = Bytes::ZERO;
        for (_, i, class, bytes) in candidates {
            if freed >= missing {
                break;
            }
            match i {
                Some(i) => self.evict(i, class),
                None => self.drop_unused_backbones(d),
            }
            freed += bytes;
        }
        freed >= missing
    }

    /// (score, instance, class, bytes of that class alone) of everything on a device that no running batch uses. An
    /// instance with requests of its own queued gives way only to an older request, and after all idle ones: the oldest
    /// request on a device can always make progress, so waiting instances never block each other for good. Scores rise from dependants
    /// to what they depend on within an instance, so that a greedy walk never takes an adapter before its kernels.
    fn candidates(&self, d: DeviceId, room: Room) -> Vec<(u64, Option<InstanceId>, Class, Bytes)> {
        let mut found = Vec::new();
        let asker = match room {
            Room::Evict(me) => self.instances[me.index()].queue.front().map(|q| (me, q.arrival)),
            _ => None,
        };
        let part = &self.config.eviction;
        for &i in &self.devices[d.index()].instances {
            let instance = &self.instances[i.index()];
            if !instance.alive || instance.running > 0 || instance.loading() {
                continue;
            }
            let queued = match (instance.queue.front(), asker) {
                (None, _) => false,
                (Some(head), Some((me, oldest))) if i != me && (head.arrival, i) > (oldest, me) => true,
                _ => continue,
            };
            let Some(f) = instance.function else { continue };
            let function = &self.functions[f.index()];
            let rate = function.arrivals.per_megasecond(self.now, self.rate_window());
            let mut floor = 0;
            for class in [Class::Kernel, Class::Adapter, Class::Backbone] {
                if instance.have[class as usize] != Place::Here {
                    continue;
                }
                let bytes = self.device_bytes(i, class);
                let saved = function.spec.load[class as usize];
                let seen = Candidate { saved, rate, bytes, idle_since: instance.idle_since };
                let Some(score) = part.score(&seen) else { continue };
                floor = if queued { u64::MAX } else { score.max(floor) };
                found.push((floor, Some(i), class, bytes));
            }
        }
        let unused = self.devices[d.index()].shared.iter().filter(|(_, s)| s.here && s.users == 0);
        let bytes = unused.fold(Bytes::ZERO, |sum, (b, _)| sum + self.backbones[b.index()].spec.weights);
        if bytes > Bytes::ZERO && !matches!(part, EvictionPart::None {}) {
            // Unused by any instance, so everything that depends on it is gone already.
            found.push((0, None, Class::Backbone, bytes));
        }
        found
    }

    /// Takes an idle instance's class and all that depends on it off its device. With shared weights, "the backbone" of
    /// an instance is its mapping; the copy itself goes when nobody maps it.
    pub(super) fn evict(&mut self, i: InstanceId, class: Class) {
        for c in [Class::Kernel, Class::Adapter, Class::Backbone] {
            if c >= class {
                let park = c == Class::Kernel && class == Class::Kernel && self.offloads_kernels();
                self.drop_class(i, c, park);
            }
        }
        if !self.instances[i.index()].queue.is_empty() {
            let d = self.instances[i.index()].device;
            self.instances[i.index()].ripe = false;
            self.devices[d.index()].ripe.retain(|&x| x != i);
            self.wait_for_memory(i);
        }
        self.wish(i);
    }

    fn offloads_kernels(&self) -> bool {
        matches!(self.config.eviction, EvictionPart::LowestDensity { offload_kernels: true })
    }

    /// Frees one class of an instance; `park` copies kernels to host memory instead of dropping them.
    pub(super) fn drop_class(&mut self, i: InstanceId, class: Class, park: bool) {
        let instance = &mut self.instances[i.index()];
        let (d, had) = (instance.device, instance.have[class as usize]);
        if had != Place::Here {
            if had == Place::Parked && !park {
                instance.have[class as usize] = Place::Absent;
            }
            return;
        }
        let parked = park && self.config.loader.host_cache;
        self.instances[i.index()].have[class as usize] = if parked { Place::Parked } else { Place::Absent };
        let bytes = self.device_bytes(i, class);
        let to = if parked { Tier::Host } else { Tier::Disk };
        match class {
            Class::Container | Class::Runtime => {
                if class == Class::Runtime {
                    self.free_host(i);
                }
                return;
            }
            Class::Backbone if self.sharing == SharingDecision::SharedWeights => {
                self.unmap_backbone(i);
                return;
            }
            Class::Backbone => {
                self.remove_copy(d, i);
            }
            Class::Adapter => self.release_to_evicting(d, bytes, uses::ADAPTERS),
            Class::Kernel => {
                self.release_to_evicting(d, bytes, uses::KERNELS);
                let pool = std::mem::take(&mut self.instances[i.index()].pool);
                if pool > Bytes::ZERO {
                    self.release(d, pool, uses::KV);
                }
            }
        }
        self.out.push(Action::Evict { instance: Some(i), device: d, class, to, bytes });
    }

    /// Bytes stay taken until the executor says the eviction is done.
    pub(super) fn release_to_evicting(&mut self, d: DeviceId, bytes: Bytes, from: usize) {
        let device = &mut self.devices[d.index()];
        device.uses[from] = device.uses[from].saturating_sub(bytes.0);
        device.evicting += bytes;
        self.mark(d);
    }

    pub(super) fn evict_done(&mut self, d: DeviceId, bytes: Bytes) {
        let device = &mut self.devices[d.index()];
        if device.capacity == Bytes::ZERO {
            return; // its worker is lost
        }
        device.evicting -= bytes;
        device.used -= bytes;
        self.mark(d);
        self.wake(d);
    }

    /// Device bytes of one class of an instance.
    pub(super) fn device_bytes(&self, i: InstanceId, class: Class) -> Bytes {
        let instance = &self.instances[i.index()];
        let function = instance.function.map(|f| &self.functions[f.index()].spec);
        match class {
            Class::Container | Class::Runtime => Bytes::ZERO,
            Class::Backbone if self.sharing == SharingDecision::SharedWeights => Bytes::ZERO,
            Class::Backbone => self.backbones[instance.backbone.index()].spec.weights,
            Class::Adapter => function.map_or(Bytes::ZERO, |f| f.adapter),
            Class::Kernel => function.map_or(Bytes::ZERO, |f| f.kernel),
        }
    }

    /// Registers a copy of a backbone: the fleet's first is its base, all others are duplicates.
    pub(super) fn add_copy(&mut self, d: DeviceId, i: InstanceId) {
        let (b, weights) = match i.0 {
            u32::MAX => unreachable!("shared copies are added by backbone"),
            _ => self.backbone_of(i),
        };
        self.add_copy_of(b, weights, d, i);
    }

    pub(super) fn add_copy_of(
        &mut self,
        b: crate::units::BackboneId,
        weights: Bytes,
        d: DeviceId,
        i: InstanceId,
    ) {
        let copies = &mut self.backbones[b.index()].copies;
        let before = copies.first().copied();
        copies.insert((d, i));
        if copies.first() == Some(&(d, i)) {
            self.retag(d, weights, uses::DUPLICATES, uses::BASE);
            if let Some((old, _)) = before {
                self.retag(old, weights, uses::BASE, uses::DUPLICATES);
            }
        }
    }

    /// Removes a copy and hands its bytes to eviction.
    pub(super) fn remove_copy(&mut self, d: DeviceId, i: InstanceId) {
        let (b, weights) = self.backbone_of(i);
        self.remove_copy_of(b, weights, d, i);
    }

    pub(super) fn remove_copy_of(
        &mut self,
        b: crate::units::BackboneId,
        weights: Bytes,
        d: DeviceId,
        i: InstanceId,
    ) {
        let copies = &mut self.backbones[b.index()].copies;
        let was_first = copies.first() == Some(&(d, i));
        copies.remove(&(d, i));
        let next = copies.first().copied();
        let from = if was_first { uses::BASE } else { uses::DUPLICATES };
        self.release_to_evicting(d, weights, from);
        if let (true, Some((heir, _))) = (was_first, next) {
            self.retag(heir, weights, uses::DUPLICATES, uses::BASE);
        }
    }

    pub(super) fn retag(&mut self, d: DeviceId, bytes: Bytes, from: usize, to: usize) {
        let device = &mut self.devices[d.index()];
        device.uses[from] -= bytes.0;
        device.uses[to] += bytes.0;
        self.mark(d);
    }

    /// Takes host memory, dropping staged weights as needed.
    pub(super) fn reserve_host(&mut self, w: WorkerId, bytes: Bytes) -> bool {
        let worker = &mut self.workers[w.index()];
        let staged = worker.staged.iter().fold(Bytes::ZERO, |sum, (_, b)| sum + *b);
        if worker.host.saturating_sub(worker.host_used) + staged < bytes {
            return false;
        }
        while worker.host.saturating_sub(worker.host_used) < bytes {
            let (_, freed) = worker.staged.pop_front().expect("staged bytes cover the need");
            worker.host_used -= freed;
        }
        worker.host_used += bytes;
        true
    }

    pub(super) fn free_host(&mut self, i: InstanceId) {
        let instance = &self.instances[i.index()];
        let Some(f) = instance.function else { return };
        let w = self.devices[instance.device.index()].worker;
        let bytes = self.functions[f.index()].spec.runtime;
        if self.workers[w.index()].alive {
            self.workers[w.index()].host_used -= bytes;
        }
    }

    /// Where a load of these weights starts, and remembers that they pass through host memory.
    pub(super) fn stage(&mut self, w: WorkerId, what: Staged, bytes: Bytes) -> Tier {
        let Loader { host_cache, .. } = self.config.loader;
        let worker = &mut self.workers[w.index()];
        if worker.staged.iter().any(|(s, _)| *s == what) {
            return Tier::Host;
        }
        if host_cache && worker.host.saturating_sub(worker.host_used) >= bytes {
            worker.host_used += bytes;
            worker.staged.push_back((what, bytes));
        }
        Tier::Disk
    }

    /// What an instance may use of a device.
    pub(super) fn usable(&self, capacity: Bytes) -> Bytes {
        let permille = u128::from(self.config.engine.memory_permille);
        Bytes((u128::from(capacity.0) * permille / 1000) as u64)
    }

    pub(super) fn rate_window(&self) -> Nanos {
        use crate::parts::preload::Preload;
        match self.config.preload.window() {
            Nanos::ZERO => Nanos(600_000_000_000), // parts without a rate still rank victims by ten minutes of arrivals
            window => window,
        }
    }
}
