//! Engines on GPUs: phases start, are cut, end; GPUs share themselves among the engines at work.

use super::{Happening, World};
use crate::engine::{Engine, Outcome};
use coldframe_policy::event::Event;
use coldframe_policy::units::{DeviceId, FunctionId, InstanceId, RequestId};

impl World<'_> {
    /// The instance's engine, made at first use.
    pub(super) fn engine_for(&mut self, i: InstanceId) -> &mut Engine {
        let instance = self.core.instance(i);
        let (backbone, pool) = (instance.backbone, instance.pool);
        let i = self.engine_of(i);
        if self.engines.len() <= i.index() {
            self.engines.resize_with(i.index() + 1, || None);
            self.noted_kv.resize(i.index() + 1, 0);
            self.phase_began.resize(i.index() + 1, 0);
        }
        let slot = &mut self.engines[i.index()];
        if slot.is_none() {
            let model = &self.setup.models[backbone.index()];
            let limits = self.setup.engine_limits(model, pool);
            *slot = Some(Engine::new(self.setup.step_cost(model), limits));
        }
        slot.as_mut().expect("just made")
    }

    /// The number of an instance's engine: its own, or that of its device and backbone where all instances share one.
    pub(super) fn engine_of(&self, i: InstanceId) -> InstanceId {
        if !self.setup.one_engine() {
            return i;
        }
        let instance = self.core.instance(i);
        InstanceId(instance.device.0 * self.setup.models.len() as u32 + instance.backbone.0)
    }

    fn device_of_engine(&self, i: InstanceId) -> (DeviceId, usize) {
        if !self.setup.one_engine() {
            let instance = self.core.instance(i);
            return (instance.device, instance.backbone.index());
        }
        let models = self.setup.models.len() as u32;
        (DeviceId(i.0 / models), (i.0 % models) as usize)
    }

    /// An engine got requests: it begins, or its decode run ends at the next step.
    pub(super) fn rouse(&mut self, i: InstanceId) {
        let (d, _) = self.device_of_engine(i);
        let Some(engine) = self.engines.get_mut(i.index()).and_then(Option::as_mut) else { return };
        let gpu = &mut self.gpus[d.index()];
        let virtual_now = gpu.sharing.advance(self.now);
        if engine.idle() {
            self.begin(i, d);
        } else if let Some(end) = engine.cut(virtual_now)
            && gpu.sharing.target(i.0) != Some(end)
        {
            gpu.sharing.retarget(i.0, end);
        }
        self.schedule_gpu(d);
        self.note_kv(i, d);
        self.account_device(d);
    }

    /// Starts the engine's next phase, if it has anything to do; the GPU's clock is at now.
    fn begin(&mut self, i: InstanceId, d: DeviceId) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        let sharing = &mut self.gpus[d.index()].sharing;
        let now = sharing.virtual_ps();
        let engine = self.engines[i.index()].as_mut().expect("a known engine");
        if let Some(end) = engine.begin(now, &mut outcomes) {
            sharing.start(i.0, end - now);
            self.phase_began[i.index()] = self.now;
        }
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::Scheduled(id) => self.scheduled(id),
                Outcome::Preempted(id) => self.preempted(id),
                Outcome::First(_) | Outcome::Done(_) => unreachable!("tokens come when a phase ends"),
            }
        }
        self.outcomes = outcomes;
    }

    fn schedule_gpu(&mut self, d: DeviceId) {
        let gpu = &mut self.gpus[d.index()];
        let at = gpu.sharing.next_done_at().unwrap_or(u64::MAX);
        if at != gpu.scheduled {
            gpu.scheduled = at;
            if at != u64::MAX {
                self.queue.push(at, Happening::Gpu(d.0));
            }
        }
    }

    pub(super) fn gpu_due(&mut self, d: u32) {
        let gpu = &mut self.gpus[d as usize];
        if gpu.scheduled != self.now {
            return; // set before the GPU's users changed
        }
        gpu.scheduled = u64::MAX;
        gpu.sharing.advance(self.now);
        let device = DeviceId(d);
        while let Some(user) = self.gpus[d as usize].sharing.take_done() {
            self.phase_ended(InstanceId(user), device);
        }
        self.schedule_gpu(device);
        self.account_device(device);
    }

    fn phase_ended(&mut self, i: InstanceId, d: DeviceId) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        let Some(engine) = self.engines[i.index()].as_mut() else { return };
        engine.note_gap(self.now - self.phase_began[i.index()]);
        engine.complete(&mut outcomes);
        let step = engine.steps();
        let mut first_tokens = 0;
        let mut ended = Vec::new();
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::First(id) => first_tokens += u32::from(self.first_token(id, step)),
                Outcome::Done(id) => {
                    let engine = self.engines[i.index()].as_ref().expect("the engine that just stepped");
                    let gap = engine.gap_since(self.joined(id));
                    self.gap(id, gap);
                    ended.push(id);
                }
                Outcome::Scheduled(id) => self.scheduled(id),
                Outcome::Preempted(id) => self.preempted(id),
            }
        }
        self.outcomes = outcomes;
        self.note_kv(i, d);
        if first_tokens > 0 {
            self.note(3, u64::from(i.0), u64::from(first_tokens));
            self.tell(Event::StepDone { instance: i, first_tokens });
        }
        for id in ended {
            let request = self.ended(id);
            let instance = InstanceId(request.instance);
            self.note(2, u64::from(id), u64::from(instance.0));
            let function = FunctionId(request.function);
            self.tell(Event::RequestDone { request: RequestId(id), instance, function, kv: request.kv });
        }
        if self.engines[i.index()].as_ref().is_some_and(Engine::idle) {
            self.begin(i, d);
            self.note_kv(i, d);
        }
    }

    /// Keeps the GPU's KV bytes in step with its engines.
    fn note_kv(&mut self, i: InstanceId, d: DeviceId) {
        let Some(engine) = self.engines[i.index()].as_ref() else { return };
        let per_token = self.setup.models[self.device_of_engine(i).1].profile.kv_bytes_per_token;
        let bytes = engine.kv_tokens_mid() * per_token;
        let gpu = &mut self.gpus[d.index()];
        gpu.kv_bytes = gpu.kv_bytes + bytes - self.noted_kv[i.index()];
        self.noted_kv[i.index()] = bytes;
    }
}
