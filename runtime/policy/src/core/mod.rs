//! The core: one state machine over the book. An event goes in with the time, actions come out.
//!
//! `lifecycle` starts and stops instances, `memory` makes room, `dispatch` routes and admits, `bounds` keeps to what
//! functions allow at once, `plan` pre-loads, `serverful` serves one-process engines, `operator` does what people ask for
//! by hand, `succession` changes the policy.
//! Ties break by id; nothing here reads a clock.

pub mod book;
mod bounds;
mod dispatch;
mod lifecycle;
mod memory;
mod operator;
mod placement;
mod plan;
mod serverful;
mod succession;

use crate::config::PolicyConfig;
use crate::event::{Action, Event, Refused, Timer};
use crate::parts::sharing::{Sharing, SharingDecision};
use crate::rate::Arrivals;
use crate::spec::{BackboneSpec, FunctionSpec, WorkerSpec};
use crate::units::{BackboneId, Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId, WorkerId};
use book::{Backbone, Device, Function, Instance, Place, Worker, uses};
use std::collections::{BTreeMap, BTreeSet};

/// Decisions for one fleet under one policy.
#[derive(Debug)]
pub struct Core {
    /// The policy.
    pub config: PolicyConfig,
    functions: Vec<Function>,
    backbones: Vec<Backbone>,
    workers: Vec<Worker>,
    devices: Vec<Device>,
    instances: Vec<Instance>,
    free_instances: Vec<InstanceId>,
    now: Nanos,
    out: Vec<Action>,
    dirty: Vec<DeviceId>,
    /// Functions with arrivals that are not wholly in place somewhere.
    wishes: BTreeSet<FunctionId>,
    looked_up_to: FunctionId,
    /// Pinned functions.
    pins: BTreeSet<FunctionId>,
    /// Functions with parked requests, in order of parking.
    parked: std::collections::VecDeque<FunctionId>,
    largest: Bytes,
    /// Devices whose waiters may find room that was not looked at while the event was handled.
    recheck: BTreeSet<DeviceId>,
    /// A whole-device instance ended or fell asleep while the event was handled: parked requests may take its device.
    device_left: bool,
    /// The device whose oldest waiter is trying again.
    waking: Option<DeviceId>,
    /// When the plan is looked at next; never when nothing is wanted.
    replan_at: Nanos,
    replicas_due: bool,
    sharing: SharingDecision,
    exclusive: bool,
}

impl Core {
    /// An empty fleet. Backbones are known from the start; functions and workers come as events.
    pub fn new(config: PolicyConfig, backbones: Vec<BackboneSpec>) -> Self {
        let (sharing, exclusive) = (config.sharing.decide(), config.sharing.exclusive());
        let known = |spec| Backbone {
            spec,
            load: Nanos::ZERO,
            arrivals: Arrivals::default(),
            copies: BTreeSet::new(),
            replicas: BTreeSet::new(),
        };
        Self {
            config,
            functions: Vec::new(),
            backbones: backbones.into_iter().map(known).collect(),
            workers: Vec::new(),
            devices: Vec::new(),
            instances: Vec::new(),
            free_instances: Vec::new(),
            now: Nanos::ZERO,
            out: Vec::new(),
            dirty: Vec::new(),
            wishes: BTreeSet::new(),
            looked_up_to: FunctionId(0),
            pins: BTreeSet::new(),
            parked: Default::default(),
            largest: Bytes::ZERO,
            recheck: BTreeSet::new(),
            device_left: false,
            waking: None,
            replan_at: Nanos::NEVER,
            replicas_due: true,
            sharing,
            exclusive,
        }
    }

