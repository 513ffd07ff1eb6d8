//! Requests: routed on arrival, parked while nothing can take them, batched, admitted, done.
//!
//! What to start and where is `placement`; one-process engines have their own path in `serverful`.

use super::Core;
use super::book::{Queued, uses};
use super::memory::Room;
use super::placement::Spot;
use crate::event::{Action, Refused, Timer};
use crate::parts::batching::{BatchDecision, Batching, QueueView};
use crate::parts::scaling::{Demand, ScaleDecision, Scaling, ScalingPart};
use crate::parts::sharing::SharingDecision;
use crate::units::{Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId};

impl Core {
    pub(super) fn arrived(&mut self, request: RequestId, f: FunctionId, prompt: u32, max: u32) {
        let known = self.functions.get(f.index()).is_some_and(|x| x.alive);
        if !known {
            return self.refuse(request, Refused::NoFunction, Nanos::ZERO);
        }
        self.ensure_replicas();
        let now = self.now;
        let function = &mut self.functions[f.index()];
        function.asleep = false;
        function.arrivals.push(now);
        let backbone = &mut self.backbones[function.spec.backbone.index()];
        backbone.arrivals.push(now);
        let tokens = u64::from(prompt) + u64::from(max);
        let kv = Bytes(tokens.saturating_mul(backbone.spec.kv_per_token.0));
        self.take(Queued { request, function: f, arrival: now, kv });
    }

    /// Finds a place for a request, or refuses it.
    pub(super) fn take(&mut self, queued: Queued) {
        let Queued { request, function: f, kv, .. } = queued;
        if self.sharing == SharingDecision::OneProcess {
            return self.arrived_serverful(queued);
        }
        if kv > self.room_for_kv(f) {
            return self.refuse(request, Refused::NoCapacity, Nanos::ZERO);
        }
        let function = &self.functions[f.index()];
        let waiting: usize = function.instances.iter().map(|i| self.instances[i.index()].queue.len()).sum();
        if (waiting + function.parked.len()) as u64 >= self.config.queue.limit {
            return self.refuse(request, Refused::QueueFull, self.functions[f.index()].spec.slo_ttft);
        }
        match self.choose(f) {
            Some(i) => self.enqueue(i, queued),
            None => self.park(queued),
        }
    }

    /// KV bytes a request of this function can ever have.
    fn room_for_kv(&self, f: FunctionId) -> Bytes {
        let spec = &self.functions[f.index()].spec;
        let fixed = self.backbones[spec.backbone.index()].spec.weights + spec.adapter + spec.kernel;
        self.usable(self.largest).saturating_sub(fixed)
    }

    /// The instance that takes the function's next request, started if need be.
    fn choose(&mut self, f: FunctionId) -> Option<InstanceId> {
        let best = self.best_instance(f);
        let Some((i, estimate, service)) = best else {
            return self.place(f).map(|spot| self.start_on(f, &spot));
        };
        if self.saturated(f) {
            return Some(i); // another instance would run none of them sooner
        }
        let demand = Demand {
            pending: self.instances[i.index()].load,
            service,
            slo: self.functions[f.index()].spec.slo_ttft,
            instances: self.functions[f.index()].instances.len() as u64,
        };
        if self.config.scaling.decide(&demand) == ScaleDecision::Stay {
            return Some(i);
        }
        let sooner = matches!(self.config.scaling, ScalingPart::SloMargin { .. });
        match self.place_beside(f, i) {
            Some(spot) if !sooner || spot.estimate < estimate => Some(self.start_on(f, &spot)),
            _ => Some(i),
        }
    }

    fn start_on(&mut self, f: FunctionId, spot: &Spot) -> InstanceId {
        spot.holder.into_iter().for_each(|i| self.stop(i));
        self.start(f, spot.device)
    }

    pub(super) fn enqueue(&mut self, i: InstanceId, queued: Queued) {
        self.out.push(Action::Route { request: queued.request, instance: i });
        let instance = &mut self.instances[i.index()];
        instance.busy = true;
        instance.queue.push_back(queued);
        self.reload(i, |load| load + 1);
        self.advance(i);
        self.watch_patience(i);
        if self.instances[i.index()].missing().is_some() {
            self.wish_for(queued.function);
        }
    }

    pub(super) fn park(&mut self, queued: Queued) {
        let f = queued.function;
        let function = &mut self.functions[f.index()];
        if function.parked.is_empty() {
            self.parked.push_back(f);
        }
        function.parked.push_back(queued);
        self.watch_parked(f);
    }

    fn watch_parked(&mut self, f: FunctionId) {
        let patience = self.patience();
        let function = &mut self.functions[f.index()];
        if let (false, Some(head)) = (function.parked_timer, function.parked.front()) {
            function.parked_timer = true;
            let at = Nanos(head.arrival.0.saturating_add(patience.0));
            self.set_timer(Timer::ParkedPatience(f), at);
        }
    }

