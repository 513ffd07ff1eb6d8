//! `coldframe bench-sandbox`: the figures of the sandbox's promises (docs/spec.md); the last line is one JSON object.
//!
//! Guests are those of `runtime/sandbox/guests` and `functions/budget-hog`; the model behind them says nothing for ever, so that
//! the sandbox alone is measured. Ratios compare with bare wasmtime in the same run. With a backbone what a tenant of a whole
//! server feels is measured too. What is not measured is left out.

mod hogs;
mod neighbours;
mod served;
pub mod stage;

use crate::bench_host::numbers::quantile;
use crate::ui::{Ui, print};
use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use coldframe_sandbox::yardstick::Bare;
use coldframe_sandbox::{Function, Grants, Limits, Sandbox, SandboxOptions};
use serde_json::{Map, Value, json};
use stage::{Stage, call, request};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The smallest guest.
const BARE: &[u8] = include_bytes!("../../../sandbox/guests/bare.wasm");
/// The guest that does what its request says.
const SCRIPT: &[u8] = include_bytes!("../../../sandbox/guests/script.wasm");
/// The guest with a token hook.
const HOOK: &[u8] = include_bytes!("../../../sandbox/guests/hook.wasm");

/// Instances alive at once.
const LIVE: u32 = 1_000;
/// Functions registered.
const REGISTERED: usize = 10_000;

/// Measure the sandbox's promises
#[derive(Args)]
pub struct BenchArgs {
    /// Calls of each measurement of time
    #[arg(long, default_value_t = 20_000)]
    calls: usize,
    /// Seconds of each round beside a hog, and of each without
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds with and without the hog, in turns
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// A model, as in `serve`: also measure what a tenant of a server with it feels of hogs
    #[arg(long, value_name = "NAME|PATH")]
    backbone: Option<String>,
    /// Slices of four seconds there of each kind: alone, beside all hogs, beside those that do not generate
    #[arg(long, default_value_t = 15, requires = "backbone")]
    slices: usize,
    /// Folder of the example functions
    #[arg(long, default_value = "functions", value_name = "FOLDER", requires = "backbone")]
    functions: PathBuf,
}

/// Measures and prints.
pub fn run(args: BenchArgs, ui: &Ui) -> Result<()> {
    ensure!(args.calls > 0 && args.seconds > 0 && args.rounds > 0, "every count must be at least 1");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let sandbox = Sandbox::new(SandboxOptions { calls: LIVE + 64, ..SandboxOptions::default() })?;
    let mut figures = Map::new();
    speed(&args, &runtime, &sandbox, &mut figures)?;
    hook(&args, &runtime, &sandbox, &mut figures)?;
    memory(&runtime, &sandbox, &mut figures)?;
    let hogs = hogs::Hogs::load(&runtime, &sandbox)?;
    hogs::measure(&runtime, &hogs, &mut figures)?;
    neighbours::measure(&args, &runtime, &sandbox, &hogs, &mut figures)?;
    drop((hogs, sandbox, runtime));
    if let Some(model) = &args.backbone {
        served::measure(model, &args.functions, args.slices, ui, &mut figures)?;
    }
    print(&format!("{}\n", Value::Object(figures)))
}

fn load(
    runtime: &tokio::runtime::Runtime,
    sandbox: &Sandbox,
    bytes: &[u8],
    limits: Limits,
) -> Result<Function> {
    Ok(runtime.block_on(sandbox.load(bytes, limits, Grants::default()))?)
}

/// Instantiate, call and drop, ours and bare in turns, so that both see the same machine.
fn speed(
    args: &BenchArgs,
    runtime: &tokio::runtime::Runtime,
    sandbox: &Sandbox,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let (function, bare) = (load(runtime, sandbox, BARE, Limits::default())?, Bare::new(BARE)?);
    let stage = Stage::new();
    let (mut ours, mut theirs) = (Vec::with_capacity(args.calls), Vec::with_capacity(args.calls));
    runtime.block_on(async {
        for _ in 0..args.calls {
            let (services, reply, request) = (stage.clone(), stage.reply(), request(&[]));
            let start = Instant::now();
            let end = function.call(request, services, reply).await;
            ours.push(start.elapsed());
            end.result?;
            let start = Instant::now();
            bare.instantiate_call_drop()?;
            theirs.push(start.elapsed());
        }
        anyhow::Ok(())
    })?;
    let (ours, theirs) = (median_us(ours), median_us(theirs));
    print(&format!(
        "instantiate, call, drop: {ours:.2} us, bare wasmtime {theirs:.2} us (medians of {})\n",
        args.calls
    ))?;
    figures.insert("instantiate_call_drop_us".to_owned(), json!(round(ours)));
    figures.insert("vs_bare_wasmtime".to_owned(), json!(round(ours / theirs)));
    Ok(())
}

