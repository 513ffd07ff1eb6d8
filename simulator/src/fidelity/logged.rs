//! A log read as a run: the same core told the same events, watched by the simulator's own account.
//!
//! Decisions are made again on the way and compared with the logged ones: with the same events they must be equal to the
//! last one, in whichever world the log was written. KV memory in use is not in a log; it is taken as prompt and half
//! the answer of every request at work.

use super::decisions::{Dated, Decision, Fate, Fates};
use crate::cost::{CostError, Tariff, bill};
use crate::measure::account::Account;
use crate::measure::collect::{Collect, Finished, Limits};
use crate::measure::functions::function_rows;
use crate::report::model::RunReport;
use crate::run::usage;
use crate::setup::Setup;
use crate::world::loads::Moved;
use coldframe_policy::core::Core;
use coldframe_policy::event::{Action, Event, Refused};
use coldframe_policy::log::{Divergence, Line, LogError, Reader};
use coldframe_policy::units::{DeviceId, FunctionId, InstanceId, Nanos, RequestId};
use coldframe_traces::FunctionInfo;
use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;

/// A log that can't be read as a run.
#[derive(Debug, thiserror::Error)]
pub enum LoggedError {
    /// It can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its bill can't be made.
    #[error(transparent)]
    Cost(#[from] CostError),
}

/// What a log holds.
#[derive(Debug)]
pub struct Logged {
    /// The run, as a simulated one is reported.
    pub report: RunReport,
    /// Every decision but timers, in order.
    pub decisions: Vec<Dated>,
    /// What became of each call.
    pub fates: Fates,
    /// Decisions made again and found equal.
    pub equal: u64,
    /// The first that was not.
    pub parted: Option<Divergence>,
    /// Why the log ends before the run, where it does.
    pub cut: Option<String>,
}

/// Reads a log. `setup` names the GPU, its memory and price, and the limits; sizes and policy are the log's own.
pub fn read<R: BufRead>(log: Reader<R>, setup: &Setup, tariffs: &[Tariff]) -> Result<Logged, LoggedError> {
    let mut run = Run::new(&log, setup);
    let mut last = None;
    let mut cut = None;
    for line in log {
        match line? {
            Line::Event { at, event } => {
                run.no_more_actions(&last);
                last = Some((at, event.clone()));
                run.told(at, event);
            }
            Line::Action(action) => run.asked(action, &last),
            Line::Function { id, tenant, name, .. } => run.named(id, tenant, name),
            ended @ Line::Ended { .. } => run.ended(ended),
            Line::Cut { reason, .. } => {
                cut = Some(reason);
                break;
            }
        }
    }
    Ok(Logged { cut, ..run.finish(setup, tariffs)? })
}

/// A request of the log.
#[derive(Clone, Copy, Default)]
struct Request {
    arrival: u64,
    function: FunctionId,
    tokens: u64,
    admitted: u64,
    waited: [u64; 5],
    place: Option<(DeviceId, u64)>,
    /// Which call of its function, from 0.
    number: usize,
}

struct Run<'a> {
    setup: &'a Setup,
    core: Core,
    decided: VecDeque<Action>,
    now: u64,
    first: Option<u64>,
    requests: BTreeMap<RequestId, Request>,
    /// Requests at work and KV bytes in use, by device.
    work: Vec<(u64, u64)>,
    infos: Vec<FunctionInfo>,
    account: Account,
    collect: Collect,
    moved: Moved,
    decisions: Vec<Dated>,
    /// By function.
    fates: Vec<Vec<Fate>>,
    events: u64,
    equal: u64,
    parted: Option<Divergence>,
}

impl<'a> Run<'a> {
    fn new<R: BufRead>(log: &Reader<R>, setup: &'a Setup) -> Self {
        let backbones = log.header.backbones.iter().map(|b| b.spec.clone()).collect();
        let limits = Limits { ttft_ns: setup.slo_ttft_ns, tpot_ns: setup.slo_tpot_ns };
        Self {
            setup,
            core: Core::new(log.header.policy.clone(), backbones),
            decided: VecDeque::new(),
            now: 0,
            first: None,
            requests: BTreeMap::new(),
            work: Vec::new(),
            infos: Vec::new(),
            account: Account::new(0),
            collect: Collect::new(limits),
            moved: Moved::default(),
            decisions: Vec::new(),
            fates: Vec::new(),
            events: 0,
            equal: 0,
            parted: None,
        }
    }

