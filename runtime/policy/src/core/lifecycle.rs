//! Instances from nothing to ready and back: stages in load order, keep-alive, stop.
//!
//! A request and the pre-loading plan walk the same chain; they differ in how far and in what they may evict.

use super::Core;
use super::book::{Instance, Place, Shared, Span, Staged, uses};
use super::memory::Room;
use crate::artifact::{Class, Tier};
use crate::event::{Action, Refused, Timer};
use crate::parts::eviction::EvictionPart;
use crate::parts::keep_alive::KeepAlive;
use crate::parts::preload::Preload;
use crate::parts::sharing::SharingDecision;
use crate::rate::Arrivals;
use crate::units::{BackboneId, Bytes, DeviceId, FunctionId, InstanceId, Nanos, WorkerId};

/// Marks a copy that belongs to the device, not to one instance.
pub(super) const SHARED: InstanceId = InstanceId(u32::MAX);

impl Core {
    pub(super) fn new_instance(&mut self, d: DeviceId, b: BackboneId, f: Option<FunctionId>) -> InstanceId {
        let fresh = Instance::new(d, b, f, self.now);
        let i = match self.free_instances.pop() {
            Some(i) => {
                self.instances[i.index()] = fresh;
                i
            }
            None => {
                self.instances.push(fresh);
                InstanceId(self.instances.len() as u32 - 1)
            }
        };
        if let Some(f) = f {
            self.bind(i, f, d);
        }
        i
    }

    fn bind(&mut self, i: InstanceId, f: FunctionId, d: DeviceId) {
        self.functions[f.index()].instances.push(i);
        let device = &mut self.devices[d.index()];
        device.instances.push(i);
        if self.exclusive {
            device.exclusive = Some(i);
            self.mark(d);
        }
    }

    /// An instance for a function on a device: a pooled container if one is warm, else from nothing.
    pub(super) fn start(&mut self, f: FunctionId, d: DeviceId) -> InstanceId {
        let w = self.devices[d.index()].worker;
        let b = self.functions[f.index()].spec.backbone;
        let warm = |i: &&InstanceId| self.instances[i.index()].have[Class::Container as usize] == Place::Here;
        let pooled = self.workers[w.index()].pool.iter().find(warm).copied();
        let i = match pooled {
            Some(i) => {
                self.workers[w.index()].pool.retain(|&p| p != i);
                let instance = &mut self.instances[i.index()];
                (instance.function, instance.backbone, instance.device) = (Some(f), b, d);
                instance.idle_since = self.now;
                self.bind(i, f, d);
                i
            }
            None => self.new_instance(d, b, Some(f)),
        };
        self.out.push(Action::StartInstance { instance: i, device: d, function: Some(f), ready: false });
        self.fill_pool(w);
        i
    }

    /// Starts generic containers until the pool is full.
    pub(super) fn fill_pool(&mut self, w: WorkerId) {
        let want = self.config.preload.container_pool() as usize;
        while self.workers[w.index()].alive && self.workers[w.index()].pool.len() < want {
            let Some(&d) = self.workers[w.index()].devices.first() else { return };
            let i = self.new_instance(d, BackboneId(0), None);
            self.instances[i.index()].goal = Some(Class::Container);
            self.workers[w.index()].pool.push(i);
            self.out.push(Action::StartInstance { instance: i, device: d, function: None, ready: false });
            self.load(i, Class::Container, Tier::Disk, Tier::Host, Bytes::ZERO);
        }
    }

    /// Brings in what is missing, as far as a waiting request or the goal asks; dispatches when all is there.
    pub(super) fn advance(&mut self, i: InstanceId) {
        if !self.instances[i.index()].alive || self.instances[i.index()].waiting_memory {
            return;
        }
        for class in Class::ALL {
            let instance = &self.instances[i.index()];
            match instance.have[class as usize] {
                Place::Here => continue,
                Place::Loading if class == Class::Runtime && self.config.loader.overlap => continue,
                Place::Loading => return,
                Place::Absent | Place::Parked => {}
            }
            if class > Class::Backbone && !self.here(i, Class::Runtime) {
                return; // only the backbone overlaps the libraries: the others are made with them
            }
            let instance = &self.instances[i.index()];
            let asked = !instance.queue.is_empty();
            if !asked && instance.goal.is_none_or(|goal| class > goal) {
                self.rest(i);
                return;
            }
            if !self.begin(i, class, asked) {
                return;
            }
            let overlaps = class == Class::Runtime && self.config.loader.overlap;
            if !overlaps && !self.here(i, class) {
                return;
            }
        }
        self.dispatch(i);
    }

