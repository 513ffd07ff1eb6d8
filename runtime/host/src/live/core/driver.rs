//! The task that owns the core: one thing happens at a time, at a time that never goes back.
//!
//! Timers fire at the time they were set for, before anything later is told, as in the simulator: a late wake-up changes
//! when something is done, never what is decided. Work runs on tasks of its own and reports back here.

use super::admission::Request;
use super::events::EventLog;
use super::functions::{Estimates, Functions};
use super::handle::{LiveOptions, Sleep, Wish, overloaded};
use super::metering::Metering;
use super::residency::{self, Counters, Residency, count, tier_name};
use super::seam::{Arrived, Executors, FunctionInfo, FunctionKey, Load, Ran, Size};
use super::stages::{Stage, Stages, dead, release, stage, stage_or_there};
use crate::call::{Answer, Call, CallError};
use coldframe_policy::artifact::{Class, Tier};
use coldframe_policy::config::PolicyConfig;
use coldframe_policy::core::Core;
use coldframe_policy::event::{Action, Event, Timer};
use coldframe_policy::log::{self, Header, Line};
use coldframe_policy::parts::sharing::{Sharing, SharingDecision};
use coldframe_policy::spec::WorkerSpec;
use coldframe_policy::units::{BackboneId, Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId};
use futures_util::FutureExt;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

/// When there is no timer: arbitrary, woken by messages anyway.
const IDLE: Duration = Duration::from_secs(3600);

/// A call on its way to the core.
pub(super) struct Asked {
    pub(super) ticket: u64,
    pub(super) call: Call,
    pub(super) info: FunctionInfo,
    pub(super) size: Size,
    pub(super) answer: oneshot::Sender<Result<Answer, CallError>>,
    pub(super) _room: OwnedSemaphorePermit,
}

/// What the task is told.
pub(super) enum Message {
    Call(Box<Asked>),
    GivenUp(u64),
    Add(FunctionInfo),
    Remove(FunctionKey),
    Wish(FunctionKey, Wish, oneshot::Sender<bool>),
    Policy(Box<PolicyConfig>, oneshot::Sender<()>),
    AskPolicy(oneshot::Sender<Box<PolicyConfig>>),
    Look(oneshot::Sender<Box<Residency>>),
    Drain(oneshot::Sender<()>),
}

/// What work reports.
pub(super) enum Report {
    Loaded {
        instance: InstanceId,
        epoch: u64,
        class: Class,
        function: Option<FunctionId>,
        from: Tier,
        result: Result<Option<Arrived>, String>,
    },
    Evicted {
        device: DeviceId,
        bytes: Bytes,
    },
    Ended {
        request: RequestId,
        ran: Box<Ran>,
    },
}

/// See the module.
pub(super) struct Driver {
    pub(super) core: Core,
    pub(super) executors: Arc<dyn Executors>,
    pub(super) functions: Functions,
    pub(super) instances: Vec<Stages>,
    /// Weights that all instances of a device map, by backbone: policies that share.
    pub(super) shared: BTreeMap<(DeviceId, BackboneId), Stage>,
    pub(super) requests: BTreeMap<RequestId, Request>,
    pub(super) counters: Counters,
    pub(super) metering: Metering,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// Counts changes of policy: what was admitted before one is no longer the core's business.
    pub(super) reign: u64,
    /// Why the load that is being reported failed.
    pub(super) failure: Option<String>,
    /// What a function's last load spent on reading, of reading and loading: splits the core's one span.
    pub(super) read_share: BTreeMap<FunctionId, (Duration, Duration, Tier)>,
    started: Instant,
    now: Nanos,
    inbox: Option<mpsc::UnboundedReceiver<Report>>,
    timers: BinaryHeap<Reverse<(Nanos, u64, Timer)>>,
    sequence: u64,
    tickets: BTreeMap<u64, RequestId>,
    next_request: u32,
    estimates: Estimates,
    log: Option<EventLog>,
    drained: Vec<oneshot::Sender<()>>,
    draining: bool,
    checked: bool,
    staged_changed: bool,
    /// Loads and evictions that took no time.
    at_once: VecDeque<Report>,
}