    /// Takes one event and appends what is to be done to `actions`. Time must not go back.
    pub fn handle(&mut self, now: Nanos, event: Event, actions: &mut Vec<Action>) {
        debug_assert!(now >= self.now, "time never goes back");
        self.now = now;
        std::mem::swap(&mut self.out, actions);
        match event {
            Event::WorkerJoined(spec) => self.worker_joined(spec),
            Event::WorkerLost(worker) => self.worker_lost(worker),
            Event::FunctionAdded(spec) => self.function_added(spec),
            Event::FunctionRemoved(function) => self.function_removed(function),
            Event::RequestArrived { request, function, prompt_tokens, max_tokens } => {
                self.arrived(request, function, prompt_tokens, max_tokens);
            }
            Event::RequestDone { instance, function, kv, .. } => self.done(instance, function, kv),
            // Steps matter to parts that look at prefill; the shipped ones count batches at work instead.
            Event::StepDone { .. } => {}
            Event::LoadDone { instance, class, function } => self.load_done(instance, class, function),
            Event::LoadFailed { instance, class, function } => self.load_failed(instance, class, function),
            Event::EvictDone { device, bytes } => self.evict_done(device, bytes),
            Event::TimerFired(timer) => self.timer(timer),
            Event::RequestCancelled { request, function } => self.cancelled(request, function),
            Event::FunctionPinned { function, pinned } => self.pinned(function, pinned),
            Event::FunctionWarmed(function) => self.warmed(function),
            Event::FunctionSlept { function, deep } => self.slept(function, deep),
            Event::PolicyChanged(config) => self.policy_changed(*config),
        }
        loop {
            if let Some(d) = self.recheck.pop_first() {
                self.wake(d);
            } else if std::mem::take(&mut self.device_left) {
                self.unpark();
            } else {
                break;
            }
        }
        std::mem::swap(&mut self.out, actions);
    }

    /// Devices whose memory or state changed since the last call.
    pub fn take_dirty(&mut self, into: &mut Vec<DeviceId>) {
        into.clear();
        std::mem::swap(&mut self.dirty, into);
        for &d in into.iter() {
            self.devices[d.index()].dirty = false;
        }
    }

    /// An instance, alive or not.
    pub fn instance(&self, id: InstanceId) -> &Instance {
        &self.instances[id.index()]
    }

    /// A device.
    pub fn device(&self, id: DeviceId) -> &Device {
        &self.devices[id.index()]
    }

    /// All devices.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// A registered function.
    pub fn function(&self, id: FunctionId) -> &Function {
        &self.functions[id.index()]
    }

    /// All functions by number, removed ones included.
    pub fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// All backbones.
    pub fn backbones(&self) -> &[Backbone] {
        &self.backbones
    }

    /// All instances by number, stopped ones included.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// All workers.
    pub fn workers(&self) -> &[Worker] {
        &self.workers
    }

    /// What broke, if the book contradicts itself. For tests: O(fleet).
    pub fn contradiction(&self) -> Option<String> {
        for (n, d) in self.devices.iter().enumerate() {
            let sum = d.uses.iter().sum::<u64>() + d.evicting.0;
            if d.used > d.capacity || sum != d.used.0 {
                return Some(format!(
                    "device {n}: used {:?} of {:?}, by use {:?} + {:?}",
                    d.used, d.capacity, d.uses, d.evicting
                ));
            }
            let active = d.instances.iter().filter(|i| self.instances[i.index()].running > 0).count() as u64;
            let miscounted = self.miscounted(n, d);
            if d.capacity > Bytes::ZERO && miscounted.is_some() {
                return miscounted;
            }
            if active != d.active {
                return Some(format!("device {n}: {} active, counted {active}", d.active));
            }
        }
        for (n, w) in self.workers.iter().enumerate() {
            if w.host_used > w.host {
                return Some(format!("worker {n}: {:?} of {:?} host memory", w.host_used, w.host));
            }
            let mut held = w.staged.iter().fold(Bytes::ZERO, |sum, (_, b)| sum + *b);
            for &i in w.devices.iter().flat_map(|d| &self.devices[d.index()].instances) {
                let instance = &self.instances[i.index()];
                let libraries = instance.have[crate::artifact::Class::Runtime as usize];
                if let (Some(f), Place::Here | Place::Loading) = (instance.function, libraries) {
                    held += self.functions[f.index()].spec.runtime;
                }
            }
            if w.alive && held != w.host_used {
                return Some(format!("worker {n}: {:?} of host memory used, held {held:?}", w.host_used));
            }
        }
        for (n, i) in self.instances.iter().enumerate().filter(|(_, i)| i.alive && i.running > 0) {
            if i.missing().is_some() {
                return Some(format!("instance {n} runs without {:?}", i.missing()));
            }
        }
        self.overrun()
    }