    /// Begins one stage; false when it has to wait for memory.
    fn begin(&mut self, i: InstanceId, class: Class, asked: bool) -> bool {
        let warming = self.instances[i.index()].warming;
        let room = match (asked, self.config.preload.displaces()) {
            (true, _) => Room::Evict,
            (false, _) if warming => Room::Displace(u64::MAX, i),
            (false, true) => Room::Displace(self.wish_value(i, class).unwrap_or(0), i),
            (false, false) => Room::Free,
        };
        let instance = &self.instances[i.index()];
        let (d, b) = (instance.device, instance.backbone);
        let w = self.devices[d.index()].worker;
        let f = instance.function;
        let bytes = self.device_bytes(i, class);
        let ok = match class {
            Class::Container => true,
            Class::Runtime => {
                let bytes = f.map_or(Bytes::ZERO, |f| self.functions[f.index()].spec.runtime);
                self.reserve_host(w, bytes, asked || warming)
            }
            Class::Backbone if self.sharing == SharingDecision::SharedWeights => {
                return self.map_backbone(i, room, asked);
            }
            Class::Backbone => self.reserve(d, bytes, uses::DUPLICATES, room),
            Class::Adapter => self.reserve(d, bytes, uses::ADAPTERS, room),
            Class::Kernel => self.reserve_kernels(i, bytes, room),
        };
        if !ok {
            return self.blocked(i, asked);
        }
        let (from, to, bytes) = match (class, f) {
            (Class::Container | Class::Runtime, _) => (Tier::Disk, Tier::Host, Bytes::ZERO),
            (Class::Backbone, _) => {
                self.add_copy(d, i);
                (self.stage(w, Staged::Backbone(b), bytes), Tier::Device, bytes)
            }
            (Class::Adapter, Some(f)) => (self.stage(w, Staged::Adapter(f), bytes), Tier::Device, bytes),
            (Class::Adapter, None) => (Tier::Disk, Tier::Device, bytes),
            (Class::Kernel, _) if self.instances[i.index()].have[class as usize] == Place::Parked => {
                (Tier::Host, Tier::Device, bytes)
            }
            (Class::Kernel, _) => (Tier::Disk, Tier::Device, bytes),
        };
        self.load(i, class, from, to, bytes);
        true
    }

    /// The process' own memory and, for an engine that pages its KV, the pool: all the policy lets it use of its device.
    fn reserve_kernels(&mut self, i: InstanceId, bytes: Bytes, room: Room) -> bool {
        let d = self.instances[i.index()].device;
        let mut pool = Bytes::ZERO;
        if self.config.engine.paged_kv {
            let fixed = [Class::Backbone, Class::Adapter].map(|c| self.device_bytes(i, c));
            pool = self.usable(self.devices[d.index()].capacity).saturating_sub(fixed[0] + fixed[1] + bytes);
        }
        if !self.reserve(d, bytes + pool, uses::KERNELS, room) {
            return false;
        }
        self.retag(d, pool, uses::KERNELS, uses::KV);
        self.instances[i.index()].pool = pool;
        true
    }

    fn blocked(&mut self, i: InstanceId, asked: bool) -> bool {
        let instance = &self.instances[i.index()];
        // Who is warmed waits for memory on its way out, and for nothing else: it must not stand before requests.
        let soon = instance.warming && self.devices[instance.device.index()].evicting > Bytes::ZERO;
        if asked || soon {
            self.wait_for_memory(i);
        } else {
            self.instances[i.index()].goal = None;
            self.rest(i);
        }
        false
    }

    /// Asks the executor for a load and notes when the stage began.
    fn load(&mut self, i: InstanceId, class: Class, from: Tier, to: Tier, bytes: Bytes) {
        self.loading(i, class);
        let function = self.instances[i.index()].function.filter(|_| class == Class::Adapter);
        self.out.push(Action::Load { instance: i, class, function, from, to, bytes });
    }

    fn loading(&mut self, i: InstanceId, class: Class) {
        let now = self.now;
        let instance = &mut self.instances[i.index()];
        if !instance.loading() {
            // Only who still waits can have waited through an earlier stage.
            let oldest = instance.queue.front().map_or(now, |q| q.arrival);
            instance.spans.retain(|s| s.end > oldest);
            if instance.function.is_some() {
                self.devices[instance.device.index()].starting += 1;
            }
        }
        instance.busy = true;
        instance.have[class as usize] = Place::Loading;
        instance.stage_started[class as usize] = now;
        let d = instance.device;
        self.mark(d);
    }

