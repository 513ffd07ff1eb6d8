//! The fleet's book: who has what where, what is queued, what runs. Identical in both worlds.
//!
//! Plain data with small questions; everything that changes it is a method of [`super::Core`].

use crate::artifact::Class;
use crate::rate::Arrivals;
use crate::spec::{BackboneSpec, FunctionSpec};
use crate::units::{BackboneId, Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId, WorkerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Uses of device memory, as indices into [`Device::uses`].
pub mod uses {
    /// The copy of a backbone that the fleet needs.
    pub const BASE: usize = 0;
    /// Further copies of a backbone.
    pub const DUPLICATES: usize = 1;
    /// Adapters.
    pub const ADAPTERS: usize = 2;
    /// Contexts and kernels.
    pub const KERNELS: usize = 3;
    /// KV reserved, used or not.
    pub const KV: usize = 4;
    /// How many.
    pub const COUNT: usize = 5;
}

/// Where an artifact of an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere near.
    Absent,
    /// On its way.
    Loading,
    /// Where it is used.
    Here,
    /// Kept in host memory after it left the device (kernels only).
    Parked,
}

/// A stage of a cold start as it happened: requests that waited through it count the overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was awaited.
    pub class: Class,
    /// From.
    pub start: Nanos,
    /// Until.
    pub end: Nanos,
}

/// A request not yet admitted.
#[derive(Clone, Copy, Debug)]
pub struct Queued {
    /// The request.
    pub request: RequestId,
    /// Its function.
    pub function: FunctionId,
    /// When it came.
    pub arrival: Nanos,
    /// KV bytes it may need.
    pub kv: Bytes,
}

/// A registered function.
#[derive(Debug)]
pub struct Function {
    /// What it is.
    pub spec: FunctionSpec,
    /// False once removed.
    pub alive: bool,
    /// What it holds leaves for no one.
    pub pinned: bool,
    /// Put to sleep: not pre-loaded until a request or a warming wakes it.
    pub asleep: bool,
    /// Its recent arrivals.
    pub arrivals: Arrivals,
    /// Its instances, oldest first (process-per-function policies).
    pub instances: Vec<InstanceId>,
    /// Requests no device can take yet, oldest first.
    pub parked: VecDeque<Queued>,
    pub(super) parked_timer: bool,
}

/// A base model.
#[derive(Debug)]
pub struct Backbone {
    /// What it is.
    pub spec: BackboneSpec,
    /// The longest load of it that a function expects.
    pub load: Nanos,
    /// Recent arrivals of all its functions.
    pub arrivals: Arrivals,
    /// Copies on devices, by (device, instance); a shared copy has no instance (`u32::MAX`). The first is the base.
    pub copies: BTreeSet<(DeviceId, InstanceId)>,
    /// Serverful replicas by (pending, instance).
    pub replicas: BTreeSet<(u64, InstanceId)>,
}

/// A backbone mapped by several instances of one device.
#[derive(Debug)]
pub struct Shared {
    /// Whether it is usable.
    pub here: bool,
    /// Instances that map it.
    pub users: u32,
    /// Since when nobody does.
    pub idle_since: Nanos,
    /// The instance its load is for, while it is not here.
    pub loader: InstanceId,
    /// Instances that wait for it.
    pub waiting: Vec<InstanceId>,
    /// When its keep-alive timer is due; never when none is set.
    pub(super) timer: Nanos,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    /// Host memory.
    pub host: Bytes,
    /// Of it, in use.
    pub host_used: Bytes,
    /// False once lost.
    pub alive: bool,
    /// Its devices.
    pub devices: Vec<DeviceId>,
    /// Weights kept in host memory, oldest first.
    pub staged: VecDeque<(Staged, Bytes)>,
    /// Generic warm containers: ready, or starting.
    pub pool: Vec<InstanceId>,
}

/// What host memory can hold for a later load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Staged {
    /// A backbone's weights.
    Backbone(BackboneId),
    /// An adapter's.
    Adapter(FunctionId),
}

/// A GPU.
#[derive(Debug)]
pub struct Device {
    /// Its worker.
    pub worker: WorkerId,
    /// Usable memory.
    pub capacity: Bytes,
    /// In use, evictions in flight included.
    pub used: Bytes,
    /// In use by [`uses`].
    pub uses: [u64; uses::COUNT],
    /// Being copied away; part of `used`.
    pub evicting: Bytes,
    /// Instances bound to it.
    pub instances: Vec<InstanceId>,
    /// Instances with running requests.
    pub active: u64,
    /// Requests queued or running on it.
    pub pending: u64,
    /// Instances starting or loading.
    pub starting: u64,
    /// The instance that has it all.
    pub exclusive: Option<InstanceId>,
    /// Shared backbones on it.
    pub shared: BTreeMap<BackboneId, Shared>,
    /// Instances waiting for memory, oldest first.
    pub waiters: VecDeque<InstanceId>,
    /// Instances whose batch is ripe and waits for its turn.
    pub ripe: Vec<InstanceId>,
    pub(super) dirty: bool,
}

