//! Functions that bound how many of their requests run at once: the others wait as requests of a cold function do.
//!
//! Counted on the instance that runs them, so that what a lost worker ran is forgotten with it.

use super::Core;
use crate::units::{FunctionId, InstanceId};

impl Core {
    /// Requests of a function that may run beside those that do.
    pub(super) fn room_to_run(&self, f: FunctionId) -> u64 {
        let function = &self.functions[f.index()];
        let Some(most) = function.spec.max_concurrency else { return u64::MAX };
        let replicas = self.backbones[function.spec.backbone.index()].replicas.iter().map(|&(_, i)| i);
        let places = function.instances.iter().copied().chain(replicas);
        let taken: u64 = places.map(|i| self.taken(i, f)).sum();
        u64::from(most).saturating_sub(taken)
    }

    /// Requests of a function that run on an instance; on an engine of many functions also those that it has taken on.
    fn taken(&self, i: InstanceId, f: FunctionId) -> u64 {
        let instance = &self.instances[i.index()];
        let running = u64::from(instance.counted.get(&f).copied().unwrap_or(0));
        if instance.function.is_some() {
            return running;
        }
        let loading = instance.slots.get(&f).map_or(0, |slot| slot.waiting.len());
        let queued = instance.queue.iter().filter(|queued| queued.function == f).count();
        running + (loading + queued) as u64
    }

    /// Whether a function's instances have been given as many requests as may run at once.
    pub(super) fn saturated(&self, f: FunctionId) -> bool {
        let function = &self.functions[f.index()];
        let Some(most) = function.spec.max_concurrency else { return false };
        let load: u64 = function.instances.iter().map(|i| self.instances[i.index()].load).sum();
        load >= u64::from(most)
    }

    pub(super) fn count_running(&mut self, i: InstanceId, f: FunctionId, more: u32) {
        if self.functions[f.index()].spec.max_concurrency.is_some() {
            *self.instances[i.index()].counted.entry(f).or_default() += more;
        }
    }

    pub(super) fn uncount_running(&mut self, i: InstanceId, f: FunctionId) {
        let counted = &mut self.instances[i.index()].counted;
        if let Some(running) = counted.get_mut(&f) {
            *running = running.saturating_sub(1);
            if *running == 0 {
                counted.remove(&f);
            }
        }
    }

    /// One of a bounded function's requests ended on an instance: another one's queue may go on.
    pub(super) fn dispatch_others(&mut self, i: InstanceId, f: FunctionId) {
        if self.functions[f.index()].spec.max_concurrency.is_none() {
            return;
        }
        for other in self.functions[f.index()].instances.clone() {
            if other != i && !self.instances[other.index()].queue.is_empty() {
                self.dispatch(other);
            }
        }
    }

    /// A function of which more runs than may, if any.
    pub(super) fn overrun(&self) -> Option<String> {
        let over = |n: &usize| {
            let f = FunctionId(*n as u32);
            let counted = self.instances.iter().filter(|i| i.alive).filter_map(|i| i.counted.get(&f));
            let running: u32 = counted.sum();
            self.functions[*n].spec.max_concurrency.is_some_and(|most| running > most)
        };
        let n = (0..self.functions.len()).find(over)?;
        Some(format!("function {n}: more of its requests run than may"))
    }

    /// Requests parked because as many of their function ran as may take the places that came free (one-process engines).
    pub(super) fn seat_bounded(&mut self) {
        let parked = self.parked.iter().copied();
        let bounded = parked.filter(|f| self.functions[f.index()].spec.max_concurrency.is_some());
        for f in bounded.collect::<Vec<_>>() {
            // Counted first: without a replica they are parked again.
            for _ in 0..self.functions[f.index()].parked.len() {
                if self.room_to_run(f) == 0 {
                    break;
                }
                let Some(queued) = self.functions[f.index()].parked.pop_front() else { break };
                if self.functions[f.index()].parked.is_empty() {
                    self.parked.retain(|&other| other != f);
                }
                self.arrived_serverful(queued);
            }
        }
    }
}