    fn loaded(&mut self, i: InstanceId, class: Class) {
        let now = self.now;
        let instance = &mut self.instances[i.index()];
        instance.have[class as usize] = Place::Here;
        let start = instance.stage_started[class as usize];
        instance.spans.push(Span { class, start, end: now });
        let (d, done, pooled) = (instance.device, !instance.loading(), instance.function.is_none());
        if done && !pooled {
            self.devices[d.index()].starting -= 1;
        }
        self.mark(d);
    }

    /// Maps the device's copy of the backbone, loading it first if need be; false when it has to wait for memory.
    fn map_backbone(&mut self, i: InstanceId, room: Room, asked: bool) -> bool {
        let instance = &self.instances[i.index()];
        let (d, b) = (instance.device, instance.backbone);
        if let Some(shared) = self.devices[d.index()].shared.get_mut(&b) {
            shared.users += 1;
            if shared.here {
                self.instances[i.index()].have[Class::Backbone as usize] = Place::Here;
            } else {
                shared.waiting.push(i);
                self.loading(i, Class::Backbone);
            }
            return true;
        }
        let weights = self.backbones[b.index()].spec.weights;
        if !self.reserve(d, weights, uses::DUPLICATES, room) {
            return self.blocked(i, asked);
        }
        self.add_copy_of(b, weights, d, SHARED);
        let (idle_since, timer) = (self.now, Nanos::NEVER);
        let shared = Shared { here: false, users: 1, loader: i, waiting: Vec::new(), idle_since, timer };
        self.devices[d.index()].shared.insert(b, shared);
        let w = self.devices[d.index()].worker;
        let from = self.stage(w, Staged::Backbone(b), weights);
        self.load(i, Class::Backbone, from, Tier::Device, weights);
        true
    }

    pub(super) fn unmap_backbone(&mut self, i: InstanceId) {
        let (d, b) = (self.instances[i.index()].device, self.instances[i.index()].backbone);
        let now = self.now;
        let Some(shared) = self.devices[d.index()].shared.get_mut(&b) else { return };
        shared.users -= 1;
        if shared.users == 0 {
            shared.idle_since = now;
            self.watch_backbone(d, b);
        }
    }

    /// Sets the timer of an unused backbone for when it is due, unless one is set for then or before.
    fn watch_backbone(&mut self, d: DeviceId, b: BackboneId) {
        let keep = self.backbone_keep(b);
        let Some(shared) = self.devices[d.index()].shared.get_mut(&b) else { return };
        let due = Nanos(shared.idle_since.0.saturating_add(keep.0));
        if due < shared.timer {
            shared.timer = due;
            self.set_timer(Timer::BackboneKeepAlive(d), due);
        }
    }

    fn backbone_keep(&self, b: BackboneId) -> Nanos {
        let arrivals: &Arrivals = &self.backbones[b.index()].arrivals;
        self.config.keep_alive.keep(Class::Backbone, arrivals, self.now)
    }

    /// Drops shared backbones that nobody has mapped for their keep-alive.
    pub(super) fn backbone_due(&mut self, d: DeviceId) {
        let now = self.now;
        let idle: Vec<_> = self.devices[d.index()]
            .shared
            .iter()
            .filter(|(_, s)| s.timer == now)
            .map(|(&b, s)| (b, s.idle_since, s.users == 0 && s.here))
            .collect();
        for (b, since, unused) in idle {
            self.devices[d.index()].shared.get_mut(&b).expect("just seen").timer = Nanos::NEVER;
            let due = Nanos(since.0.saturating_add(self.backbone_keep(b).0));
            if unused && due <= now {
                self.drop_shared(d, b);
            } else if unused {
                self.watch_backbone(d, b); // the rule says later than when the timer was set
            }
        }
        self.wake(d);
    }

    pub(super) fn drop_shared(&mut self, d: DeviceId, b: BackboneId) {
        self.devices[d.index()].shared.remove(&b);
        let bytes = self.backbones[b.index()].spec.weights;
        self.remove_copy_of(b, bytes, d, SHARED);
        self.out.push(Action::Evict {
            instance: None,
            device: d,
            class: Class::Backbone,
            to: Tier::Disk,
            bytes,
        });
    }

    pub(super) fn load_done(&mut self, i: InstanceId, class: Class, function: Option<FunctionId>) {
        if !self.instances[i.index()].alive {
            return;
        }
        if self.sharing == SharingDecision::OneProcess {
            return self.adapter_loaded(i, function);
        }
        if self.instances[i.index()].have[class as usize] != Place::Loading {
            return;
        }
        self.loaded(i, class);
        let (d, b) = (self.instances[i.index()].device, self.instances[i.index()].backbone);
        if class == Class::Backbone && self.sharing == SharingDecision::SharedWeights {
            let shared =
                self.devices[d.index()].shared.get_mut(&b).expect("a mapped backbone is on the device");
            shared.here = true;
            for waiting in std::mem::take(&mut shared.waiting) {
                self.loaded(waiting, Class::Backbone);
                self.advance(waiting);
            }
        }
        self.advance(i);
    }