    fn told(&mut self, at: Nanos, event: Event) {
        self.now = self.now.max(at.0);
        self.events += 1;
        self.before(&event);
        let mut out = Vec::new();
        self.core.handle(at, event, &mut out);
        self.decided.extend(out);
        self.account.grow(self.core.devices().len());
        self.work.resize(self.core.devices().len(), (0, 0));
        self.settle();
    }

    /// What an event means for the measures, before the core is told.
    fn before(&mut self, event: &Event) {
        match event {
            Event::FunctionAdded(_) => {
                self.infos.push(FunctionInfo::default());
                self.fates.push(Vec::new());
            }
            Event::RequestArrived { request, function, prompt_tokens, max_tokens } => {
                self.first.get_or_insert(self.now);
                self.collect.arrived(function.0);
                let request_of = Request {
                    arrival: self.now,
                    function: *function,
                    tokens: u64::from(*prompt_tokens) + u64::from(*max_tokens) / 2,
                    number: self.fates[function.index()].len(),
                    ..Request::default()
                };
                self.fates[function.index()].push(Fate::Open);
                self.requests.insert(*request, request_of);
            }
            Event::RequestDone { request, .. } => self.left(*request),
            Event::RequestCancelled { request, .. } => {
                let known = self.requests.remove(request).is_some();
                self.collect.counts.timed_out += u64::from(known);
            }
            _ => {}
        }
    }

