//! The world: carries out the core's actions in virtual time and feeds back what happens.
//!
//! `loads` moves artifacts over shared links, `compute` runs engines on shared GPUs, `requests` keeps what is in flight.
//! It makes no decision: what to load, evict, batch or refuse comes from the core.

mod compute;
pub(crate) mod loads;
mod requests;

use crate::engine::{Engine, Outcome};
use crate::kernel::digest::Digest;
use crate::kernel::queue::Queue;
use crate::kernel::random::Stream;
use crate::kernel::sharing::Sharing;
use crate::measure::account::Account;
use crate::measure::collect::{Collect, Limits};
use crate::report::per_request::RowSink;
use crate::setup::{RunError, Setup};
use crate::start::Start;
use coldframe_policy::artifact::Class;
use coldframe_policy::core::Core;
use coldframe_policy::event::{Action, Event, Timer};
use coldframe_policy::log::Line;
use coldframe_policy::spec::FunctionSpec;
use coldframe_policy::units::{Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId};
use coldframe_traces::{Catalog, FunctionInfo, Record};
use loads::{Link, Transfer};
use requests::Request;

/// One entry of the event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When, ns.
    pub at: u64,
    /// What: see [`code`].
    pub code: u64,
    /// First operand.
    pub x: u64,
    /// Second operand.
    pub y: u64,
}

/// Codes of log entries: events below 32, actions from 32.
pub mod code {
    /// Names by code, for people.
    pub fn name(code: u64) -> &'static str {
        match code {
            1 => "request-arrived",
            2 => "request-done",
            3 => "step-done",
            4 => "load-done",
            5 => "evict-done",
            6 => "timer-fired",
            32 => "route",
            33 => "admit",
            34 => "load",
            35 => "evict",
            36 => "start-instance",
            37 => "stop-instance",
            38 => "set-timer",
            39 => "refuse",
            _ => "unknown",
        }
    }
}

pub(crate) enum Happening {
    Sent { request: RequestId, function: FunctionId, prompt: u32, output: u32 },
    Entered { request: RequestId, function: FunctionId, prompt: u32, output: u32 },
    Gpu(u32),
    Link(u32),
    Loaded { instance: InstanceId, class: Class, function: Option<FunctionId> },
    Evicted { device: DeviceId, bytes: Bytes },
    Timer(Timer),
}

struct Gpu {
    sharing: Sharing,
    scheduled: u64,
    kv_bytes: u64,
}

/// A fleet under one policy.
pub struct World<'a> {
    setup: &'a Setup,
    /// The decisions.
    pub core: Core,
    now: u64,
    queue: Queue<Happening>,
    gpus: Vec<Gpu>,
    engines: Vec<Option<Engine>>,
    noted_kv: Vec<u64>,
    phase_began: Vec<u64>,
    links: Vec<Link>,
    transfers: Vec<Option<Transfer>>,
    free_transfers: Vec<u32>,
    /// Backbones that are open although nobody loaded them yet.
    opened: Vec<bool>,
    requests: Vec<Request>,
    free_requests: Vec<u32>,
    /// Requests arrived and not ended.
    pub in_flight: u64,
    functions: u32,
    adapter_read: Vec<u64>,
    weights: Vec<(u64, u64)>,
    jitter: Stream,
    actions: Vec<Action>,
    outcomes: Vec<Outcome>,
    touched: Vec<InstanceId>,
    dirty: Vec<DeviceId>,
    pub(crate) account: Account,
    pub(crate) collect: Collect,
    pub(crate) digest: Digest,
    pub(crate) log: Option<Vec<LogEntry>>,
    pub(crate) moved: loads::Moved,
    pub(crate) rows: Option<&'a mut dyn RowSink>,
    pub(crate) watch: Option<&'a mut dyn Watch>,
    decisions: Option<&'a mut dyn FnMut(&Line)>,
    pub(crate) row_error: Option<std::io::Error>,
    pub(crate) preemptions: u64,
    arrivals: u64,
    /// When the last request came through to the core: none overtakes another on the way.
    entered: u64,
}

/// Sees spans of a run as they end: for a timeline. Times are ns.
pub trait Watch {
    /// A load or start on a device.
    fn stage(
        &mut self,
        device: u32,
        instance: u32,
        class: Class,
        function: Option<u32>,
        start: u64,
        end: u64,
    );
    /// A request from admission to its last token.
    #[expect(clippy::too_many_arguments, reason = "plain times of one span; a struct would only rename them")]
    fn request(
        &mut self,
        device: u32,
        instance: u32,
        function: u32,
        arrival: u64,
        admitted: u64,
        first: u64,
        end: u64,
    );
}

impl<'a> World<'a> {
    /// A fleet with its workers joined and nothing else.
    pub fn new(setup: &'a Setup) -> Self {
        Self::logged(setup, None)
    }