    /// Gives parked functions a place, oldest first, as long as there is one.
    pub(super) fn unpark(&mut self) {
        if self.sharing == SharingDecision::OneProcess {
            return; // see `seat_parked`
        }
        while let Some(&f) = self.parked.front() {
            if self.functions[f.index()].parked.is_empty() {
                self.parked.pop_front();
                continue;
            }
            let Some(i) = self.choose(f) else { return };
            self.parked.pop_front();
            for queued in std::mem::take(&mut self.functions[f.index()].parked) {
                self.enqueue(i, queued);
            }
        }
    }

    /// Makes a batch of what is queued when the batching part says so and the device has a turn.
    pub(super) fn dispatch(&mut self, i: InstanceId) {
        let instance = &self.instances[i.index()];
        if !instance.alive || instance.ripe || instance.waiting_memory || instance.missing().is_some() {
            return;
        }
        if instance.queue.is_empty() {
            return self.rest(i);
        }
        if instance.function.is_some_and(|f| self.room_to_run(f) == 0) {
            return; // the end of one that runs comes back here
        }
        if !self.config.engine.continuous && instance.running > 0 {
            return;
        }
        let (d, running) = (instance.device, instance.running);
        let view = self.view(i);
        match self.config.batching.decide(&view) {
            BatchDecision::Wait(delay) => {
                let at = Nanos(self.now.0.saturating_add(delay.0.max(1)));
                let set = &mut self.instances[i.index()].batch_timer;
                if at < *set {
                    *set = at;
                    self.set_timer(Timer::BatchExpired(i), at);
                }
            }
            BatchDecision::Dispatch(n) => {
                if running == 0 && self.devices[d.index()].active >= self.config.batching.concurrent(&view) {
                    self.instances[i.index()].ripe = true;
                    self.devices[d.index()].ripe.push(i);
                    return;
                }
                self.admit(i, n);
            }
        }
    }

