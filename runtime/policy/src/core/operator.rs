//! What people ask for by hand: pin, warm, sleep. Each is an event like any other, so a log of a live host replays.

use super::Core;
use super::book::{Place, Staged};
use crate::artifact::Class;
use crate::parts::sharing::SharingDecision;
use crate::units::{FunctionId, InstanceId};

impl Core {
    /// Whether what a function holds leaves for no one.
    pub(super) fn held_fast(&self, f: FunctionId) -> bool {
        self.pins.contains(&f)
    }

    pub(super) fn pinned(&mut self, f: FunctionId, pinned: bool) {
        let Some(function) = self.functions.get_mut(f.index()).filter(|function| function.alive) else {
            return;
        };
        function.pinned = pinned;
        if pinned {
            self.pins.insert(f);
            return;
        }
        let instances = function.instances.clone();
        self.pins.remove(&f);
        for i in instances {
            self.recheck.insert(self.instances[i.index()].device);
            self.rest(i); // its keep-alive counts again
        }
        self.seat_everywhere(f);
    }

    /// Everything of a function comes into place as far as idle neighbours make room.
    pub(super) fn warmed(&mut self, f: FunctionId) {
        let Some(function) = self.functions.get_mut(f.index()).filter(|function| function.alive) else {
            return;
        };
        function.asleep = false;
        if self.sharing == SharingDecision::OneProcess {
            return self.warm_slot(f);
        }
        let instances = function.instances.iter().copied();
        let furthest = instances.max_by_key(|i| {
            let missing = self.instances[i.index()].missing();
            (missing.is_none(), missing, std::cmp::Reverse(*i))
        });
        let place =
            |core: &mut Self| core.place(f).filter(|s| s.holder.is_none()).map(|s| core.start(f, s.device));
        let Some(i) = furthest.or_else(|| place(self)) else { return };
        let instance = &mut self.instances[i.index()];
        (instance.goal, instance.warming) = (Some(Class::Kernel), true);
        self.advance(i);
    }

    /// What a function holds on devices leaves, now or when its last request is done.
    pub(super) fn slept(&mut self, f: FunctionId, deep: bool) {
        let Some(function) = self.functions.get_mut(f.index()).filter(|function| function.alive) else {
            return;
        };
        (function.asleep, function.pinned) = (true, false);
        self.wishes.remove(&f);
        self.pins.remove(&f);
        self.sleep_slots(f);
        self.seat_everywhere(f);
        for i in self.functions[f.index()].instances.clone() {
            self.put_down(i, deep);
        }
        if deep {
            (0..self.workers.len())
                .for_each(|w| self.unstage(crate::units::WorkerId(w as u32), Staged::Adapter(f)));
        }
    }

    fn put_down(&mut self, i: InstanceId, deep: bool) {
        let instance = &self.instances[i.index()];
        self.recheck.insert(instance.device);
        if !instance.idle() {
            return; // it leaves when it rests
        }
        // A sleeper's device is for whoever is parked, and so is one that it was pinned to.
        self.device_left = true;
        if deep {
            self.stop(i);
        } else {
            self.evict(i, Class::Backbone);
            for class in [Class::Kernel, Class::Adapter] {
                let at = &mut self.instances[i.index()].have[class as usize];
                if *at == Place::Parked {
                    *at = Place::Absent;
                }
            }
        }
    }
}