    /// The same, with every event and decision told to a log.
    pub fn logged(setup: &'a Setup, decisions: Option<&'a mut dyn FnMut(&Line)>) -> Self {
        let fleet = (setup.workers * setup.gpus_per_worker) as usize;
        let devices = setup.start.as_ref().map_or(fleet, |start| start.devices().max(fleet));
        let backbones = setup.start.as_ref().map(|start| start.backbones.clone());
        let gpu = || Gpu { sharing: Sharing::new(1000), scheduled: u64::MAX, kv_bytes: 0 };
        let limits = Limits { ttft_ns: setup.slo_ttft_ns, tpot_ns: setup.slo_tpot_ns };
        let mut world = Self {
            setup,
            core: Core::new(setup.policy.clone(), backbones.unwrap_or_else(|| setup.backbone_specs())),
            now: 0,
            queue: Queue::default(),
            gpus: (0..devices).map(|_| gpu()).collect(),
            engines: Vec::new(),
            noted_kv: Vec::new(),
            phase_began: Vec::new(),
            links: loads::links(setup),
            transfers: Vec::new(),
            free_transfers: Vec::new(),
            opened: vec![setup.start.as_ref().is_some_and(|start| start.opened); setup.models.len()],
            requests: Vec::new(),
            free_requests: Vec::new(),
            in_flight: 0,
            functions: 0,
            adapter_read: Vec::new(),
            weights: Vec::new(),
            jitter: Stream::new(setup.seed, "load-jitter"),
            actions: Vec::new(),
            outcomes: Vec::new(),
            touched: Vec::new(),
            dirty: Vec::new(),
            account: Account::new(devices),
            collect: Collect::new(limits),
            digest: Digest::default(),
            log: setup.keep_log.then(Vec::new),
            moved: loads::Moved::default(),
            rows: None,
            watch: None,
            decisions,
            row_error: None,
            preemptions: 0,
            arrivals: 0,
            entered: 0,
        };
        for _ in 0..if setup.start.is_some() { 0 } else { setup.workers } {
            world.tell(Event::WorkerJoined(setup.worker_spec()));
        }
        world
    }

    /// Goes through what a host was told before its first request, each thing at its time.
    pub(crate) fn begin_as(&mut self, start: &Start) {
        for (at, event) in &start.told {
            while self.next_at().is_some_and(|next| next <= at.0) {
                self.step();
            }
            self.now = self.now.max(at.0);
            match event {
                Event::FunctionAdded(spec) => {
                    let info = start.functions.get(self.functions as usize).cloned().unwrap_or_default();
                    self.add_function(spec.clone(), &info);
                }
                event => self.tell(event.clone()),
            }
            self.settle();
        }
    }

    fn add_function(&mut self, spec: FunctionSpec, info: &FunctionInfo) {
        self.adapter_read.push(self.setup.adapter_read_ps(spec.adapter));
        let cost = self.setup.step_cost(&self.setup.models[spec.backbone.index()]);
        self.weights.push((cost.prefill_b.max(1), cost.decode_a.max(1)));
        let id = FunctionId(self.functions);
        self.functions += 1;
        self.tell(Event::FunctionAdded(spec));
        if let Some(log) = &mut self.decisions {
            let (tenant, name) = (info.tenant.clone(), info.name.clone());
            log(&Line::Function { id, tenant, name, generation: String::new() });
        }
    }

