//! Workers that obey a test: loads wait at gates or for a random while, fail by chance, and count what is held.
//!
//! Every call checks that it was handed the adapters of its own function.

use crate::calls::completion;
use coldframe_host::call::{Answer, Call, CallEvent, Finish, Later, Phases, Usage};
use coldframe_host::live::Before;
use coldframe_host::live::core::seam::{Arrived, Held, Pieces, Ran, Size};
use coldframe_host::live::core::{
    BackboneInfo, Budget, CatalogChange, Estimates, EventLog, Executors, FunctionInfo, FunctionKey, Live,
    LiveOptions,
};
use coldframe_host::meter::{LedgerSink, MemoryLedger};
use coldframe_host::records::{AdapterRecord, Generation, Names, Settings};
use coldframe_policy::artifact::Tier;
use coldframe_policy::config::{PolicyConfig, from_table, preset_toml, set};
use coldframe_policy::log;
use coldframe_policy::spec::BackboneSpec;
use coldframe_policy::units::{BackboneId, Bytes};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Bytes of every adapter.
pub const ADAPTER: u64 = 1000;
/// Bytes of the backbone.
pub const WEIGHTS: u64 = 10_000;
/// Bytes of a token's KV.
pub const KV: u64 = 1;

struct FakeAdapter {
    key: FunctionKey,
    live: Arc<AtomicU64>,
}

impl Drop for FakeAdapter {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
    }
}

/// See the module.
pub struct Fakes {
    /// Adapter loads pass here, one permit each.
    pub loads: Arc<Semaphore>,
    /// Calls end here, one permit each.
    pub ends: Arc<Semaphore>,
    /// Adapters in memory now, and at most.
    pub live: Arc<AtomicU64>,
    pub live_max: AtomicU64,
    /// Every so many-th load fails; 0 is none.
    pub failing: AtomicU64,
    loaded: Arc<AtomicU64>,
    /// Calls run.
    pub ran: AtomicU64,
}

impl Fakes {
    /// With gates that stand open.
    pub fn open() -> Arc<Self> {
        Self::gated(Semaphore::MAX_PERMITS, Semaphore::MAX_PERMITS)
    }

    /// With so many loads and ends let through.
    pub fn gated(loads: usize, ends: usize) -> Arc<Self> {
        Arc::new(Self {
            loads: Arc::new(Semaphore::new(loads)),
            ends: Arc::new(Semaphore::new(ends)),
            live: Arc::default(),
            live_max: AtomicU64::new(0),
            failing: AtomicU64::new(0),
            loaded: Arc::default(),
            ran: AtomicU64::new(0),
        })
    }
}

/// One permit, used up.
async fn pass(gate: Arc<Semaphore>) {
    gate.acquire_owned().await.expect("gates are never closed").forget();
}

fn arrived(held: Held, from: Tier) -> Arrived {
    Arrived { held, from, read: Duration::from_millis(1), load: Duration::from_millis(1) }
}

impl Executors for Fakes {
    fn backbone(&self, _: BackboneId, from: Tier) -> Later<'static, Result<Arrived, String>> {
        Box::pin(async move { Ok(arrived(Arc::new("backbone"), from)) })
    }

    fn code(&self, _: Arc<FunctionInfo>) -> Later<'static, Result<Arrived, String>> {
        Box::pin(async { Err("these functions have no code".to_owned()) })
    }

    fn adapters(
        &self,
        function: Arc<FunctionInfo>,
        _: Held,
        from: Tier,
    ) -> Later<'static, Result<Arrived, String>> {
        let nth = self.loaded.fetch_add(1, Ordering::SeqCst) + 1;
        let failing = self.failing.load(Ordering::SeqCst);
        let (gate, live) = (self.loads.clone(), self.live.clone());
        let now = live.fetch_add(1, Ordering::SeqCst) + 1;
        self.live_max.fetch_max(now, Ordering::SeqCst);
        let adapter = FakeAdapter { key: function.key.clone(), live };
        Box::pin(async move {
            pass(gate).await;
            if failing > 0 && nth.is_multiple_of(failing) {
                return Err("the disk is on fire".to_owned());
            }
            Ok(arrived(Arc::new(adapter), from))
        })
    }

    fn leaving(&self, _: Arc<FunctionInfo>, adapters: Held) -> Later<'static, ()> {
        Box::pin(async move { drop(adapters) })
    }

    fn keep_staged(&self, _: Vec<FunctionKey>) {}

    fn size<'a>(&'a self, call: &'a Call) -> Later<'a, Size> {
        let max_tokens = call.params.max_tokens.unwrap_or(16);
        Box::pin(async move { Size { prompt_tokens: 4, max_tokens } })
    }

    fn run(
        &self,
        call: Call,
        function: Arc<FunctionInfo>,
        pieces: Pieces,
        before: Before,
    ) -> (Answer, Later<'static, Ran>) {
        self.ran.fetch_add(1, Ordering::SeqCst);
        assert_eq!(function.key.names, call.names);
        if let Some(held) = &pieces.adapters {
            let adapter = held.clone().downcast::<FakeAdapter>().expect("an adapter");
            assert_eq!(adapter.key, function.key, "a call runs on its own function's adapters");
        } else {
            assert!(function.generation.is_none(), "a function's adapters are there");
        }
        let (events, receiver) = mpsc::channel(16);
        let gate = self.ends.clone();
        let done = async move {
            let mut phases = before.phases;
            phases.prefill = call.arrived.elapsed().saturating_sub(phases.total());
            let first = Ok(CallEvent::First { phases, cold: before.cold });
            let dropped = tokio::select! {
                () = events.closed() => true,
                () = async { let _ = events.send(first).await; pass(gate).await; } => false,
            };
            drop(pieces);
            let usage = Usage { prompt_tokens: 4, completion_tokens: 2, device_ns: 1000, ..Usage::default() };
            let _ = events.send(Ok(CallEvent::Done { choice: 0, finish: Finish::Stop })).await;
            let _ = events.send(Ok(CallEvent::End { usage })).await;
            Ran { usage, phases: Some(phases), error: None, dropped }
        };
        // The future is the driver's to await, and the caller's events must come even so.
        (Answer { events: receiver }, Box::pin(done))
    }
}

