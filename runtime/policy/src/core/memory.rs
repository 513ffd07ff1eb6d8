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
use crate::units::{BackboneId, Bytes, DeviceId, InstanceId, Nanos, WorkerId};
use std::collections::{BTreeMap, BTreeSet};

/// What a reservation may do to succeed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Evict what the eviction part lets go.
    Evict,
    /// Evict only what is worth less than this, and nothing of the instance that asks.
    Displace(u64, InstanceId),
    /// Take free memory only.
    Free,
}

/// What can leave: a class of one instance, or a backbone that several map. Later ones go first at equal scores.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Shared(BackboneId),
    Own(Class, InstanceId),
}

struct Leaving {
    score: u64,
    victim: Victim,
    bytes: Bytes,
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

    /// Lets instances that wait for memory try again, oldest first; stops at the first that still can't. Who can't for
    /// as long as others are pinned is passed over.
    pub(super) fn wake(&mut self, d: DeviceId) {
        for _ in 0..self.devices[d.index()].waiters.len() {
            let waiters = &self.devices[d.index()].waiters;
            let Some(at) = waiters.iter().position(|&i| !self.shut_out(i)) else { return };
            let i = self.devices[d.index()].waiters.remove(at).expect("just found");
            if !self.instances[i.index()].waiting_memory || self.instances[i.index()].device != d {
                continue;
            }
            self.instances[i.index()].waiting_memory = false;
            let outer = self.waking.replace(d);
            self.advance(i);
            self.waking = outer;
            if self.instances[i.index()].waiting_memory {
                // It is the oldest, so a large need is not starved by small ones.
                return;
            }
        }
    }

    pub(super) fn wait_for_memory(&mut self, i: InstanceId) {
        if !self.instances[i.index()].waiting_memory {
            self.instances[i.index()].waiting_memory = true;
            // Oldest request first: an order that progress does not change, so that no two take turns at evicting.
            let age = |i: InstanceId| (self.instances[i.index()].queue.front().map(|q| q.arrival), i);
            let d = self.instances[i.index()].device;
            let at = self.devices[d.index()].waiters.partition_point(|&w| age(w) < age(i));
            let waiters = &mut self.devices[d.index()].waiters;
            waiters.insert(at, i);
            if waiters.len() > 1 && self.waking.is_none() {
                self.recheck.insert(d); // who waits before it may now take what it holds
            }
        }
        self.watch_patience(i);
    }

    /// Whether what pinned functions hold leaves no room for an instance that waits, whatever else goes: who waits
    /// behind it must not wait for an operator.
    fn shut_out(&self, i: InstanceId) -> bool {
        let instance = &self.instances[i.index()];
        let Some(f) = instance.function.filter(|_| instance.waiting_memory && !self.pins.is_empty()) else {
            return false;
        };
        let (d, w) = (instance.device, self.devices[instance.device.index()].worker);
        let kv = instance.queue.front().map_or(Bytes::ZERO, |head| head.kv);
        let mut device = Class::ALL.into_iter().fold(kv, |sum, c| sum + self.device_bytes(i, c));
        let mut host = self.functions[f.index()].spec.runtime;
        let mut mapped = BTreeSet::from([instance.backbone]);
        let pinned = self.pins.iter().flat_map(|p| &self.functions[p.index()].instances);
        for &j in pinned.filter(|&&j| j != i) {
            let other = &self.instances[j.index()];
            let held = |c: &Class| matches!(other.have[*c as usize], Place::Here | Place::Loading);
            if self.devices[other.device.index()].worker == w && held(&Class::Runtime) {
                host += other.function.map_or(Bytes::ZERO, |p| self.functions[p.index()].spec.runtime);
            }
            if other.device == d {
                device = Class::ALL.into_iter().filter(held).fold(device, |s, c| s + self.device_bytes(j, c));
                mapped.extend(held(&Class::Backbone).then_some(other.backbone));
            }
        }
        if self.sharing == SharingDecision::SharedWeights {
            device = mapped.iter().fold(device, |sum, b| sum + self.backbones[b.index()].spec.weights);
        }
        device > self.devices[d.index()].capacity || host > self.workers[w.index()].host
    }

    /// Evicts lowest score first until `missing` bytes are free or on their way out. Evicts nothing when that can't
    /// be reached, since half the room helps nobody.
    fn make_room(&mut self, d: DeviceId, missing: Bytes, room: Room) -> bool {
        if !self.could_free(d, missing, room) {
            return false;
        }
        let mut candidates = self.candidates(d, room);
        let all = candidates.iter().fold(Bytes::ZERO, |sum, c| sum + c.bytes);
        if all < missing {
            return false;
        }
        candidates.sort_unstable_by_key(|c| (c.score, std::cmp::Reverse(c.victim)));
        let mut freed = Bytes::ZERO;
        for c in candidates {
            if freed >= missing {
                break;
            }
            match c.victim {
                Victim::Shared(b) => self.evict_shared(d, b),
                Victim::Own(class, i) => self.evict(i, class),
            }
            freed += c.bytes;
        }
        freed >= missing
    }