    /// Virtual time, ns.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Time of the next happening, ns.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.next_at()
    }

    /// Lets the next happening happen.
    pub fn step(&mut self) {
        let Some((at, happening)) = self.queue.pop() else { return };
        debug_assert!(at >= self.now, "time never goes back");
        self.now = at;
        match happening {
            Happening::Sent { request, function, prompt, output } => {
                self.sent(request, function, prompt, output);
                return;
            }
            Happening::Entered { request, function, prompt, output } => {
                self.enter(request, function, prompt, output);
            }
            Happening::Gpu(d) => self.gpu_due(d),
            Happening::Link(l) => self.link_due(l),
            Happening::Loaded { instance, class, function } => {
                self.note(4, u64::from(instance.0), class as u64);
                self.stage_seen(instance, class, function);
                self.tell(Event::LoadDone { instance, class, function });
            }
            Happening::Evicted { device, bytes } => {
                self.note(5, u64::from(device.0), bytes.0);
                self.tell(Event::EvictDone { device, bytes });
            }
            Happening::Timer(timer) => {
                self.note(6, timer_code(timer).0, timer_code(timer).1);
                self.tell(Event::TimerFired(timer));
            }
        }
        self.settle();
    }

    /// A record arrives. Its time must not be before the last happening's.
    pub fn arrive(&mut self, record: &Record, catalog: &Catalog) -> Result<(), RunError> {
        self.now = self.now.max(record.arrival_ns);
        self.arrivals += 1;
        if record.output_tokens == 0 {
            return Err(RunError::NoTokens { record: self.arrivals });
        }
        while self.functions <= record.function {
            let info = &catalog.functions()[self.functions as usize];
            let spec = self.setup.function_spec(info, record.prompt_tokens)?;
            self.add_function(spec, info);
        }
        self.collect.arrived(record.function);
        let request = self.new_request(record);
        let (function, prompt, output) =
            (FunctionId(record.function), record.prompt_tokens, record.output_tokens);
        let late = self.setup.sent_late_us.get(self.arrivals as usize - 1).copied().unwrap_or(0);
        if late == 0 {
            self.sent(request, function, prompt, output);
        } else {
            let at = self.now + u64::from(late) * 1000;
            self.queue.push(at, Happening::Sent { request, function, prompt, output });
        }
        Ok(())
    }

    /// A request leaves its sender.
    fn sent(&mut self, request: RequestId, function: FunctionId, prompt: u32, output: u32) {
        let at = self.now + self.way_in(function, prompt);
        if at == self.now {
            self.enter(request, function, prompt, output);
            self.settle();
        } else {
            self.entered = self.entered.max(at);
            self.queue.push(self.entered, Happening::Entered { request, function, prompt, output });
        }
    }

    /// How long a request is on its way to the core, ns. Its first token's way out is in it: where the time goes makes no
    /// difference to when it is there.
    fn way_in(&self, function: FunctionId, prompt: u32) -> u64 {
        let backbone = self.core.function(function).spec.backbone;
        let Some(edge) = self.setup.models[backbone.index()].step.edge else { return 0 };
        edge.ns(self.engines_have() as u64, u64::from(prompt))
    }

    /// Sequences that all engines have.
    fn engines_have(&self) -> usize {
        self.engines.iter().flatten().map(Engine::sequences).sum()
    }

    /// A request is with the core.
    fn enter(&mut self, request: RequestId, function: FunctionId, prompt: u32, output: u32) {
        self.note(1, u64::from(request.0), u64::from(function.0));
        self.tell(Event::RequestArrived { request, function, prompt_tokens: prompt, max_tokens: output });
    }

    /// Ends the run's time at `at` (not before now).
    pub fn end_at(&mut self, at: u64) {
        self.now = self.now.max(at);
    }

    fn note(&mut self, code: u64, x: u64, y: u64) {
        self.digest.add(self.now, code, x, y);
        if let Some(log) = &mut self.log {
            log.push(LogEntry { at: self.now, code, x, y });
        }
    }

    fn tell(&mut self, event: Event) {
        let mut actions = std::mem::take(&mut self.actions);
        debug_assert!(actions.is_empty());
        let at = Nanos(self.now);
        if let Some(log) = &mut self.decisions {
            log(&Line::Event { at, event: event.clone() });
        }
        self.core.handle(at, event, &mut actions);
        for action in actions.drain(..) {
            if let Some(log) = &mut self.decisions {
                log(&Line::Action(action.clone()));
            }
            self.act(action);
        }
        self.actions = actions;
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Route { request, instance } => {
                self.note(32, u64::from(request.0), u64::from(instance.0));
            }
            Action::Admit { instance, batch } => {
                for (request, kv) in batch {
                    self.note(33, u64::from(instance.0), u64::from(request.0));
                    self.admit(instance, request, kv);
                }
                self.touched.push(self.engine_of(instance));
            }
            Action::Load { instance, class, function, from, bytes, .. } => {
                self.note(34, u64::from(instance.0), class as u64);
                self.load(instance, class, function, from, bytes);
            }
            Action::Evict { instance, device, class, to, bytes } => {
                self.note(35, u64::from(device.0), class as u64);
                self.evict(instance, device, class, to, bytes);
            }
            Action::StartInstance { instance, device, .. } => {
                self.note(36, u64::from(instance.0), u64::from(device.0));
            }
            Action::StopInstance { instance } => {
                self.note(37, u64::from(instance.0), 0);
                let own = !self.setup.one_engine();
                if let Some(slot) = self.engines.get_mut(instance.index()).filter(|_| own) {
                    *slot = None;
                }
            }
            Action::SetTimer { timer, at } => {
                self.note(38, timer_code(timer).0, at.0);
                self.queue.push(at.0.max(self.now), Happening::Timer(timer));
            }
            Action::Refuse { request, reason, .. } => {
                self.note(39, u64::from(request.0), reason as u64);
                self.refused(request, reason);
            }
        }
    }

    /// After an event: engines that got work begin, and the account sees what changed.
    fn settle(&mut self) {
        while let Some(instance) = self.touched.pop() {
            self.rouse(instance);
        }
        let mut dirty = std::mem::take(&mut self.dirty);
        self.core.take_dirty(&mut dirty);
        for d in dirty.drain(..) {
            self.account_device(d);
        }
        self.dirty = dirty;
    }

    fn account_device(&mut self, d: DeviceId) {
        let gpu = &self.gpus[d.index()];
        let busy = gpu.sharing.users() > 0;
        self.account.note(self.now, d.index(), self.core.device(d), busy, gpu.kv_bytes);
    }
}

fn timer_code(timer: Timer) -> (u64, u64) {
    match timer {
        Timer::KeepAlive(i) => (1, u64::from(i.0)),
        Timer::BackboneKeepAlive(d) => (2, u64::from(d.0)),
        Timer::BatchExpired(i) => (3, u64::from(i.0)),
        Timer::Patience(i) => (4, u64::from(i.0)),
        Timer::ParkedPatience(f) => (5, u64::from(f.0)),
        Timer::Replan => (6, 0),
    }
}