fn hook(
    args: &BenchArgs,
    runtime: &tokio::runtime::Runtime,
    sandbox: &Sandbox,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let function = load(runtime, sandbox, HOOK, Limits::default())?;
    let hook = function.hook("o", Stage::new()).context("the guest has a hook")?;
    let mut hook = hook.map_err(|failure| anyhow!(failure))?;
    let mut times = Vec::with_capacity(args.calls);
    for token in 0..args.calls {
        let start = Instant::now();
        hook.before_token(u32::try_from(token).ok(), " token")?;
        times.push(start.elapsed());
    }
    let median = median_us(times);
    print(&format!("token hook: {median:.2} us a token\n"))?;
    figures.insert("token_hook_us".to_owned(), json!(round(median)));
    Ok(())
}

/// Resident memory of functions that are registered and of instances that wait for a token.
fn memory(
    runtime: &tokio::runtime::Runtime,
    sandbox: &Sandbox,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let Some(before) = resident_bytes() else { return Ok(()) };
    let function = load(runtime, sandbox, SCRIPT, Limits::default())?;
    let registered: Vec<Function> =
        (0..REGISTERED).map(|_| function.with(Limits::default(), Grants::default())).collect();
    let with_functions = resident_bytes().context("measured before")?;
    let stage = Stage::new();
    let waiting: Vec<_> = registered
        .iter()
        .take(LIVE as usize)
        .map(|function| runtime.spawn(call(function.clone(), stage.clone(), stage::WAITS.to_vec())))
        .collect();
    runtime.block_on(stage.until_waiting(LIVE as usize));
    let live = resident_bytes().context("measured before")?;
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
    let idle_kib = live.saturating_sub(with_functions) as f64 / 1024.0 / f64::from(LIVE);
    let total_mib = live.saturating_sub(before) as f64 / f64::from(1 << 20);
    print(&format!(
        "{LIVE} instances waiting for a token: {idle_kib:.1} KiB each, touched pages and stacks included; with {REGISTERED} \
         functions of one component registered {total_mib:.1} MiB in all\n"
    ))?;
    figures.insert("idle_instance_kib".to_owned(), json!(round(idle_kib)));
    figures.insert("registered_and_live_mib".to_owned(), json!(round(total_mib)));
    Ok(())
}

/// Resident memory of this process, bytes.
#[derive(Clone, Copy)]
struct Resident {
    anonymous: u64,
    file: u64,
    shared: u64,
}

impl Resident {
    fn total(self) -> u64 {
        self.anonymous + self.file + self.shared
    }
}

fn resident() -> Option<Resident> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    };
    Some(Resident { anonymous: bytes("RssAnon:")?, file: bytes("RssFile:")?, shared: bytes("RssShmem:")? })
}

fn resident_bytes() -> Option<u64> {
    resident().map(Resident::total)
}

fn median_us(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

/// How much later the 99th percentile is beside the hogs, less one; times in milliseconds.
fn shift(what: &str, whom: &str, alone: &[f64], beside: &[f64]) -> Result<f64> {
    ensure!(!alone.is_empty() && !beside.is_empty(), "{what}: nothing was measured");
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)] {
        let (alone, beside) = (quantile(alone, share), quantile(beside, share));
        print(&format!("{what}, {name}: {alone:.3} ms alone, {beside:.3} ms beside {whom}\n"))?;
    }
    print(&format!("({} and {} measured)\n", alone.len(), beside.len()))?;
    Ok(quantile(beside, 0.99) / quantile(alone, 0.99) - 1.0)
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