    /// Whether all that may leave at all is enough: a cheap bound before anything is scored, since a full device is
    /// asked again and again.
    fn could_free(&self, d: DeviceId, missing: Bytes, room: Room) -> bool {
        if matches!(self.config.eviction, EvictionPart::None {}) {
            return false;
        }
        let device = &self.devices[d.index()];
        let shared = device.shared.iter().filter(|(_, s)| s.here);
        let mut most = shared.fold(Bytes::ZERO, |sum, (b, _)| sum + self.backbones[b.index()].spec.weights);
        // A copy that a running instance maps can't leave: then only what instances own counts.
        if device.active > 0 && self.backbones.len() == 1 {
            most = Bytes::ZERO;
        }
        for &i in &device.instances {
            if most >= missing {
                return true;
            }
            if self.may_lose(i, d, room) {
                let held = |c: &Class| self.here(i, *c);
                let owned = [Class::Kernel, Class::Adapter, Class::Backbone].into_iter().filter(held);
                most = owned.fold(most, |sum, c| sum + self.device_bytes(i, c));
            }
        }
        most >= missing
    }

    /// What may leave a device, and what leaving frees. Scores rise from dependants to what they depend on, so that a
    /// greedy walk never takes an adapter before its kernels, nor a shared backbone before what is mapped onto it.
    fn candidates(&self, d: DeviceId, room: Room) -> Vec<Leaving> {
        let mut found = Vec::new();
        let part = &self.config.eviction;
        let shares = self.sharing == SharingDecision::SharedWeights;
        let mut users: BTreeMap<BackboneId, (u32, u64, Nanos)> = BTreeMap::new();
        for &i in &self.devices[d.index()].instances {
            let instance = &self.instances[i.index()];
            let Some(f) = instance.function.filter(|_| self.may_lose(i, d, room)) else { continue };
            let function = &self.functions[f.index()];
            let rate = function.arrivals.per_megasecond(self.now, self.rate_window());
            let (mut floor, idle_since) = (0, instance.idle_since);
            for class in [Class::Kernel, Class::Adapter, Class::Backbone] {
                if instance.have[class as usize] != Place::Here || (shares && class == Class::Backbone) {
                    continue;
                }
                let bytes = self.device_bytes(i, class);
                let saved = function.spec.load[class as usize];
                let Some(score) = part.score(&Candidate { saved, rate, bytes, idle_since }) else { continue };
                floor = score.max(floor);
                found.push(Leaving { score: floor, victim: Victim::Own(class, i), bytes });
            }
            if shares && instance.have[Class::Backbone as usize] == Place::Here {
                let (n, top, since) = users.entry(instance.backbone).or_default();
                (*n, *top, *since) = (*n + 1, floor.max(*top), idle_since.max(*since));
            }
        }
        for (&b, shared) in self.devices[d.index()].shared.iter().filter(|(_, s)| s.here) {
            let (idle, floor, since) = users.get(&b).copied().unwrap_or_default();
            if idle != shared.users {
                continue; // some user needs it
            }
            let backbone = &self.backbones[b.index()];
            let seen = Candidate {
                saved: backbone.load,
                rate: backbone.arrivals.per_megasecond(self.now, self.rate_window()),
                bytes: backbone.spec.weights,
                idle_since: since.max(shared.idle_since),
            };
            if let Some(score) = part.score(&seen) {
                found.push(Leaving { score: score.max(floor), victim: Victim::Shared(b), bytes: seen.bytes });
            }
        }
        if let Room::Displace(limit, _) = room {
            found.retain(|c| c.score < limit);
        }
        found
    }

    /// Whether an instance has no use for what it holds that counts against this need: idle, or itself waiting for
    /// memory behind the one that is woken (else two that each hold half would wait for each other).
    fn may_lose(&self, i: InstanceId, d: DeviceId, room: Room) -> bool {
        let instance = &self.instances[i.index()];
        let claims = matches!(room, Room::Displace(_, claimant) if claimant == i);
        let behind = self.waking == Some(d) && instance.waiting_memory;
        let free = instance.idle() || (behind && instance.running == 0 && !instance.loading());
        let pinned = instance.function.is_some_and(|f| self.held_fast(f));
        instance.alive && free && !claims && !pinned
    }