    /// What an instance or slot holds must be what the book says is used.
    fn miscounted(&self, n: usize, d: &Device) -> Option<String> {
        use crate::artifact::Class;
        let mut held = [0u64; uses::COUNT];
        let (mut pending, mut starting) = (0, 0);
        for &i in &d.instances {
            let instance = &self.instances[i.index()];
            let own = |c: Class| matches!(instance.have[c as usize], Place::Here | Place::Loading);
            let bytes = |c: Class| if own(c) { self.device_bytes(i, c).0 } else { 0 };
            held[uses::BASE] += bytes(Class::Backbone);
            held[uses::ADAPTERS] += bytes(Class::Adapter);
            held[uses::KERNELS] += bytes(Class::Kernel);
            if instance.function.is_none() {
                held[uses::KERNELS] += self.backbones[instance.backbone.index()].spec.context.0;
            }
            for f in instance.slots.keys() {
                held[uses::ADAPTERS] += self.functions[f.index()].spec.adapter.0;
            }
            held[uses::KV] += instance.pool.0;
            pending += instance.load;
            starting += u64::from(instance.loading());
            starting += instance.slots.values().filter(|s| !s.here).count() as u64;
        }
        held[uses::BASE] += d.shared.keys().map(|b| self.backbones[b.index()].spec.weights.0).sum::<u64>();
        let mut booked = d.uses;
        booked[uses::BASE] += std::mem::take(&mut booked[uses::DUPLICATES]);
        if !self.config.engine.paged_kv {
            held[uses::KV] = booked[uses::KV]; // reserved per request; the executor knows for how many
        }
        let wrong = booked != held || (pending, starting) != (d.pending, d.starting);
        wrong.then(|| {
            format!(
                "device {n}: {booked:?} {} {} booked, held {held:?} {pending} {starting}",
                d.pending, d.starting
            )
        })
    }

    fn worker_joined(&mut self, spec: WorkerSpec) {
        let worker = WorkerId(self.workers.len() as u32);
        let mut devices = Vec::new();
        for capacity in spec.devices {
            devices.push(DeviceId(self.devices.len() as u32));
            self.largest = self.largest.max(capacity);
            self.devices.push(Device {
                worker,
                capacity,
                used: Bytes::ZERO,
                uses: [0; uses::COUNT],
                evicting: Bytes::ZERO,
                instances: Vec::new(),
                active: 0,
                pending: 0,
                starting: 0,
                exclusive: None,
                shared: BTreeMap::new(),
                waiters: Default::default(),
                ripe: Vec::new(),
                dirty: false,
            });
        }
        self.workers.push(Worker {
            host: spec.host,
            host_used: Bytes::ZERO,
            alive: true,
            devices,
            staged: Default::default(),
            pool: Vec::new(),
        });
        self.replicas_due = true;
        self.fill_pool(worker);
        self.unpark();
    }

    fn worker_lost(&mut self, worker: WorkerId) {
        let Some(lost) = self.workers.get_mut(worker.index()).filter(|w| w.alive) else { return };
        lost.alive = false;
        lost.staged.clear();
        let devices = lost.devices.clone();
        let pool = std::mem::take(&mut lost.pool);
        pool.into_iter().for_each(|i| self.stop(i));
        for &d in &devices {
            for (b, _) in std::mem::take(&mut self.devices[d.index()].shared) {
                let weights = self.backbones[b.index()].spec.weights;
                self.remove_copy_of(b, weights, d, lifecycle::SHARED);
            }
            for i in self.devices[d.index()].instances.clone() {
                self.refuse_queue(i, Refused::Failed);
                let running = std::mem::take(&mut self.instances[i.index()].running);
                if running > 0 {
                    self.devices[d.index()].active -= 1;
                    self.unload(i, u64::from(running));
                }
                if self.sharing == SharingDecision::OneProcess {
                    self.replica_lost(i);
                }
                self.stop(i);
            }
            let device = &mut self.devices[d.index()];
            (device.used, device.evicting, device.uses) = (Bytes::ZERO, Bytes::ZERO, [0; uses::COUNT]);
            (device.capacity, device.starting) = (Bytes::ZERO, 0);
            self.mark(d);
        }
        self.workers[worker.index()].host_used = Bytes::ZERO;
        // What a lost worker held is gone: there is nothing to evict.
        self.out.retain(|a| !matches!(a, Action::Evict { device, .. } if devices.contains(device)));
    }