/// A policy with settings.
pub fn policy(name: &str, settings: &[(&str, &str)]) -> PolicyConfig {
    let mut table = preset_toml(name).expect("a preset");
    settings.iter().for_each(|(key, value)| set(&mut table, key, value).expect("a setting"));
    from_table(table, name).expect("a policy")
}

/// A function's generation.
pub fn generation(n: u32) -> Arc<Generation> {
    Arc::new(Generation {
        id: format!("{n:064}"),
        backbone: "tiny".to_owned(),
        adapters: vec![AdapterRecord {
            name: "a".to_owned(),
            generation: String::new(),
            files: BTreeMap::new(),
            kind: "lora".to_owned(),
            rank: 4,
            disk_bytes: ADAPTER,
            memory_bytes: ADAPTER,
            source: None,
        }],
        module: None,
        settings: Settings::default(),
        created_ms: 0,
    })
}

/// The function of a number.
pub fn names(n: u32) -> Names {
    Names { tenant: format!("tenant-{}", n % 2), function: format!("f{n}") }
}

/// A call of a function.
pub fn call_of(n: u32) -> Call {
    Call { names: names(n), generation: Some(generation(n)), ..completion("x", 8) }
}

/// What a log is written to.
#[derive(Clone, Default)]
pub struct Paper(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A live core on fakes.
pub struct Bench {
    pub live: Live,
    pub task: JoinHandle<()>,
    pub fakes: Arc<Fakes>,
    pub ledger: Arc<MemoryLedger>,
    pub paper: Paper,
}

/// Times that make no policy wait.
pub fn estimates() -> Estimates {
    Estimates {
        backbone: Duration::from_millis(5),
        backbone_from_host: Duration::from_millis(5),
        adapter_bytes_per_s: 1_000_000,
        module_bytes_per_s: 1_000_000,
        t0: Duration::from_millis(1),
        alpha: Duration::from_millis(1),
        slo_ttft: Duration::from_secs(2),
    }
}

impl Bench {
    /// With room for the backbone, so many adapters, and some KV.
    pub fn new(policy: PolicyConfig, adapters: u64, fakes: Arc<Fakes>) -> Self {
        let (ledger, paper) = (Arc::new(MemoryLedger::default()), Paper::default());
        let to = paper.clone();
        let spec = BackboneSpec {
            weights: Bytes(WEIGHTS),
            kv_per_token: Bytes(KV),
            context: Bytes::ZERO,
            slot: Bytes(ADAPTER),
        };
        let options = LiveOptions {
            policy,
            backbones: vec![BackboneInfo { name: "tiny".to_owned(), spec }],
            budget: Budget { device: WEIGHTS + adapters * ADAPTER + 500, host: 2 * ADAPTER },
            estimates: estimates(),
            max_calls: 500,
            log: Some(Box::new(move |header| EventLog::to(to, header, u64::MAX))),
            ledger: ledger.clone() as Arc<dyn LedgerSink>,
            checked: true,
        };
        let (live, task) = Live::start(options, fakes.clone()).expect("it starts");
        Self { live, task, fakes, ledger, paper }
    }

    /// Registers functions 0 to `n`.
    pub fn register(&self, n: u32) {
        for f in 0..n {
            let added = CatalogChange::Added { names: names(f), generation: generation(f) };
            self.live.apply(added).expect("a known backbone");
        }
    }

    /// Ends the core; its log must replay with the same decisions. Returns how many were the same.
    pub async fn end(self) -> u64 {
        drop(self.live);
        self.task.await.expect("the core never panics");
        let text = self.paper.0.lock().unwrap().clone();
        let replayed = log::replay(log::Reader::new(text.as_slice()).expect("a header")).expect("a log");
        assert_eq!(replayed.parted, None);
        assert_eq!(replayed.cut, None);
        replayed.equal
    }
}

/// Waits until something is so, and fails when it never is.
pub async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !so().await {
        assert!(start.elapsed() < Duration::from_secs(30), "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Phases of an answer must not exceed what passed.
pub fn plausible(phases: &Phases, since: Instant) {
    assert!(phases.total() <= since.elapsed(), "{phases:?}");
}