    fn evict_shared(&mut self, d: DeviceId, b: BackboneId) {
        for i in self.devices[d.index()].instances.clone() {
            if self.instances[i.index()].backbone == b && self.here(i, Class::Backbone) {
                self.evict(i, Class::Backbone);
            }
        }
        self.drop_shared(d, b);
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
        self.seat_parked();
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

    pub(super) fn add_copy_of(&mut self, b: BackboneId, weights: Bytes, d: DeviceId, i: InstanceId) {
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

    pub(super) fn remove_copy_of(&mut self, b: BackboneId, weights: Bytes, d: DeviceId, i: InstanceId) {
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

    /// Takes host memory for an instance's libraries, dropping staged weights as needed; `asked` also ends idle
    /// instances, in the eviction part's order.
    pub(super) fn reserve_host(&mut self, w: WorkerId, bytes: Bytes, asked: bool) -> bool {
        let missing = bytes.saturating_sub(self.host_room(w));
        if missing > Bytes::ZERO && !(asked && self.make_host_room(w, missing)) {
            return false;
        }
        let worker = &mut self.workers[w.index()];
        while worker.host.saturating_sub(worker.host_used) < bytes {
            let (_, freed) = worker.staged.pop_front().expect("staged bytes cover the need");
            worker.host_used -= freed;
        }
        worker.host_used += bytes;
        true
    }

    /// Host memory that is free or holds nothing but staged weights.
    fn host_room(&self, w: WorkerId) -> Bytes {
        let worker = &self.workers[w.index()];
        let staged = worker.staged.iter().fold(Bytes::ZERO, |sum, (_, b)| sum + *b);
        worker.host.saturating_sub(worker.host_used) + staged
    }

    fn make_host_room(&mut self, w: WorkerId, missing: Bytes) -> bool {
        let mut found = Vec::new();
        for &d in &self.workers[w.index()].devices {
            for &i in &self.devices[d.index()].instances {
                let instance = &self.instances[i.index()];
                let Some(f) = instance.function.filter(|_| instance.idle()) else { continue };
                if !self.here(i, Class::Runtime) || self.held_fast(f) {
                    continue;
                }
                let function = &self.functions[f.index()];
                let rate = function.arrivals.per_megasecond(self.now, self.rate_window());
                let (saved, bytes) =
                    (function.spec.start_from(Some(Class::Container)), function.spec.runtime);
                let seen = Candidate { saved, rate, bytes, idle_since: instance.idle_since };
                found.extend(self.config.eviction.score(&seen).map(|score| (score, i, bytes)));
            }
        }
        if found.iter().fold(Bytes::ZERO, |sum, c| sum + c.2) < missing {
            return false;
        }
        found.sort_unstable_by_key(|c| (c.0, c.1));
        let mut freed = Bytes::ZERO;
        for (_, i, bytes) in found {
            if freed >= missing {
                break;
            }
            self.stop(i);
            freed += bytes;
        }
        true
    }

    pub(super) fn free_host(&mut self, i: InstanceId) {
        let instance = &self.instances[i.index()];
        let Some(f) = instance.function else { return };
        let w = self.devices[instance.device.index()].worker;
        let bytes = self.functions[f.index()].spec.runtime;
        let worker = &mut self.workers[w.index()];
        if worker.alive {
            worker.host_used -= bytes;
            self.recheck
                .extend(worker.devices.iter().filter(|d| !self.devices[d.index()].waiters.is_empty()));
        }
    }

    /// Where a load of these weights starts, and remembers that they pass through host memory.
    pub(super) fn stage(&mut self, w: WorkerId, what: Staged, bytes: Bytes) -> Tier {
        let Loader { host_cache, .. } = self.config.loader;
        let worker = &mut self.workers[w.index()];
        if worker.staged.iter().any(|(s, _)| *s == what) {
            return Tier::Host;
        }
        if matches!(what, Staged::Adapter(_)) {
            // The host tier of adapters is bounded by count, as engines bound it; the oldest leaves.
            let adapters = |s: &(Staged, Bytes)| matches!(s.0, Staged::Adapter(_));
            let most = self.config.engine.host_adapters as usize;
            if most == 0 {
                return Tier::Disk;
            }
            if worker.staged.iter().filter(|s| adapters(s)).count() >= most {
                let oldest = worker.staged.iter().position(adapters).expect("there is one to leave");
                let (_, freed) = worker.staged.remove(oldest).expect("just found");
                worker.host_used -= freed;
            }
        }
        if host_cache && worker.host.saturating_sub(worker.host_used) >= bytes {
            worker.host_used += bytes;
            worker.staged.push_back((what, bytes));
        }
        Tier::Disk
    }

    /// Forgets a staged copy that is none: its load failed.
    pub(super) fn unstage(&mut self, w: WorkerId, what: Staged) {
        let worker = &mut self.workers[w.index()];
        if let Some(at) = worker.staged.iter().position(|(s, _)| *s == what) {
            let (_, bytes) = worker.staged.remove(at).expect("just found");
            worker.host_used -= bytes;
        }
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