    /// A request's work on its device is over.
    fn left(&mut self, id: RequestId) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        if let Some((device, kv)) = request.place.take() {
            let work = &mut self.work[device.index()];
            *work = (work.0.saturating_sub(1), work.1.saturating_sub(kv));
            self.account_device(device);
        }
    }

    fn asked(&mut self, action: Action, last: &Option<(Nanos, Event)>) {
        let decided = self.decided.pop_front();
        if decided.as_ref() == Some(&action) {
            self.equal += 1;
        } else {
            self.part(last, Some(action.clone()), decided);
        }
        self.acted(action);
        self.settle();
    }

    fn no_more_actions(&mut self, last: &Option<(Nanos, Event)>) {
        if let Some(more) = self.decided.pop_front() {
            self.part(last, None, Some(more));
            self.decided.clear();
        }
    }

    fn part(&mut self, last: &Option<(Nanos, Event)>, logged: Option<Action>, decided: Option<Action>) {
        if let (None, Some((at, told))) = (&self.parted, last.clone()) {
            self.parted = Some(Divergence { event: self.events, at, told, logged, decided });
        }
    }

    fn acted(&mut self, action: Action) {
        match action {
            Action::Route { request, .. } => {
                let name = self.name_of_request(request);
                self.decide(Decision::Route(name));
            }
            Action::Admit { instance, batch } => {
                batch.iter().for_each(|(id, _)| self.admitted(instance, *id))
            }
            Action::Load { instance, class, function, from, bytes, .. } => {
                self.moved.load(class, from, bytes);
                let name = self.name(function.or(self.core.instance(instance).function));
                self.decide(Decision::Load(class, from, name));
            }
            Action::Evict { class, to, bytes, .. } => {
                self.moved.evict(class, to, bytes);
                self.decide(Decision::Evict(class, to));
            }
            Action::StartInstance { function, .. } => {
                let name = self.name(function);
                self.decide(Decision::Start(name));
            }
            Action::StopInstance { .. } => self.decide(Decision::Stop),
            Action::SetTimer { .. } => {}
            Action::Refuse { request, reason, .. } => self.refused(request, reason),
        }
    }

    fn decide(&mut self, what: Decision) {
        self.decisions.push((self.now, what));
    }

    fn admitted(&mut self, i: InstanceId, id: RequestId) {
        let name = self.name_of_request(id);
        self.decide(Decision::Admit(name));
        let instance = self.core.instance(i);
        let (device, backbone) = (instance.device, instance.backbone);
        let Some(request) = self.requests.get_mut(&id) else { return };
        let waited = instance.waited(request.function, Nanos(request.arrival), Nanos(self.now));
        request.waited = waited.map(|stage| stage.0);
        request.admitted = self.now;
        let per_token = self.core.backbones().get(backbone.index()).map_or(0, |b| b.spec.kv_per_token.0);
        let kv = request.tokens * per_token;
        request.place = Some((device, kv));
        let bits = request.waited.iter().enumerate().map(|(n, ns)| u8::from(*ns > 0) << n).sum();
        self.fates[request.function.index()][request.number] = Fate::Admitted(bits);
        self.moved.admitted(request.waited[3] > 0);
        let work = &mut self.work[device.index()];
        *work = (work.0 + 1, work.1 + kv);
        self.account_device(device);
    }

    fn refused(&mut self, id: RequestId, reason: Refused) {
        let name = self.name_of_request(id);
        self.decide(Decision::Refuse(reason, name));
        let Some(request) = self.requests.remove(&id) else { return };
        self.fates[request.function.index()][request.number] = Fate::Refused(reason);
        let timed_out = reason == Refused::TimedOut;
        self.collect.counts.timed_out += u64::from(timed_out);
        self.collect.counts.refused += u64::from(!timed_out);
    }

    fn named(&mut self, id: FunctionId, tenant: String, name: String) {
        if let Some(info) = self.infos.get_mut(id.index()) {
            *info = FunctionInfo { name, tenant, ..FunctionInfo::default() };
        }
    }

    fn ended(&mut self, line: Line) {
        let Line::Ended { at, request: id, prompt_tokens, output_tokens, ttft, outcome, .. } = line else {
            return;
        };
        self.now = self.now.max(at.0);
        self.left(id);
        let Some(request) = self.requests.remove(&id) else { return };
        if outcome != "completed" {
            self.collect.counts.refused += 1;
            return;
        }
        let first = (request.arrival + ttft.0).max(request.admitted);
        let done = Finished {
            function: request.function.0,
            arrival_ns: request.arrival,
            first_token_ns: first,
            end_ns: at.0.max(first),
            prompt_tokens,
            output_tokens,
            cold_ns: request.waited,
            prefill_ns: first - request.admitted,
        };
        let weight = self.weight(&done);
        self.collect.finished(&done, weight);
    }

    /// Solo compute time of a request's tokens, by the profile.
    fn weight(&self, done: &Finished) -> u64 {
        let backbone = self.core.functions()[done.function as usize].spec.backbone;
        let model = self.setup.models.get(backbone.index()).unwrap_or(&self.setup.models[0]);
        let cost = self.setup.step_cost(model);
        cost.prefill_b.max(1) * u64::from(done.prompt_tokens)
            + cost.decode_a.max(1) * u64::from(done.output_tokens)
    }

    fn name(&self, function: Option<FunctionId>) -> String {
        let info = function.and_then(|f| self.infos.get(f.index()));
        info.map(|info| info.name.clone()).unwrap_or_default()
    }

    fn name_of_request(&self, id: RequestId) -> String {
        self.name(self.requests.get(&id).map(|request| request.function))
    }

    fn settle(&mut self) {
        let mut dirty = Vec::new();
        self.core.take_dirty(&mut dirty);
        dirty.into_iter().for_each(|d| self.account_device(d));
    }

    fn account_device(&mut self, d: DeviceId) {
        let (at_work, kv) = self.work[d.index()];
        self.account.note(self.now, d.index(), self.core.device(d), at_work > 0, kv);
    }

    fn finish(mut self, setup: &Setup, tariffs: &[Tariff]) -> Result<Logged, CostError> {
        let running = self.requests.values().filter(|r| r.admitted > 0).count() as u64;
        self.collect.counts.running = running;
        self.collect.counts.queued = self.requests.len() as u64 - running;
        let span = self.now - self.first.unwrap_or(self.now);
        let mut report = RunReport {
            seed: setup.seed,
            events: self.events,
            simulated_s: span as f64 / 1e9,
            links: self.moved.links(),
            adapters: self.moved.adapters(),
            ..RunReport::default()
        };
        self.collect.report(span, &mut report);
        let (totals, gpu, memory, lives) = self.account.finish(self.now);
        (report.gpu, report.memory) = (gpu, memory);
        let usage = usage(setup, totals, lives, &report);
        report.bills = tariffs.iter().map(|tariff| bill(tariff, &usage)).collect::<Result<_, _>>()?;
        let backbone = |_: &FunctionInfo| setup.models[0].profile.name.clone();
        function_rows(&self.collect.functions, &self.infos, backbone, &mut report);
        let mut fates = Fates::new();
        for (info, of) in self.infos.into_iter().zip(self.fates) {
            fates.entry(info.name).or_default().extend(of);
        }
        let decisions = self.decisions;
        Ok(Logged { report, decisions, fates, equal: self.equal, parted: self.parted, cut: None })
    }
}