    pub(super) fn load_failed(&mut self, i: InstanceId, class: Class, function: Option<FunctionId>) {
        if !self.instances[i.index()].alive {
            return;
        }
        if self.sharing == SharingDecision::OneProcess {
            return self.adapter_failed(i, function);
        }
        let instance = &self.instances[i.index()];
        if instance.have[class as usize] != Place::Loading {
            return;
        }
        let (d, b, f) = (instance.device, instance.backbone, instance.function);
        let w = self.devices[d.index()].worker;
        let mut hit = Vec::new();
        match (class, f) {
            (Class::Backbone, _) => self.unstage(w, Staged::Backbone(b)),
            (Class::Adapter, Some(f)) => self.unstage(w, Staged::Adapter(f)),
            _ => {}
        }
        if class == Class::Backbone && self.sharing == SharingDecision::SharedWeights {
            let failed = self.devices[d.index()].shared.get_mut(&b);
            hit.extend(failed.into_iter().flat_map(|s| s.waiting.iter().copied()));
        }
        hit.push(i); // the loader goes last, so that nobody takes a failed load over
        for i in hit {
            self.refuse_queue(i, Refused::Failed);
            self.stop(i);
        }
        self.wake(d);
    }

    /// Nothing to do: from now on keep-alive counts.
    pub(super) fn rest(&mut self, i: InstanceId) {
        let now = self.now;
        let instance = &mut self.instances[i.index()];
        let Some(f) = instance.function.filter(|_| instance.idle()) else { return };
        instance.warming = false;
        if !self.functions[f.index()].alive {
            return self.stop(i);
        }
        if self.functions[f.index()].asleep {
            self.evict(i, Class::Backbone);
        }
        let instance = &mut self.instances[i.index()];
        if std::mem::take(&mut instance.busy) {
            instance.idle_since = now;
        }
        self.watch_keep_alive(i);
        self.wish(i);
        let d = self.instances[i.index()].device;
        if !self.devices[d.index()].waiters.is_empty() {
            self.wake(d);
        }
        if !self.parked.is_empty() {
            self.unpark();
        }
    }

    pub(super) fn watch_keep_alive(&mut self, i: InstanceId) {
        let due = self.next_drop(i).unwrap_or(Nanos::NEVER);
        self.keep_alive_timer(i, due.max(self.now));
    }

    /// Sets the timer unless an earlier one is set; the later one is then stale and ignored.
    pub(super) fn keep_alive_timer(&mut self, i: InstanceId, at: Nanos) {
        let set = &mut self.instances[i.index()].keep_alive_at;
        if at < *set {
            *set = at;
            self.set_timer(Timer::KeepAlive(i), at);
        }
    }

    /// When the instance's next artifact is due to go.
    fn next_drop(&self, i: InstanceId) -> Option<Nanos> {
        let instance = &self.instances[i.index()];
        let f = instance.function?;
        let held = Class::ALL.into_iter().filter(|&c| instance.have[c as usize] == Place::Here);
        held.map(|c| Nanos(instance.idle_since.0.saturating_add(self.keep(f, c).0))).min()
    }

    /// How long a function's idle instance keeps a class: on devices as the function asks, else as the policy has it.
    /// What the device's artifacts depend on stays as long as they do.
    fn keep(&self, f: FunctionId, class: Class) -> Nanos {
        let function = &self.functions[f.index()];
        let usual = self.config.keep_alive.keep(class, &function.arrivals, self.now);
        match function.spec.keep_alive {
            Some(own) if class.on_device() => own,
            Some(own) => usual.max(own),
            None => usual,
        }
    }

