//! A guest that breaks every limit in turn, and what its neighbour feels of it.

use super::stage::{Stage, call};
use super::{BenchArgs, SCRIPT, load, resident_bytes, round};
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use coldframe_sandbox::{Function, Limits, Sandbox};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Time between two calls of the neighbour.
const PACE: Duration = Duration::from_millis(1);

/// Scripts of misdeeds, and the word each ends with. The bytes are those of `runtime/sandbox/guests/script.wat`.
const HOGS: [(&str, &[u8]); 8] = [
    ("out_of_fuel", &[8]),
    ("memory", &[9, 0x60, 0xea, 0, 0]),
    ("stack", &[10]),
    ("table", &[11, 0x40, 0x42, 0x0f, 0]),
    ("trap", &[12]),
    // A line of log, a write of 4 KiB, a generation: each again and again.
    ("host_calls", &[1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 17]),
    ("output", &[2, 0, 0, 0, 0, 0, 0x10, 0, 0, 17]),
    ("generations", &[3, 0, 17]),
];

pub fn measure(
    args: &BenchArgs,
    runtime: &tokio::runtime::Runtime,
    sandbox: &Sandbox,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let limits = Limits { fuel: 200_000_000, host_calls: 10_000, output_bytes: 1 << 20, ..Limits::default() };
    let hog = load(runtime, sandbox, SCRIPT, limits)?;
    let neighbour = hog.with(Limits::default(), coldframe_sandbox::Grants::default());
    let stage = Stage::new();
    for (expected, script) in HOGS {
        let start = Instant::now();
        let end = runtime.block_on(call(hog.clone(), stage.clone(), script.to_vec()));
        let code = end.result.as_ref().map_or_else(|end| end.code(), |()| "ok");
        ensure!(code == expected, "a hog ended with `{code}`, not with `{expected}`");
        print(&format!("hog `{expected}`: ended after {:.1} ms\n", start.elapsed().as_secs_f64() * 1e3))?;
    }
    overrun(runtime, &hog, &stage, figures)?;
    let before = resident_bytes();
    let mut shifts = Vec::new();
    for _ in 0..args.rounds {
        let alone = runtime.block_on(p99(neighbour.clone(), stage.clone(), args.seconds))?;
        let stop = Arc::new(AtomicBool::new(false));
        let hogging = runtime.spawn(hogging(hog.clone(), stage.clone(), stop.clone()));
        let beside = runtime.block_on(p99(neighbour.clone(), stage.clone(), args.seconds))?;
        stop.store(true, Ordering::Relaxed);
        let hogged = runtime.block_on(hogging).context("the hog's task")?;
        print(&format!("neighbour's p99: {alone:?} alone, {beside:?} beside {hogged} hogs\n"))?;
        shifts.push(beside.as_secs_f64() / alone.as_secs_f64() - 1.0);
    }
    shifts.sort_unstable_by(f64::total_cmp);
    figures.insert("neighbour_p99_shift".to_owned(), json!(round(shifts[shifts.len() / 2])));
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let kib = after.saturating_sub(before) >> 10;
        print(&format!("memory that did not return: {kib} KiB\n"))?;
        figures.insert("hog_memory_kib".to_owned(), json!(kib));
    }
    Ok(())
}

/// How far past its deadline an endless loop runs.
fn overrun(
    runtime: &tokio::runtime::Runtime,
    hog: &Function,
    stage: &Arc<Stage>,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let wall = Duration::from_millis(100);
    let endless = hog.with(Limits { fuel: u64::MAX, wall, ..Limits::default() }, hog.grants().clone());
    let start = Instant::now();
    let end = runtime.block_on(call(endless, stage.clone(), vec![8]));
    let over = start.elapsed().saturating_sub(wall).as_secs_f64() * 1e3;
    let code = end.result.as_ref().map_or_else(|end| end.code(), |()| "ok");
    ensure!(code == "deadline", "an endless loop ended with `{code}`");
    print(&format!("an endless loop ended {over:.1} ms past its deadline\n"))?;
    figures.insert("deadline_overrun_ms".to_owned(), json!(round(over)));
    Ok(())
}

/// Every hog in turn until told to stop; how many there were.
async fn hogging(hog: Function, stage: Arc<Stage>, stop: Arc<AtomicBool>) -> usize {
    let mut hogged = 0;
    while !stop.load(Ordering::Relaxed) {
        let (_, script) = HOGS[hogged % HOGS.len()];
        call(hog.clone(), stage.clone(), script.to_vec()).await;
        hogged += 1;
    }
    hogged
}

/// The 99th percentile of the neighbour's latency under a steady load.
async fn p99(neighbour: Function, stage: Arc<Stage>, seconds: u64) -> Result<Duration> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut pace = tokio::time::interval(PACE);
    let mut times = Vec::new();
    while Instant::now() < until {
        pace.tick().await;
        let start = Instant::now();
        let end = tokio::spawn(call(neighbour.clone(), stage.clone(), Vec::new())).await?;
        times.push(start.elapsed());
        end.result?;
    }
    times.sort_unstable();
    Ok(times[times.len() * 99 / 100])
}
