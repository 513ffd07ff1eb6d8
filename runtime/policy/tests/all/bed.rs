//! A test bed around the core: it keeps what was asked for and reports it done when a test says so.
//!
//! No durations: a test orders events itself. Every event is followed by a look for contradictions.

use coldframe_policy::artifact::Class;
use coldframe_policy::config::{PolicyConfig, from_table, preset_toml, set};
use coldframe_policy::core::Core;
use coldframe_policy::event::{Action, Event, Timer};
use coldframe_policy::log;
use coldframe_policy::spec::{BackboneSpec, FunctionSpec, WorkerSpec};
use coldframe_policy::units::{BackboneId, Bytes, DeviceId, FunctionId, InstanceId, Nanos, RequestId};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes are counted in mebibytes, so that densities are round.
pub const MB: u64 = 1 << 20;
/// A second.
pub const S: u64 = 1_000_000_000;

/// A preset with settings.
pub fn policy(name: &str, settings: &[(&str, &str)]) -> PolicyConfig {
    let mut table = preset_toml(name).expect("a preset");
    settings.iter().for_each(|(key, value)| set(&mut table, key, value).expect("a setting"));
    from_table(table, name).expect("a policy")
}

/// ServerlessLoRA without anything that happens by itself: no pre-loading, no batching delay.
pub fn quiet(settings: &[(&str, &str)]) -> PolicyConfig {
    let mut all = vec![("preload", "{ kind = 'none' }"), ("batching.delay", "'none'")];
    all.extend(settings);
    policy("serverlesslora", &all)
}

/// A function on a backbone: adapter 10, kernels 20, libraries 50 MiB.
pub fn function(b: u32) -> FunctionSpec {
    FunctionSpec {
        backbone: BackboneId(b),
        adapter: Bytes(10 * MB),
        runtime: Bytes(50 * MB),
        kernel: Bytes(20 * MB),
        slo_ttft: Nanos(2 * S),
        t0: Nanos(S / 5),
        alpha: Nanos(S / 20),
        load: [Nanos(S), Nanos(3 * S), Nanos(5 * S), Nanos(S / 2), Nanos(S)],
        backbone_from_host: Nanos(S),
        keep_alive: None,
        max_concurrency: None,
    }
}

/// See the module.
pub struct Bed {
    pub core: Core,
    pub now: u64,
    pub loads: Vec<(InstanceId, Class, Option<FunctionId>)>,
    pub evictions: Vec<(DeviceId, Bytes)>,
    pub timers: BTreeSet<(u64, Timer)>,
    pub running: BTreeMap<u32, (InstanceId, FunctionId, Bytes)>,
    /// Requests that came and neither run nor ended.
    pub waiting: BTreeMap<u32, FunctionId>,
    pub devices: BTreeMap<InstanceId, DeviceId>,
    pub log: Vec<String>,
    /// The same as a decision log.
    pub lines: Vec<String>,
    requests: u32,
}

impl Bed {
    /// Workers with these devices (MiB), 1000 MiB of host memory each; two backbones of 100 MiB, a token is 1 MiB of KV.
    pub fn new(policy: PolicyConfig, workers: &[&[u64]]) -> Self {
        let backbone = BackboneSpec {
            weights: Bytes(100 * MB),
            kv_per_token: Bytes(MB),
            context: Bytes(20 * MB),
            slot: Bytes(10 * MB),
        };
        let known = |name: &str| log::Backbone { name: name.to_owned(), spec: backbone.clone() };
        let header = log::Header {
            coldframe_log: log::VERSION,
            writer: "test".to_owned(),
            started_ms: 0,
            policy: policy.clone(),
            backbones: vec![known("a"), known("b")],
        };
        let mut bed = Self {
            core: Core::new(policy, vec![backbone.clone(), backbone]),
            now: 0,
            loads: Vec::new(),
            evictions: Vec::new(),
            timers: BTreeSet::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            devices: BTreeMap::new(),
            log: Vec::new(),
            lines: vec![log::to_text(&header)],
            requests: 0,
        };
        workers.iter().for_each(|devices| bed.join(devices, 1000));
        bed
    }

    pub fn join(&mut self, devices: &[u64], host: u64) {
        let devices = devices.iter().map(|mb| Bytes(mb * MB)).collect();
        self.tell(Event::WorkerJoined(WorkerSpec { host: Bytes(host * MB), devices }));
    }

    /// Functions on these backbones, in order.
    pub fn functions(mut self, backbones: &[u32]) -> Self {
        backbones.iter().for_each(|&b| self.tell(Event::FunctionAdded(function(b))));
        self
    }

    /// A function on backbone 0 that says for itself how long it stays and how many run at once.
    pub fn asking(mut self, keep_alive_s: Option<u64>, max_concurrency: Option<u32>) -> Self {
        let keep_alive = keep_alive_s.map(|s| Nanos(s * S));
        self.tell(Event::FunctionAdded(FunctionSpec { keep_alive, max_concurrency, ..function(0) }));
        self
    }

