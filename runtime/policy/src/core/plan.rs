//! The pre-loading plan: one more artifact for the functions worth most, looked at again while any is wanted.
//!
//! Only functions with arrivals that are not wholly in place are looked at, at most [`LOOK`] a time, so the cost of a
//! look does not grow with the number of registered functions.

use super::Core;
use super::book::Place;
use crate::artifact::Class;
use crate::event::Timer;
use crate::parts::preload::{Preload, PreloadDecision, Wish};
use crate::parts::sharing::SharingDecision;
use crate::units::{Bytes, FunctionId, InstanceId, Nanos};

/// Functions considered per look: arbitrary, far above what a fleet can load in a second.
const LOOK: usize = 256;

impl Core {
    pub(super) fn wish(&mut self, i: InstanceId) {
        if let Some(f) = self.instances[i.index()].function {
            self.wish_for(f);
        }
    }

    /// Puts a function on the plan's list and makes sure that the plan is looked at.
    pub(super) fn wish_for(&mut self, f: FunctionId) {
        let every = self.config.preload.replan_every();
        if every == Nanos::NEVER || self.functions[f.index()].asleep {
            return;
        }
        self.wishes.insert(f);
        if self.replan_at == Nanos::NEVER {
            self.replan_at = Nanos(self.now.0.saturating_add(every.0));
            self.set_timer(Timer::Replan, self.replan_at);
        }
    }

    pub(super) fn replan(&mut self) {
        self.replan_at = Nanos::NEVER;
        // Round robin, so that no wish waits for ever behind others.
        let from = self.looked_up_to;
        let looked: Vec<FunctionId> =
            self.wishes.range(from..).chain(self.wishes.range(..from)).copied().take(LOOK).collect();
        if let Some(last) = looked.last().filter(|_| looked.len() == LOOK) {
            self.looked_up_to = FunctionId(last.0 + 1);
        }
        let mut wanted = Vec::new();
        for f in looked {
            let function = &self.functions[f.index()];
            let rate = function.arrivals.per_megasecond(self.now, self.config.preload.window());
            let complete = function.instances.iter().any(|i| self.instances[i.index()].missing().is_none());
            if complete || rate == 0 || !function.alive || function.asleep {
                self.wishes.remove(&f);
                continue;
            }
            let furthest = function
                .instances
                .iter()
                .copied()
                .max_by_key(|i| (self.instances[i.index()].missing(), std::cmp::Reverse(*i)));
            let class = furthest.map_or(Some(Class::Container), |i| self.instances[i.index()].missing());
            let busy = furthest.is_some_and(|i| !self.instances[i.index()].idle());
            let class = class.filter(|_| !busy);
            let value = class.and_then(|class| self.worth(f, furthest, class));
            if let (Some(class), Some(value)) = (class, value) {
                wanted.push((value, f, furthest, class));
            }
        }
        wanted.sort_unstable_by_key(|&(value, f, ..)| (std::cmp::Reverse(value), f));
        for (_, f, furthest, class) in wanted {
            let i = match furthest {
                // An earlier wish may have ended it meanwhile.
                Some(i) => Some(i).filter(|i| self.functions[f.index()].instances.contains(i)),
                // A plan stops nobody's instance.
                None => self.place(f).filter(|s| s.holder.is_none()).map(|s| self.start(f, s.device)),
            };
            if let Some(i) = i {
                self.instances[i.index()].goal = Some(class);
                self.advance(i);
            }
        }
        if let Some(&f) = self.wishes.first() {
            self.wish_for(f);
        }
    }

    /// What the plan would give for a class of an instance now; `None` when it would not bring it in.
    pub(super) fn wish_value(&self, i: InstanceId, class: Class) -> Option<u64> {
        self.worth(self.instances[i.index()].function?, Some(i), class)
    }

    fn worth(&self, f: FunctionId, i: Option<InstanceId>, class: Class) -> Option<u64> {
        let function = &self.functions[f.index()];
        let spec = &function.spec;
        let shared = self.sharing == SharingDecision::SharedWeights;
        let mut arrivals = &function.arrivals;
        let bytes = match class {
            Class::Container => Bytes::ZERO,
            Class::Runtime => spec.runtime,
            Class::Backbone if shared => {
                arrivals = &self.backbones[spec.backbone.index()].arrivals;
                let there = i.is_some_and(|i| {
                    self.devices[self.instances[i.index()].device.index()].shared.contains_key(&spec.backbone)
                });
                if there { Bytes::ZERO } else { self.backbones[spec.backbone.index()].spec.weights }
            }
            Class::Backbone => self.backbones[spec.backbone.index()].spec.weights,
            Class::Adapter => spec.adapter,
            Class::Kernel => spec.kernel,
        };
        let parked = i.is_some_and(|i| self.instances[i.index()].have[class as usize] == Place::Parked);
        let saved = if parked { Nanos(spec.load[class as usize].0 / 2) } else { spec.load[class as usize] };
        match self.config.preload.value(&Wish { class, saved, bytes, arrivals, now: self.now }) {
            PreloadDecision::Place(value) => Some(value),
            PreloadDecision::Leave => None,
        }
    }
}
