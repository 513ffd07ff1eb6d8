//! The core's whole vocabulary: what may happen, and what it may ask for.
//!
//! Both worlds speak it: the live host reports real events, the simulator virtual ones.

use crate::artifact::{Class, Tier};
use crate::config::PolicyConfig;
use crate::spec::{FunctionSpec, WorkerSpec};
use crate::units::{Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId, WorkerId};
use serde::{Deserialize, Serialize};

/// Something happened. The time comes with the call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A worker is there; ids are given in order of joining.
    WorkerJoined(WorkerSpec),
    /// A worker and all it held is gone.
    WorkerLost(WorkerId),
    /// A function was registered; ids are given in order.
    FunctionAdded(FunctionSpec),
    /// A function was removed: its queue is refused, its artifacts leave when idle.
    FunctionRemoved(FunctionId),
    /// A request came.
    RequestArrived {
        /// The executor's number for it.
        request: RequestId,
        /// The function called.
        function: FunctionId,
        /// Prompt length, tokens.
        prompt_tokens: u32,
        /// Most tokens it may generate.
        max_tokens: u32,
    },
    /// A request has its last token (or was given up by its client).
    RequestDone {
        /// The request.
        request: RequestId,
        /// Where it ran.
        instance: InstanceId,
        /// Its function.
        function: FunctionId,
        /// KV bytes it gives back, as admitted.
        kv: Bytes,
    },
    /// A step ended in which `first_tokens` requests left prefill.
    StepDone {
        /// The instance whose engine stepped.
        instance: InstanceId,
        /// Requests that got their first token in it.
        first_tokens: u32,
    },
    /// A load asked for is complete.
    LoadDone {
        /// The instance it was for.
        instance: InstanceId,
        /// What arrived.
        class: Class,
        /// The function whose adapter it is, where the instance serves several.
        function: Option<FunctionId>,
    },
    /// A load asked for will not complete.
    LoadFailed {
        /// The instance it was for.
        instance: InstanceId,
        /// What is missing.
        class: Class,
        /// The function whose adapter it is, where the instance serves several.
        function: Option<FunctionId>,
    },
    /// An eviction asked for is complete: the memory is free.
    EvictDone {
        /// The device that has room again.
        device: DeviceId,
        /// How much.
        bytes: Bytes,
    },
    /// A timer set earlier is due.
    TimerFired(Timer),
    /// A client gave up a request that is not admitted yet.
    RequestCancelled {
        /// The request.
        request: RequestId,
        /// Its function.
        function: FunctionId,
    },
    /// An operator pins a function, or lets it go: what a pinned one holds leaves for no one and at no time.
    FunctionPinned {
        /// Which.
        function: FunctionId,
        /// Whether it is pinned from now on.
        pinned: bool,
    },
    /// An operator wants everything of a function in place before a request asks.
    FunctionWarmed(FunctionId),
    /// An operator wants a function's device memory back; the next request or warming wakes it.
    FunctionSlept {
        /// Which.
        function: FunctionId,
        /// Whether its container and its copies in host memory go too.
        deep: bool,
    },
    /// Another policy decides from now on. What waits is routed anew, in order of arrival; what runs goes on, and its
    /// memory counts as being evicted until the executor says that it is free.
    PolicyChanged(Box<PolicyConfig>),
}

/// Timers the core sets. A timer that no longer matters is ignored when it fires; there is no cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Timer {
    /// An instance may have been idle long enough to lose an artifact.
    KeepAlive(InstanceId),
    /// A shared backbone may have been unused long enough.
    BackboneKeepAlive(DeviceId),
    /// A batch has waited its delay.
    BatchExpired(InstanceId),
    /// The oldest queued request of an instance may have lost patience.
    Patience(InstanceId),
    /// The oldest request of a function that has no instance may have lost patience.
    ParkedPatience(FunctionId),
    /// Time to look at the pre-loading plan.
    Replan,
}

/// The core asks for something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The request will be served there; it is queued until admitted.
    Route {
        /// The request.
        request: RequestId,
        /// Its instance.
        instance: InstanceId,
    },
    /// Hand these requests to the instance's engine now.
    Admit {
        /// The instance.
        instance: InstanceId,
        /// Requests and the KV bytes reserved for each (zero where the engine pages its own pool).
        batch: Vec<(RequestId, Bytes)>,
    },
    /// Bring an artifact nearer.
    Load {
        /// For which instance.
        instance: InstanceId,
        /// What.
        class: Class,
        /// The function whose adapter it is, where the instance serves several.
        function: Option<FunctionId>,
        /// From where.
        from: Tier,
        /// To where.
        to: Tier,
        /// How much.
        bytes: Bytes,
    },
    /// Free device memory; `EvictDone` must follow with the same bytes.
    Evict {
        /// Whose; with none, a shared backbone or (kernels) what requests hold that run on after a change of policy.
        instance: Option<InstanceId>,
        /// On which device.
        device: DeviceId,
        /// What.
        class: Class,
        /// Where the bytes go: `Host` copies them back, `Disk` and `Remote` drop them.
        to: Tier,
        /// How much.
        bytes: Bytes,
    },
    /// A container or engine process begins (its stages follow as loads).
    StartInstance {
        /// Its number.
        instance: InstanceId,
        /// Its device.
        device: DeviceId,
        /// The function it serves; `None` serves every function of its backbone.
        function: Option<FunctionId>,
        /// Already complete (a serverful replica started before the run).
        ready: bool,
    },
    /// The process ends; evictions of what it held come before. No load for it may complete afterwards.
    StopInstance {
        /// Its number.
        instance: InstanceId,
    },
    /// Fire this timer then.
    SetTimer {
        /// Which.
        timer: Timer,
        /// When.
        at: Nanos,
    },
    /// The request is turned away.
    Refuse {
        /// The request.
        request: RequestId,
        /// Why.
        reason: Refused,
        /// When trying again makes sense, from now.
        retry_after: Nanos,
    },
}

/// Why a request was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// The function's queue is full.
    QueueFull,
    /// It waited longer than the policy's patience.
    TimedOut,
    /// No such function.
    NoFunction,
    /// No device can ever hold what it needs.
    NoCapacity,
    /// The worker or the load it waited for failed.
    Failed,
}
