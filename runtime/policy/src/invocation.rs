//! Decisions for functions without tokens: which instance serves an invocation, and when an idle one goes.
//!
//! One invocation per instance at a time. Each function has a stack of idle instances: the last to go idle serves next, so
//! that those below can run out. A decision costs constant time, amortised. It leaves out queues (an invocation that finds no
//! idle instance starts one, or is refused), placement on workers, and how long anything takes.
//!
//! ```
//! use coldframe_policy::invocation::{Decision, Invocations};
//! use coldframe_policy::parts::keep_alive::KeepAlivePart;
//! use coldframe_policy::units::{Bytes, FunctionId, InstanceId, Nanos};
//!
//! let mut core = Invocations::new(KeepAlivePart::Forever {}, None);
//! core.register(FunctionId(0), Bytes::ZERO);
//! let mut stopped = Vec::new();
//! assert_eq!(core.arrived(Nanos(0), FunctionId(0), &mut stopped), Decision::Cold(InstanceId(0)));
//! core.done(Nanos(5), InstanceId(0));
//! assert_eq!(core.arrived(Nanos(9), FunctionId(0), &mut stopped), Decision::Warm(InstanceId(0)));
//! ```

use crate::artifact::Class;
use crate::parts::keep_alive::{KeepAlive, KeepAlivePart};
use crate::rate::Arrivals;
use crate::units::{Bytes, FunctionId, InstanceId, Nanos};

/// No instance, in a link.
const NONE: u32 = u32::MAX;

/// Who serves an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// An instance that was idle.
    Warm(InstanceId),
    /// A new instance: start it. Its number may have been that of a stopped one.
    Cold(InstanceId),
    /// Nobody: the instance would not fit, even with every idle one stopped.
    Refuse,
}

/// A request to be told when a time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When.
    pub at: Nanos,
    /// What to pass to [`Invocations::timer`].
    pub function: FunctionId,
}

#[derive(Clone, Debug)]
struct Instance {
    function: u32,
    busy: bool,
    /// When an idle instance has been kept long enough.
    deadline: Nanos,
    /// Neighbours in the function's stack of idle instances.
    above: u32,
    below: u32,
    /// Neighbours among all idle instances, by the time they went idle (kept under a memory cap only).
    older: u32,
    newer: u32,
}

#[derive(Clone, Debug)]
struct Function {
    top: u32,
    bottom: u32,
    /// The earliest timer that is out, or never.
    timer: Nanos,
    bytes: Bytes,
}

/// The memory of a capped fleet.
#[derive(Clone, Copy, Debug)]
struct Memory {
    cap: Bytes,
    used: Bytes,
    /// Part of `used` that idle instances hold.
    idle: Bytes,
    oldest: u32,
    newest: u32,
}

/// The state machine. The caller owns time and reports each event once, in time order.
///
/// At one instant, report what is done before what arrives, and timers last: then an instance kept for no time at all still
/// serves an invocation that arrives at the instant it went idle.
#[derive(Clone, Debug)]
pub struct Invocations {
    keep_alive: KeepAlivePart,
    /// The keep-alive time where it is the same for every call.
    steady: Option<Nanos>,
    functions: Vec<Function>,
    /// By function; empty where the rule does not ask for rates.
    arrivals: Vec<Arrivals>,
    instances: Vec<Instance>,
    /// Numbers of stopped instances.
    free: Vec<u32>,
    memory: Option<Memory>,
}

impl Invocations {
    /// A fleet without functions. `memory` caps all instances together; `None` is no limit.
    ///
    /// The rule is asked for the last class of the chain ([`Class::Kernel`]): an instance goes as a whole.
    pub fn new(keep_alive: KeepAlivePart, memory: Option<Bytes>) -> Self {
        let steady = match &keep_alive {
            KeepAlivePart::Poisson { .. } => None,
            part => Some(part.keep(Class::Kernel, &Arrivals::default(), Nanos::ZERO)),
        };
        let memory =
            memory.map(|cap| Memory { cap, used: Bytes(0), idle: Bytes(0), oldest: NONE, newest: NONE });
        Self {
            keep_alive,
            steady,
            functions: vec![],
            arrivals: vec![],
            instances: vec![],
            free: vec![],
            memory,
        }
    }

    /// Adds the next function; numbers count from 0. `bytes`: memory of one instance, alive in any state.
    ///
    /// # Panics
    /// When numbers are left out or repeated.
    pub fn register(&mut self, function: FunctionId, bytes: Bytes) {
        assert_eq!(function.index(), self.functions.len(), "functions are registered in order");
        self.functions.push(Function { top: NONE, bottom: NONE, timer: Nanos::NEVER, bytes });
        if self.steady.is_none() {
            self.arrivals.push(Arrivals::default());
        }
    }

    /// Functions registered.
    pub fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Instances alive: starting, busy or idle.
    pub fn alive(&self) -> usize {
        self.instances.len() - self.free.len()
    }