    pub(super) fn keep_alive_due(&mut self, i: InstanceId) {
        let instance = &mut self.instances[i.index()];
        if !instance.alive || instance.keep_alive_at != self.now {
            return;
        }
        instance.keep_alive_at = Nanos::NEVER;
        if self.sharing == SharingDecision::OneProcess {
            return self.slots_due(i);
        }
        let instance = &self.instances[i.index()];
        if !instance.idle() {
            return; // counts anew when it rests
        }
        let Some(f) = self.instances[i.index()].function else { return };
        if self.held_fast(f) {
            return; // counts anew when it is let go
        }
        let mut dropped = false;
        for class in Class::ALL.into_iter().rev() {
            if !self.here(i, class) {
                continue;
            }
            let due = Nanos(self.instances[i.index()].idle_since.0.saturating_add(self.keep(f, class).0));
            if due > self.now || self.planned(i, class) {
                break;
            }
            let park = class == Class::Kernel
                && matches!(self.config.eviction, EvictionPart::LowestDensity { offload_kernels: true });
            self.drop_class(i, class, park);
            if class == Class::Adapter {
                self.instances[i.index()].have[Class::Kernel as usize] = Place::Absent;
            }
            dropped = true;
        }
        let d = self.instances[i.index()].device;
        if !self.here(i, Class::Container) {
            self.stop(i);
            self.unpark();
        } else {
            self.rearm(i);
            if dropped {
                self.wish(i);
            }
        }
        if dropped {
            self.wake(d);
        }
    }

    /// Looks again when the next artifact is due, or shortly when the plan holds one past its time.
    fn rearm(&mut self, i: InstanceId) {
        let Some(due) = self.next_drop(i) else { return };
        if due == Nanos::NEVER {
            return;
        }
        let instance = &self.instances[i.index()];
        let wanted = instance
            .function
            .map(|f| self.config.preload.wants_until(&self.functions[f.index()].arrivals, self.now));
        let soon = self.now.0.saturating_add(self.config.preload.replan_every().0.clamp(1, 10_000_000_000));
        let soon = soon.max(wanted.filter(|&w| w < Nanos::NEVER).map_or(0, |w| w.0));
        let at = if due > self.now { due } else { Nanos(soon) };
        self.keep_alive_timer(i, at);
    }

    /// Whether the pre-loading plan would bring the class back at once: it keeps one instance of a function, not all
    /// that a burst left.
    fn planned(&self, i: InstanceId, class: Class) -> bool {
        let Some(f) = self.instances[i.index()].function else { return false };
        let others = self.functions[f.index()].instances.iter().filter(|&&o| o != i);
        let elsewhere = others.into_iter().any(|&o| self.here(o, class));
        !elsewhere && self.wish_value(i, class).is_some()
    }

    /// Ends the process and frees all it held, and what was on its way to it.
    pub(super) fn stop(&mut self, i: InstanceId) {
        if !self.instances[i.index()].alive {
            return;
        }
        let d = self.instances[i.index()].device;
        let w = self.devices[d.index()].worker;
        self.workers[w.index()].pool.retain(|&x| x != i);
        if self.instances[i.index()].loading() && self.instances[i.index()].function.is_some() {
            self.devices[d.index()].starting -= 1;
        }
        for class in Class::ALL.into_iter().rev() {
            if self.instances[i.index()].have[class as usize] == Place::Loading {
                if class == Class::Backbone && self.sharing == SharingDecision::SharedWeights {
                    self.abandon_backbone(i);
                    continue;
                }
                self.instances[i.index()].have[class as usize] = Place::Here; // reserved, so dropping it frees it
            }
            if self.here(i, class) {
                self.drop_class(i, class, false);
            }
        }
        let instance = &mut self.instances[i.index()];
        instance.alive = false;
        instance.waiting_memory = false;
        if let Some(f) = instance.function {
            self.functions[f.index()].instances.retain(|&x| x != i);
            self.wish_for(f);
        }
        let device = &mut self.devices[d.index()];
        device.instances.retain(|&x| x != i);
        device.ripe.retain(|&x| x != i);
        device.waiters.retain(|&x| x != i);
        if device.exclusive == Some(i) {
            device.exclusive = None;
            self.device_left = true;
        }
        self.mark(d);
        self.free_instances.push(i);
        self.out.push(Action::StopInstance { instance: i });
    }

    /// An instance goes while the backbone it wants is on its way: another one that waits takes the load over.
    fn abandon_backbone(&mut self, i: InstanceId) {
        let (d, b) = (self.instances[i.index()].device, self.instances[i.index()].backbone);
        self.instances[i.index()].have[Class::Backbone as usize] = Place::Absent;
        let Some(shared) = self.devices[d.index()].shared.get_mut(&b) else { return };
        shared.users -= 1;
        shared.waiting.retain(|&x| x != i);
        if shared.here || shared.loader != i {
            return;
        }
        if shared.waiting.is_empty() {
            return self.drop_shared(d, b);
        }
        let heir = shared.waiting.remove(0);
        shared.loader = heir;
        let weights = self.backbones[b.index()].spec.weights;
        let from = self.stage(self.devices[d.index()].worker, Staged::Backbone(b), weights);
        self.load(heir, Class::Backbone, from, Tier::Device, weights);
    }
}