    fn function_added(&mut self, spec: FunctionSpec) {
        let load = &mut self.backbones[spec.backbone.index()].load;
        *load = (*load).max(spec.load[crate::artifact::Class::Backbone as usize]);
        self.functions.push(Function {
            spec,
            alive: true,
            pinned: false,
            asleep: false,
            arrivals: Arrivals::default(),
            instances: Vec::new(),
            parked: Default::default(),
            parked_timer: false,
        });
    }

    fn function_removed(&mut self, function: FunctionId) {
        let Some(f) = self.functions.get_mut(function.index()) else { return };
        f.alive = false;
        self.pins.remove(&function);
        for q in std::mem::take(&mut f.parked) {
            self.out.push(Action::Refuse {
                request: q.request,
                reason: Refused::NoFunction,
                retry_after: Nanos::ZERO,
            });
        }
        let (instances, b) = (f.instances.clone(), f.spec.backbone);
        for i in instances {
            self.refuse_queue(i, Refused::NoFunction);
            self.rest(i);
        }
        let replicas: Vec<_> = self.backbones[b.index()].replicas.iter().map(|&(_, i)| i).collect();
        replicas.into_iter().for_each(|i| self.unseat(i, function));
    }

    fn timer(&mut self, timer: Timer) {
        match timer {
            Timer::KeepAlive(i) => self.keep_alive_due(i),
            Timer::BackboneKeepAlive(d) => self.backbone_due(d),
            Timer::BatchExpired(i) => {
                if self.instances[i.index()].batch_timer == self.now {
                    self.instances[i.index()].batch_timer = Nanos::NEVER;
                    self.dispatch(i);
                }
            }
            Timer::Patience(i) => self.patience_due(i),
            Timer::ParkedPatience(f) => self.parked_due(f),
            Timer::Replan if self.replan_at == self.now => self.replan(),
            Timer::Replan => {} // set before a change of policy
        }
    }

    fn refuse(&mut self, request: RequestId, reason: Refused, retry_after: Nanos) {
        self.out.push(Action::Refuse { request, reason, retry_after });
    }

    fn refuse_queue(&mut self, i: InstanceId, reason: Refused) {
        let instance = &mut self.instances[i.index()];
        let mut all: Vec<_> = instance.queue.drain(..).collect();
        all.extend(instance.slots.values_mut().flat_map(|s| s.waiting.drain(..)));
        let d = instance.device;
        (instance.ripe, instance.waiting_memory) = (false, false);
        self.devices[d.index()].ripe.retain(|&x| x != i);
        self.devices[d.index()].waiters.retain(|&x| x != i);
        self.unload(i, all.len() as u64);
        all.iter().for_each(|q| self.refuse(q.request, reason, Nanos(1_000_000_000)));
    }

    /// Counts `n` requests off an instance.
    fn unload(&mut self, i: InstanceId, n: u64) {
        self.reload(i, |load| load - n);
    }

    fn reload(&mut self, i: InstanceId, change: impl Fn(u64) -> u64) {
        let instance = &mut self.instances[i.index()];
        let before = instance.load;
        instance.load = change(before);
        let (after, device, b) = (instance.load, instance.device, instance.backbone);
        let pending = &mut self.devices[device.index()].pending;
        *pending = *pending + after - before;
        if self.sharing == SharingDecision::OneProcess {
            let replicas = &mut self.backbones[b.index()].replicas;
            if replicas.remove(&(before, i)) {
                replicas.insert((after, i));
            }
        }
    }

    fn mark(&mut self, d: DeviceId) {
        let device = &mut self.devices[d.index()];
        if !device.dirty {
            device.dirty = true;
            self.dirty.push(d);
        }
    }

    fn set_timer(&mut self, timer: Timer, at: Nanos) {
        if at < Nanos::NEVER {
            self.out.push(Action::SetTimer { timer, at });
        }
    }

    fn backbone_of(&self, i: InstanceId) -> (BackboneId, Bytes) {
        let b = self.instances[i.index()].backbone;
        (b, self.backbones[b.index()].spec.weights)
    }

    fn here(&self, i: InstanceId, class: crate::artifact::Class) -> bool {
        self.instances[i.index()].have[class as usize] == Place::Here
    }
}