/// Runs a driver until every handle is gone and nothing is left.
pub(super) async fn run(mut driver: Driver, mut messages: mpsc::UnboundedReceiver<Message>) {
    let mut reports = driver.inbox.take().expect("a driver runs once");
    let mut open = true;
    while open || !driver.requests.is_empty() {
        let due = driver.due();
        tokio::select! {
            biased;
            report = reports.recv() => {
                if let Some(report) = report {
                    driver.wake();
                    driver.reported(report);
                }
            }
            message = messages.recv(), if open => {
                driver.wake();
                match message {
                    Some(message) => driver.asked(message),
                    None => open = false,
                }
            }
            () = tokio::time::sleep_until(due.into()) => driver.wake(),
        }
        driver.settle();
    }
    driver.metering.close(driver.now, &driver.functions);
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl Driver {
    pub(super) fn new(options: LiveOptions, executors: Arc<dyn Executors>) -> std::io::Result<Self> {
        let (reports, inbox) = mpsc::unbounded_channel();
        let (started_ms, names) = (since_1970().as_millis() as u64, &options.backbones);
        let header = Header {
            coldframe_log: log::VERSION,
            writer: "host".to_owned(),
            started_ms,
            policy: options.policy.clone(),
            backbones: names
                .iter()
                .map(|b| log::Backbone { name: b.name.clone(), spec: b.spec.clone() })
                .collect(),
        };
        let specs = options.backbones.iter().map(|backbone| backbone.spec.clone()).collect();
        let weights = options.backbones.iter().map(|b| (b.name.clone(), b.spec.weights.0)).collect();
        let mut driver = Self {
            core: Core::new(options.policy, specs),
            executors,
            functions: Functions::default(),
            instances: Vec::new(),
            shared: BTreeMap::new(),
            requests: BTreeMap::new(),
            counters: Counters::default(),
            metering: Metering::new(options.ledger, options.witness, weights, started_ms),
            reports,
            reign: 0,
            failure: None,
            read_share: BTreeMap::new(),
            started: Instant::now(),
            now: Nanos::ZERO,
            inbox: Some(inbox),
            timers: BinaryHeap::new(),
            sequence: 0,
            tickets: BTreeMap::new(),
            next_request: 0,
            estimates: options.estimates,
            log: options.log.map(|make| make(&header)).transpose()?,
            drained: Vec::new(),
            draining: false,
            checked: options.checked,
            staged_changed: false,
            at_once: VecDeque::new(),
        };
        let (host, device) = (Bytes(options.budget.host), Bytes(options.budget.device));
        driver.tell(Event::WorkerJoined(WorkerSpec { host, devices: vec![device] }));
        Ok(driver)
    }

    /// When the next timer is due.
    fn due(&self) -> Instant {
        let next = self.timers.peek().map(|Reverse((at, ..))| Duration::from_nanos(at.0));
        let idle = Instant::now() + IDLE;
        next.map_or(idle, |at| self.started.checked_add(at).unwrap_or(idle).min(idle))
    }

    /// Moves time to now; every timer due until then fires at its own time.
    fn wake(&mut self) {
        let now = Nanos(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX));
        while let Some(&Reverse((at, _, timer))) = self.timers.peek().filter(|Reverse((at, ..))| *at <= now) {
            self.timers.pop();
            self.now = self.now.max(at);
            self.tell(Event::TimerFired(timer));
            self.report_at_once();
        }
        self.now = self.now.max(now);
    }

    /// After something happened: what follows for bookkeeping.
    fn settle(&mut self) {
        self.report_at_once();
        if std::mem::take(&mut self.staged_changed) {
            self.keep_staged();
        }
        self.metering.look(self.now, &self.core, &self.functions);
        if self.draining && self.requests.is_empty() {
            // Whoever asked may have gone meanwhile.
            for done in self.drained.drain(..) {
                let _ = done.send(());
            }
        }
    }

    /// What took no time is over before time goes on.
    fn report_at_once(&mut self) {
        while let Some(report) = self.at_once.pop_front() {
            self.reported(report);
        }
    }

    pub(super) fn now(&self) -> Nanos {
        self.now
    }

    /// Tells the core, and carries out what it asks for.
    pub(super) fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        if let Some(log) = &mut self.log {
            log.add(self.now, &Line::Event { at: self.now, event: event.clone() });
        }
        let cause = cause(&event);
        self.core.handle(self.now, event, &mut actions);
        if let Some(log) = &mut self.log {
            actions.iter().for_each(|action| log.add(self.now, &Line::Action(action.clone())));
        }
        if self.checked {
            assert_eq!(self.core.contradiction(), None, "the book contradicts itself");
        }
        actions.into_iter().for_each(|action| self.act(action, cause));
    }

    pub(super) fn note(&mut self, line: &Line) {
        if let Some(log) = &mut self.log {
            log.add(self.now, line);
        }
    }

    fn asked(&mut self, message: Message) {
        // Whoever asked may have gone meanwhile: then nobody needs the answer.
        match message {
            Message::Call(asked) => self.call(*asked),
            Message::GivenUp(ticket) => self.given_up(ticket),
            Message::Add(info) => drop(self.function(&info)),
            Message::Remove(key) => self.remove(&key),
            Message::Wish(key, wish, answer) => drop(answer.send(self.wish(&key, wish))),
            Message::Policy(policy, done) => {
                self.change_policy(policy);
                let _ = done.send(());
            }
            Message::AskPolicy(answer) => drop(answer.send(Box::new(self.core.config.clone()))),
            Message::Look(answer) => {
                self.metering.byte_seconds(&mut self.counters);
                let seen = residency::look(&self.core, &self.functions, self.now, &self.counters);
                let _ = answer.send(Box::new(seen));
            }
            Message::Drain(done) => {
                self.draining = true;
                self.drained.push(done);
            }
        }
    }

    /// The function's number; it is added where it is not there yet, so that a call may come before the catalog's word.
    fn function(&mut self, info: &FunctionInfo) -> FunctionId {
        if let Some(id) = self.functions.id(&info.key) {
            return id;
        }
        let (id, spec) = self.functions.add(info.clone(), &self.estimates);
        self.tell(Event::FunctionAdded(spec));
        let FunctionKey { names, generation } = info.key.clone();
        let generation = generation.unwrap_or_default();
        self.note(&Line::Function { id, tenant: names.tenant, name: names.function, generation });
        id
    }

    fn remove(&mut self, key: &FunctionKey) {
        if let Some(id) = self.functions.remove(key) {
            self.read_share.remove(&id);
            self.tell(Event::FunctionRemoved(id));
            self.staged_changed = true;
        }
    }

    fn wish(&mut self, key: &FunctionKey, wish: Wish) -> bool {
        let Some(function) = self.functions.id(key) else { return false };
        match wish {
            Wish::Pin(pinned) => {
                self.tell(Event::FunctionPinned { function, pinned });
                if pinned {
                    self.tell(Event::FunctionWarmed(function));
                }
            }
            Wish::Warm => self.tell(Event::FunctionWarmed(function)),
            Wish::Sleep(level) => {
                self.tell(Event::FunctionSlept { function, deep: level == Sleep::All });
                self.staged_changed = true;
            }
        }
        true
    }

    fn change_policy(&mut self, policy: Box<PolicyConfig>) {
        self.reign += 1;
        self.counters.policies += 1;
        self.tell(Event::PolicyChanged(policy));
    }

    fn call(&mut self, asked: Asked) {
        self.counters.arrived += 1;
        if self.draining {
            let error = overloaded("draining", "the host is shutting down", Duration::from_secs(1));
            drop(asked.answer.send(Err(error)));
            return;
        }
        let function = self.function(&asked.info);
        let request = self.free_number();
        let Size { prompt_tokens, max_tokens } = asked.size;
        self.tickets.insert(asked.ticket, request);
        self.requests.insert(request, Request::new(asked, function, self.now));
        self.tell(Event::RequestArrived { request, function, prompt_tokens, max_tokens });
    }

    fn free_number(&mut self) -> RequestId {
        while self.requests.contains_key(&RequestId(self.next_request)) {
            self.next_request = self.next_request.wrapping_add(1);
        }
        let request = RequestId(self.next_request);
        self.next_request = self.next_request.wrapping_add(1);
        request
    }

    fn given_up(&mut self, ticket: u64) {
        let Some(&request) = self.tickets.get(&ticket) else { return };
        let Some(waiting) = self.requests.get(&request).filter(|request| request.admitted.is_none()) else {
            return; // it runs: its dropped answer ends it
        };
        let function = waiting.function;
        self.forget(request);
        self.counters.cancelled += 1;
        self.tell(Event::RequestCancelled { request, function });
    }

    /// Drops what is known of a request.
    pub(super) fn forget(&mut self, request: RequestId) -> Option<Request> {
        let gone = self.requests.remove(&request)?;
        self.tickets.remove(&gone.ticket);
        Some(gone)
    }

    fn reported(&mut self, report: Report) {
        match report {
            Report::Loaded { instance, epoch, class, function, from, result } => {
                if self.instances[instance.index()].epoch == epoch {
                    self.loaded(instance, class, function, from, result);
                }
            }
            Report::Evicted { device, bytes } => self.tell(Event::EvictDone { device, bytes }),
            Report::Ended { request, ran } => self.ended(request, &ran),
        }
    }

    fn loaded(
        &mut self,
        instance: InstanceId,
        class: Class,
        function: Option<FunctionId>,
        from: Tier,
        result: Result<Option<Arrived>, String>,
    ) {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        count(&mut self.counters.loads, format!("{}/{}/{outcome}", class.name(), tier_name(from)), 1);
        let arrived = result.as_ref().ok().and_then(Option::as_ref);
        self.metering.loaded(Load {
            class,
            from: arrived.map_or(from, |arrived| arrived.from),
            took: arrived.map(|arrived| arrived.read + arrived.load),
        });
        self.staged_changed |= class == Class::Adapter;
        match result {
            Ok(arrived) => {
                if let (Some(arrived), Class::Adapter) = (arrived, class) {
                    let whose = function.or(self.instances[instance.index()].function);
                    let times = (arrived.read, arrived.load, arrived.from);
                    whose.map(|f| self.read_share.insert(f, times));
                }
                self.tell(Event::LoadDone { instance, class, function });
            }
            Err(why) => {
                tracing::warn!(class = class.name(), why, "a load failed");
                self.failure = Some(why);
                self.tell(Event::LoadFailed { instance, class, function });
                self.failure = None;
            }
        }
    }

    fn act(&mut self, action: Action, cause: &'static str) {
        match action {
            Action::Route { .. } => {}
            Action::Admit { instance, batch } => {
                batch.into_iter().for_each(|(request, kv)| self.admit(instance, request, kv));
            }
            Action::Load { instance, class, function, from, .. } => {
                self.load(instance, class, function, from)
            }
            Action::Evict { instance, device, class, to, bytes } => {
                count(&mut self.counters.evictions, format!("{}/{}/{cause}", class.name(), tier_name(to)), 1);
                self.evict(instance, device, class, bytes);
            }
            Action::StartInstance { instance, device, function, ready } => {
                self.start(instance, device, function, ready);
            }
            Action::StopInstance { instance } => {
                let stages = &mut self.instances[instance.index()];
                stages.epoch += 1;
                // What leaves with bytes of its own was evicted before; the rest (code) goes with its last call.
                stages.pieces.clear();
            }
            Action::SetTimer { timer, at } => {
                self.sequence += 1;
                self.timers.push(Reverse((at.max(self.now), self.sequence, timer)));
            }
            Action::Refuse { request, reason, retry_after } => self.refused(request, reason, retry_after),
        }
    }

    fn start(&mut self, i: InstanceId, device: DeviceId, function: Option<FunctionId>, ready: bool) {
        if self.instances.len() <= i.index() {
            self.instances.resize_with(i.index() + 1, Stages::default);
        }
        let backbone = self.core.instance(i).backbone;
        let stages = &mut self.instances[i.index()];
        (stages.device, stages.backbone, stages.function) = (device, backbone, function);
        if ready {
            // A replica is complete for the core; its backbone comes with the start and calls await it.
            let stage = stage(self.executors.backbone(backbone, Tier::Disk));
            self.instances[i.index()].pieces.insert((Class::Backbone, None), stage);
        }
    }

    fn shares(&self) -> bool {
        self.core.config.sharing.decide() == SharingDecision::SharedWeights
    }

    /// Where an instance's backbone is.
    pub(super) fn backbone_stage(&self, i: InstanceId) -> Option<&Stage> {
        let stages = &self.instances[i.index()];
        let own = stages.pieces.get(&(Class::Backbone, None));
        own.or_else(|| self.shared.get(&(stages.device, stages.backbone)))
    }

    fn load(&mut self, i: InstanceId, class: Class, function: Option<FunctionId>, from: Tier) {
        if self.instances.len() <= i.index() {
            self.start(i, self.core.instance(i).device, None, false);
        }
        let whose = function.or(self.core.instance(i).function);
        let stage = self.piece(i, class, whose, from);
        let (device, backbone, epoch) = {
            let stages = &self.instances[i.index()];
            (stages.device, stages.backbone, stages.epoch)
        };
        if let Some(stage) = &stage {
            match class {
                Class::Backbone if self.shares() => {
                    drop(self.shared.insert((device, backbone), stage.clone()))
                }
                Class::Backbone => {
                    drop(self.instances[i.index()].pieces.insert((class, None), stage.clone()))
                }
                _ => drop(self.instances[i.index()].pieces.insert((class, whose), stage.clone())),
            }
        }
        let reports = self.reports.clone();
        let report = move |result| Report::Loaded { instance: i, epoch, class, function, from, result };
        // Nothing to bring, or there already: it is so at the very time it was asked for, as in the simulator. A word to
        // another task and back takes milliseconds beside a busy engine.
        let there = stage.as_ref().map(|stage| stage.clone().now_or_never());
        match (stage, there) {
            (None, _) => self.at_once.push_back(report(Ok(None))),
            (_, Some(Some(result))) => self.at_once.push_back(report(result.map(Some))),
            // The driver outlives its reports, or nobody listens any more.
            (Some(stage), _) => drop(tokio::spawn(async move {
                let result = stage.await.map(Some);
                let _ = reports.send(report(result));
            })),
        }
    }

    /// The load behind a class; `None` where this host has nothing to bring: it is there at once.
    fn piece(&self, i: InstanceId, class: Class, whose: Option<FunctionId>, from: Tier) -> Option<Stage> {
        let info = || whose.map(|f| self.functions.info(f).clone());
        match class {
            Class::Container => {
                let info =
                    info().filter(|info| info.generation.as_ref().is_some_and(|g| g.module.is_some()))?;
                Some(stage(self.executors.code(info)))
            }
            Class::Backbone => Some(stage(self.executors.backbone(self.instances[i.index()].backbone, from))),
            Class::Adapter => {
                let info = info().filter(|info| info.adapter_bytes() > 0)?;
                let (executors, backbone) = (self.executors.clone(), self.backbone_stage(i)?.clone());
                let load = Box::pin(async move {
                    let backbone = backbone.await?;
                    executors.adapters(info, backbone.held, from).await
                });
                // A copy in host memory is the one that is used.
                Some(if from == Tier::Host { stage_or_there(load) } else { stage(load) })
            }
            Class::Runtime | Class::Kernel => None,
        }
    }

    /// The code of a function on an engine that serves many: brought at its first call there.
    pub(super) fn code_stage(&mut self, i: InstanceId, f: FunctionId) -> Option<Stage> {
        let info = self.functions.info(f).clone();
        info.generation.as_ref()?.module.as_ref()?;
        let executors = &self.executors;
        let pieces = &mut self.instances[i.index()].pieces;
        let key = (Class::Container, Some(f));
        Some(pieces.entry(key).or_insert_with(|| stage(executors.code(info))).clone())
    }

    fn evict(&mut self, instance: Option<InstanceId>, device: DeviceId, class: Class, bytes: Bytes) {
        let leaving = match (instance, class) {
            (Some(i), Class::Adapter) => self.take_adapter(i, bytes),
            (Some(i), Class::Backbone) => {
                self.instances[i.index()].pieces.remove(&(class, None)).map(|stage| (stage, None))
            }
            (None, Class::Backbone) => self.take_shared(device, bytes).map(|stage| (stage, None)),
            _ => None,
        };
        // Memory that running requests hold after a change of policy is free when the last of them is done.
        let held = match (instance, class) {
            (None, Class::Kernel) => self.requests.values().filter_map(Request::lease).collect(),
            _ => Vec::new(),
        };
        let executors = self.executors.clone();
        let mut leave = Box::pin(async move {
            if let Some((stage, of)) = leaving {
                release(stage, of.map(|info| (executors, info))).await;
            }
            for lease in held {
                dead(&lease).await;
            }
        });
        let told = (bytes > Bytes::ZERO).then_some(Report::Evicted { device, bytes });
        // Most have no user any more: their memory is free now.
        if leave.as_mut().now_or_never().is_some() {
            self.at_once.extend(told);
            return;
        }
        let reports = self.reports.clone();
        tokio::spawn(async move {
            leave.await;
            // The driver outlives its reports, or nobody listens any more.
            told.into_iter().for_each(|report| drop(reports.send(report)));
        });
    }

    /// The adapters that leave an instance. An engine that serves many says only how much: the one that its slots no
    /// longer name.
    fn take_adapter(&mut self, i: InstanceId, bytes: Bytes) -> Option<(Stage, Option<Arc<FunctionInfo>>)> {
        let instance = self.core.instance(i);
        let stages = &mut self.instances[i.index()];
        let gone = match stages.function {
            Some(f) => Some(f),
            None => {
                let adapters = stages.pieces.keys().filter(|key| key.0 == Class::Adapter);
                let mut gone = adapters.filter_map(|key| key.1).filter(|f| !instance.slots.contains_key(f));
                gone.find(|f| bytes == Bytes::ZERO || self.core.function(*f).spec.adapter == bytes)
            }
        }?;
        let stage = stages.pieces.remove(&(Class::Adapter, Some(gone)))?;
        Some((stage, Some(self.functions.info(gone).clone())))
    }

    /// A shared backbone that leaves a device, told apart by its size.
    fn take_shared(&mut self, device: DeviceId, bytes: Bytes) -> Option<Stage> {
        let there = self.shared.keys().filter(|(d, _)| *d == device);
        let key = there.copied().find(|(_, b)| self.core.backbones()[b.index()].spec.weights == bytes)?;
        self.shared.remove(&key)
    }

    /// Tells executors which copies in host memory the core still counts on.
    fn keep_staged(&self) {
        use coldframe_policy::core::book::Staged;
        let staged = self.core.workers().iter().flat_map(|worker| &worker.staged);
        let functions = staged.filter_map(|(what, _)| match what {
            Staged::Adapter(f) => Some(self.functions.info(*f).key.clone()),
            Staged::Backbone(_) => None,
        });
        self.executors.keep_staged(functions.collect());
    }
}

/// Why the core lets something go, by what it was told last.
fn cause(event: &Event) -> &'static str {
    match event {
        Event::TimerFired(_) => "keep-alive",
        Event::FunctionSlept { .. } => "sleep",
        Event::FunctionRemoved(_) => "removed",
        Event::PolicyChanged(_) => "policy",
        Event::LoadFailed { .. } => "failed",
        _ => "room",
    }
}