    pub fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.lines.push(log::to_text(&log::Line::Event { at: Nanos(self.now), event: event.clone() }));
        self.core.handle(Nanos(self.now), event, &mut actions);
        for action in actions {
            self.lines.push(log::to_text(&log::Line::Action(action.clone())));
            self.act(action);
        }
        assert_eq!(self.core.contradiction(), None, "after {:?}", self.log.last());
    }

    fn act(&mut self, action: Action) {
        let words = match action {
            Action::Route { request, instance } => format!("route r{} i{}", request.0, instance.0),
            Action::Admit { instance, batch } => {
                let mut words = format!("admit i{}", instance.0);
                for (request, kv) in batch {
                    let f = self.waiting.remove(&request.0).expect("admitted once");
                    self.running.insert(request.0, (instance, f, kv));
                    words += &format!(" r{}", request.0);
                }
                words
            }
            Action::Load { instance, class, function, from, .. } => {
                self.loads.push((instance, class, function));
                format!("load i{} {} from {from:?}", instance.0, class.name())
            }
            Action::Evict { instance, device, class, to, bytes } => {
                if bytes.0 > 0 {
                    self.evictions.push((device, bytes));
                }
                let whose = instance.map_or(format!("d{}", device.0), |i| format!("i{}", i.0));
                format!("evict {whose} {} to {to:?}", class.name())
            }
            Action::StartInstance { instance, device, function, .. } => {
                self.devices.insert(instance, device);
                let whose = function.map_or("any".to_owned(), |f| format!("f{}", f.0));
                format!("start i{} d{} {whose}", instance.0, device.0)
            }
            Action::StopInstance { instance } => {
                self.loads.retain(|l| l.0 != instance);
                self.devices.remove(&instance);
                format!("stop i{}", instance.0)
            }
            Action::SetTimer { timer, at } => {
                self.timers.insert((at.0.max(self.now), timer));
                return;
            }
            Action::Refuse { request, reason, .. } => {
                self.waiting.remove(&request.0).expect("refused once, and not while it runs");
                format!("refuse r{} {reason:?}", request.0)
            }
        };
        self.log.push(words);
    }

    /// A request of one prompt token and this much more.
    pub fn arrive_with(&mut self, f: u32, tokens: u32) -> u32 {
        let id = self.requests;
        self.requests += 1;
        self.waiting.insert(id, FunctionId(f));
        let (request, function) = (RequestId(id), FunctionId(f));
        self.tell(Event::RequestArrived { request, function, prompt_tokens: 1, max_tokens: tokens - 1 });
        id
    }

    pub fn arrive(&mut self, f: u32) -> u32 {
        self.arrive_with(f, 2)
    }

    /// Loads and evictions complete until there are none under way.
    pub fn settle(&mut self) {
        for turn in 0.. {
            if self.loads.is_empty() && self.evictions.is_empty() {
                return;
            }
            assert!(turn < 10_000, "no end: {:?}", &self.log[self.log.len() - 20..]);
            self.one_eviction(0);
            self.one_load(0);
        }
    }

    pub fn one_load(&mut self, n: usize) {
        if n < self.loads.len() {
            let (instance, class, function) = self.loads.remove(n);
            self.tell(Event::LoadDone { instance, class, function });
        }
    }

    pub fn fail_load(&mut self, n: usize) {
        if n < self.loads.len() {
            let (instance, class, function) = self.loads.remove(n);
            self.tell(Event::LoadFailed { instance, class, function });
        }
    }

    pub fn one_eviction(&mut self, n: usize) {
        if n < self.evictions.len() {
            let (device, bytes) = self.evictions.remove(n);
            self.tell(Event::EvictDone { device, bytes });
        }
    }

    pub fn done(&mut self, request: u32) {
        let (instance, function, kv) = self.running.remove(&request).expect("it runs");
        self.tell(Event::RequestDone { request: RequestId(request), instance, function, kv });
    }

    /// Serves one request of a function to its end, all loads included.
    pub fn serve(&mut self, f: u32) {
        let r = self.arrive(f);
        self.settle();
        assert!(self.running.contains_key(&r), "r{r} is not served: {:?}", self.log);
        self.done(r);
    }

    /// Moves time, firing timers on the way.
    pub fn at(&mut self, seconds: u64) {
        self.at_ns(seconds * S);
    }

    pub fn at_ns(&mut self, to: u64) {
        while let Some(&(at, timer)) = self.timers.first().filter(|t| t.0 <= to) {
            self.timers.pop_first();
            self.now = at;
            self.tell(Event::TimerFired(timer));
        }
        self.now = to;
    }

    /// Gives up a request that waits.
    pub fn cancel(&mut self, request: u32) {
        let function = self.waiting.remove(&request).expect("it waits");
        self.tell(Event::RequestCancelled { request: RequestId(request), function });
    }

    /// Another policy takes over: what runs is no longer the core's business but for its memory.
    pub fn succeed(&mut self, policy: PolicyConfig) {
        self.running.clear();
        self.tell(Event::PolicyChanged(Box::new(policy)));
    }

    /// Replays everything so far in a fresh core.
    pub fn replayed(&self) -> log::Replayed {
        let text = self.lines.join("\n");
        log::replay(log::Reader::new(text.as_bytes()).expect("a header")).expect("a log")
    }

    /// What was asked since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Asserts what was asked since the last call.
    #[track_caller]
    pub fn check(&mut self, expected: &[&str]) {
        assert_eq!(self.take(), expected);
    }

    /// Whether an instance has a class in place.
    pub fn has(&self, i: u32, class: Class) -> bool {
        self.core.instance(InstanceId(i)).have[class as usize] == coldframe_policy::core::book::Place::Here
    }
}