impl Device {
    /// Memory neither used nor being freed.
    pub fn free(&self) -> Bytes {
        self.capacity.saturating_sub(self.used)
    }

    /// Whether anything holds it: memory, an exclusive owner, or an instance that starts.
    pub fn reserved(&self) -> bool {
        self.used.0 > 0 || self.exclusive.is_some() || self.starting > 0
    }
}

/// An adapter on a one-process engine.
#[derive(Debug)]
pub struct Slot {
    /// Whether it is usable.
    pub here: bool,
    /// Requests admitted with it.
    pub users: u32,
    /// When its users went, for the LRU.
    pub idle_since: Nanos,
    /// Requests waiting for it.
    pub waiting: Vec<Queued>,
    /// Its last load.
    pub span: Span,
}

/// A container or engine process.
#[derive(Debug)]
pub struct Instance {
    /// Whether the number is in use.
    pub alive: bool,
    /// The function it serves; `None` for a pooled container or a one-process engine.
    pub function: Option<FunctionId>,
    /// Its backbone (meaningless for a pooled container).
    pub backbone: BackboneId,
    /// Its device.
    pub device: DeviceId,
    /// Its artifacts, by [`Class`].
    pub have: [Place; 5],
    /// How far pre-loading may take it without a request.
    pub goal: Option<Class>,
    /// Not yet admitted, oldest first.
    pub queue: VecDeque<Queued>,
    /// Admitted and not done.
    pub running: u32,
    /// Routed here and not done: queued, waiting for an adapter, or running.
    pub load: u64,
    /// KV pool of a paged engine.
    pub pool: Bytes,
    /// Since when it has nothing to do.
    pub idle_since: Nanos,
    /// Stages of its latest cold start.
    pub spans: Vec<Span>,
    /// Adapters of a one-process engine.
    pub slots: BTreeMap<FunctionId, Slot>,
    pub(super) stage_started: [Nanos; 5],
    pub(super) waiting_memory: bool,
    pub(super) ripe: bool,
    /// An operator asked for it: idle neighbours make room, whatever they are worth.
    pub(super) warming: bool,
    /// Something was asked of it since it last came to rest.
    pub(super) busy: bool,
    /// When its keep-alive timer is due; never when none is set.
    pub(super) keep_alive_at: Nanos,
    pub(super) patience_set: bool,
    pub(super) batch_timer: Nanos,
    pub(super) idle_slots: BTreeSet<(Nanos, FunctionId)>,
    /// Requests that run, of functions that bound how many.
    pub(super) counted: BTreeMap<FunctionId, u32>,
}

impl Instance {
    pub(super) fn new(
        device: DeviceId,
        backbone: BackboneId,
        function: Option<FunctionId>,
        now: Nanos,
    ) -> Self {
        Self {
            alive: true,
            function,
            backbone,
            device,
            have: [Place::Absent; 5],
            goal: None,
            queue: VecDeque::new(),
            running: 0,
            load: 0,
            pool: Bytes::ZERO,
            idle_since: now,
            spans: Vec::new(),
            slots: BTreeMap::new(),
            stage_started: [Nanos::ZERO; 5],
            waiting_memory: false,
            ripe: false,
            warming: false,
            busy: false,
            keep_alive_at: Nanos::NEVER,
            patience_set: false,
            batch_timer: Nanos::NEVER,
            idle_slots: BTreeSet::new(),
            counted: BTreeMap::new(),
        }
    }

    /// The first class that is not in place; `None` when it can answer.
    pub fn missing(&self) -> Option<Class> {
        Class::ALL.into_iter().find(|&c| self.have[c as usize] != Place::Here)
    }

    /// What a request that came at `arrival` and is admitted `now` waited for, by [`Class`]. Stages that overlapped
    /// (libraries and backbone at once) give way in load order, so that the sum never exceeds the wait.
    pub fn waited(&self, function: FunctionId, arrival: Nanos, now: Nanos) -> [Nanos; 5] {
        let spans = match self.slots.get(&function) {
            Some(slot) => std::slice::from_ref(&slot.span),
            None => self.spans.as_slice(),
        };
        let mut waited = [Nanos::ZERO; 5];
        for span in spans.iter().filter(|span| span.end > arrival) {
            waited[span.class as usize] += span.end.min(now).saturating_sub(span.start.max(arrival));
        }
        let mut left = now.saturating_sub(arrival);
        for stage in &mut waited {
            *stage = (*stage).min(left);
            left -= *stage;
        }
        waited
    }

    /// When the latest load of a class began.
    pub fn stage_start(&self, class: Class) -> Nanos {
        self.stage_started[class as usize]
    }

    /// Whether anything is on its way to it.
    pub fn loading(&self) -> bool {
        self.have.contains(&Place::Loading)
    }

    /// Whether nothing runs, waits or loads here.
    pub fn idle(&self) -> bool {
        self.running == 0 && self.queue.is_empty() && !self.loading() && !self.waiting_memory
    }
}