    fn view(&self, i: InstanceId) -> QueueView<'_> {
        let instance = &self.instances[i.index()];
        let f = instance.function.expect("queues belong to functions");
        let head = instance.queue.front().map_or(self.now, |q| q.arrival);
        QueueView {
            function: &self.functions[f.index()].spec,
            queued: instance.queue.len() as u64,
            waited: self.now - head,
            contention: self.devices[instance.device.index()].active - u64::from(instance.running > 0),
        }
    }

    fn admit(&mut self, i: InstanceId, n: u64) {
        let d = self.instances[i.index()].device;
        let paged = self.config.engine.paged_kv;
        let f = self.instances[i.index()].function.expect("queues belong to functions");
        let n = n.min(self.room_to_run(f));
        let mut batch = Vec::with_capacity(n.min(1024) as usize);
        for _ in 0..n {
            let Some(&head) = self.instances[i.index()].queue.front() else { break };
            let kv = if paged { Bytes::ZERO } else { head.kv };
            if kv > Bytes::ZERO && !self.reserve(d, kv, uses::KV, Room::Evict) {
                self.wait_for_memory(i);
                break;
            }
            self.instances[i.index()].queue.pop_front();
            batch.push((head.request, kv));
        }
        if batch.is_empty() {
            return;
        }
        let instance = &mut self.instances[i.index()];
        if instance.running == 0 {
            self.devices[d.index()].active += 1;
        }
        instance.running += batch.len() as u32;
        self.count_running(i, f, batch.len() as u32);
        let instance = &self.instances[i.index()];
        let more = !instance.queue.is_empty() && !instance.waiting_memory;
        self.mark(d);
        self.out.push(Action::Admit { instance: i, batch });
        if more && self.config.engine.continuous {
            self.dispatch(i);
        }
    }

    pub(super) fn done(&mut self, i: InstanceId, f: FunctionId, kv: Bytes) {
        let instance = &mut self.instances[i.index()];
        if !instance.alive || instance.running == 0 {
            return; // its worker was lost meanwhile
        }
        instance.running -= 1;
        let (d, idle) = (instance.device, instance.running == 0);
        self.unload(i, 1);
        self.uncount_running(i, f);
        if idle {
            self.devices[d.index()].active -= 1;
        }
        self.mark(d);
        if self.sharing == SharingDecision::OneProcess {
            return self.done_serverful(i, f);
        }
        if kv > Bytes::ZERO {
            self.release(d, kv, uses::KV);
        }
        self.dispatch(i);
        self.dispatch_others(i, f);
        if idle {
            self.turn(d);
        }
        if kv > Bytes::ZERO && !self.devices[d.index()].waiters.is_empty() {
            self.wake(d);
        }
    }

    /// A batch left the device: the most urgent ripe one takes its turn.
    fn turn(&mut self, d: DeviceId) {
        while !self.devices[d.index()].ripe.is_empty() {
            let ripe = self.devices[d.index()].ripe.iter().copied();
            let next = ripe.min_by_key(|&i| (self.config.batching.urgency(&self.view(i)), i));
            let Some(i) = next else { return };
            let view = self.view(i);
            if self.devices[d.index()].active >= self.config.batching.concurrent(&view) {
                return;
            }
            self.devices[d.index()].ripe.retain(|&x| x != i);
            self.instances[i.index()].ripe = false;
            self.dispatch(i);
        }
    }

    fn patience(&self) -> Nanos {
        Nanos::from_secs(self.config.queue.patience_s)
    }

    pub(super) fn watch_patience(&mut self, i: InstanceId) {
        let patience = self.patience();
        let instance = &mut self.instances[i.index()];
        if instance.patience_set {
            return;
        }
        let waiting = instance.slots.values().filter_map(|s| s.waiting.first().map(|q| q.arrival)).min();
        let head = instance.queue.front().map(|q| q.arrival);
        if let Some(oldest) = head.into_iter().chain(waiting).min() {
            instance.patience_set = true;
            self.set_timer(Timer::Patience(i), Nanos(oldest.0.saturating_add(patience.0)));
        }
    }

    pub(super) fn patience_due(&mut self, i: InstanceId) {
        let (now, patience) = (self.now.0, self.patience().0);
        let instance = &mut self.instances[i.index()];
        if !instance.alive {
            return;
        }
        instance.patience_set = false;
        let late = |q: &Queued| q.arrival.0.saturating_add(patience) <= now;
        let mut gone: Vec<Queued> = Vec::new();
        while instance.queue.front().is_some_and(late) {
            gone.extend(instance.queue.pop_front());
        }
        for slot in instance.slots.values_mut() {
            gone.extend(slot.waiting.iter().filter(|q| late(q)));
            slot.waiting.retain(|q| !late(q));
        }
        let empty = instance.queue.is_empty();
        if gone.is_empty() {
            return self.watch_patience(i);
        }
        self.unload(i, gone.len() as u64);
        gone.iter().for_each(|q| self.refuse(q.request, Refused::TimedOut, Nanos::ZERO));
        if empty {
            self.emptied(i);
        } else {
            self.retry(i);
        }
        if self.sharing == SharingDecision::OneProcess {
            self.seat_queued(i);
        }
        self.watch_patience(i);
    }

    /// The head of a queue left without being admitted: the next may need less memory.
    fn retry(&mut self, i: InstanceId) {
        if self.instances[i.index()].waiting_memory {
            self.recheck.insert(self.instances[i.index()].device);
        }
    }

    /// An instance's last queued request left without being admitted.
    fn emptied(&mut self, i: InstanceId) {
        let instance = &mut self.instances[i.index()];
        let d = instance.device;
        (instance.ripe, instance.waiting_memory) = (false, false);
        self.devices[d.index()].ripe.retain(|&x| x != i);
        self.devices[d.index()].waiters.retain(|&x| x != i);
        self.rest(i);
    }

    /// Forgets a request that is not admitted; loads begun for it go on.
    pub(super) fn cancelled(&mut self, request: RequestId, f: FunctionId) {
        let Some(function) = self.functions.get_mut(f.index()) else { return };
        let before = function.parked.len();
        function.parked.retain(|q| q.request != request);
        if function.parked.len() < before {
            if function.parked.is_empty() {
                self.parked.retain(|&x| x != f);
            }
            return;
        }
        let replicas = self.backbones[function.spec.backbone.index()].replicas.iter().map(|&(_, i)| i);
        let places: Vec<InstanceId> = function.instances.iter().copied().chain(replicas).collect();
        for i in places {
            let instance = &mut self.instances[i.index()];
            let count = |i: &super::book::Instance| {
                i.queue.len() + i.slots.get(&f).map_or(0, |slot| slot.waiting.len())
            };
            let before = count(instance);
            instance.queue.retain(|q| q.request != request);
            if let Some(slot) = instance.slots.get_mut(&f) {
                slot.waiting.retain(|q| q.request != request);
            }
            if count(instance) < before {
                let empty = instance.queue.is_empty();
                self.unload(i, 1);
                if self.sharing == SharingDecision::OneProcess {
                    return self.seat_queued(i);
                }
                if empty {
                    return self.emptied(i);
                }
                self.retry(i);
                return self.dispatch(i);
            }
        }
    }

    pub(super) fn parked_due(&mut self, f: FunctionId) {
        let (now, patience) = (self.now.0, self.patience().0);
        let function = &mut self.functions[f.index()];
        function.parked_timer = false;
        let mut gone = Vec::new();
        while function.parked.front().is_some_and(|q| q.arrival.0.saturating_add(patience) <= now) {
            gone.extend(function.parked.pop_front());
        }
        if function.parked.is_empty() {
            self.parked.retain(|&x| x != f);
        }
        gone.iter().for_each(|q: &Queued| self.refuse(q.request, Refused::TimedOut, Nanos::ZERO));
        self.watch_parked(f);
    }
}