    /// An invocation came. Instances stopped to make room are added to `stopped`, least recently used first.
    #[inline]
    pub fn arrived(&mut self, now: Nanos, function: FunctionId, stopped: &mut Vec<InstanceId>) -> Decision {
        if self.steady.is_none() {
            self.arrivals[function.index()].push(now);
        }
        let top = self.functions[function.index()].top;
        if top != NONE {
            self.unlink(top);
            self.instances[top as usize].busy = true;
            return Decision::Warm(InstanceId(top));
        }
        let bytes = self.functions[function.index()].bytes;
        if !self.make_room(bytes, stopped) {
            return Decision::Refuse;
        }
        let new = Instance {
            function: function.0,
            busy: true,
            deadline: Nanos::ZERO,
            above: NONE,
            below: NONE,
            older: NONE,
            newer: NONE,
        };
        match self.free.pop() {
            Some(number) => {
                self.instances[number as usize] = new;
                Decision::Cold(InstanceId(number))
            }
            None => {
                self.instances.push(new);
                Decision::Cold(InstanceId(self.instances.len() as u32 - 1))
            }
        }
    }

    /// The instance's invocation ended; it is idle from now on. A function has one timer out at most, except where a rule
    /// that follows rates has shortened the time since: then an earlier one is asked for, and the later one does no harm.
    #[inline]
    pub fn done(&mut self, now: Nanos, instance: InstanceId) -> Option<Timer> {
        let this = instance.index();
        debug_assert!(self.instances[this].busy, "an idle instance can't be done");
        let function = self.instances[this].function;
        let keep = match self.steady {
            Some(keep) => keep,
            None => self.keep_alive.keep(Class::Kernel, &self.arrivals[function as usize], now),
        };
        let owner = &mut self.functions[function as usize];
        let below = owner.top;
        owner.top = instance.0;
        let mut deadline = now + keep;
        if below == NONE {
            owner.bottom = instance.0;
        } else {
            // The rule's time may have shrunk; the stack still empties from its bottom.
            let under = &mut self.instances[below as usize];
            under.above = instance.0;
            deadline = deadline.max(under.deadline);
        }
        let slot = &mut self.instances[this];
        (slot.busy, slot.deadline, slot.below, slot.above) = (false, deadline, below, NONE);
        if let Some(memory) = &mut self.memory {
            memory.idle += owner.bytes;
            (slot.older, slot.newer) = (memory.newest, NONE);
            match std::mem::replace(&mut memory.newest, instance.0) {
                NONE => memory.oldest = instance.0,
                before => self.instances[before as usize].newer = instance.0,
            }
        }
        // With others below it, the timer is for one of those.
        if below != NONE || owner.timer <= deadline {
            return None;
        }
        self.ask(function)
    }

    /// A timer went off. Instances kept long enough are added to `stopped`; the next timer, if any, is returned.
    pub fn timer(
        &mut self,
        now: Nanos,
        function: FunctionId,
        stopped: &mut Vec<InstanceId>,
    ) -> Option<Timer> {
        loop {
            let bottom = self.functions[function.index()].bottom;
            if bottom == NONE || self.instances[bottom as usize].deadline > now {
                // One that was asked for earlier and overtaken since changes nothing.
                let overtaken = self.functions[function.index()].timer > now;
                let out = self.functions[function.index()].timer != Nanos::NEVER;
                return if out && overtaken { None } else { self.ask(function.0) };
            }
            self.stop(bottom, stopped);
        }
    }

    /// Asks for a timer at the deadline of the function's bottom instance; those above it run out no earlier.
    fn ask(&mut self, function: u32) -> Option<Timer> {
        let owner = &mut self.functions[function as usize];
        let at = self.instances.get(owner.bottom as usize).map_or(Nanos::NEVER, |bottom| bottom.deadline);
        owner.timer = at;
        (at != Nanos::NEVER).then_some(Timer { at, function: FunctionId(function) })
    }

    /// Takes an idle instance out of its lists.
    #[inline]
    fn unlink(&mut self, number: u32) {
        let Instance { function, above, below, older, newer, .. } = self.instances[number as usize];
        let owner = &mut self.functions[function as usize];
        match above {
            NONE => owner.top = below,
            above => self.instances[above as usize].below = below,
        }
        match below {
            NONE => owner.bottom = above,
            below => self.instances[below as usize].above = above,
        }
        let Some(memory) = &mut self.memory else { return };
        memory.idle -= owner.bytes;
        match older {
            NONE => memory.oldest = newer,
            older => self.instances[older as usize].newer = newer,
        }
        match newer {
            NONE => memory.newest = older,
            newer => self.instances[newer as usize].older = older,
        }
    }

    fn stop(&mut self, number: u32, stopped: &mut Vec<InstanceId>) {
        self.unlink(number);
        self.free.push(number);
        stopped.push(InstanceId(number));
        if let Some(memory) = &mut self.memory {
            memory.used -= self.functions[self.instances[number as usize].function as usize].bytes;
        }
    }

    /// Takes `bytes` of the cap; stops the least recently used instances where it must, and none where it would not help.
    fn make_room(&mut self, bytes: Bytes, stopped: &mut Vec<InstanceId>) -> bool {
        let Some(memory) = &self.memory else { return true };
        if memory.used - memory.idle + bytes > memory.cap {
            return false;
        }
        loop {
            let memory = self.memory.as_mut().expect("checked above");
            if memory.used + bytes <= memory.cap {
                memory.used += bytes;
                return true;
            }
            let oldest = memory.oldest;
            self.stop(oldest, stopped);
        }
    }
}

#[cfg(test)]
mod tests;
