//! Steps of the real engine: prompts by length, decode by batch, context and adapters, prompts beside decode rows.
//!
//! The cases are interleaved, round by round, so that a busy moment of the machine does not fall on one of them alone.

use super::CalibrateArgs;
use super::loads::{MODULES, median};
use crate::bench_backbone::adapters::write;
use crate::bench_backbone::speed::{engine, first, request, settled};
use crate::opened::Opened;
use crate::ui::Ui;
use anyhow::{Result, ensure};
use coldframe_backbone::adapter::{Adapter, BaseWeights};
use coldframe_backbone::engine::{Engine, SequenceId, StepStats};
use coldframe_backbone::executor::Executor;
use coldframe_backbone::native::{Native, NativeOptions};
use coldframe_simulator::calibrate::StepPoint;
use std::path::Path;
use std::sync::Arc;

/// Decode steps of a case in each round.
const STEPS: usize = 6;

/// What the engine ran on.
pub struct Device {
    /// In words.
    pub name: String,
    /// Bytes of a KV page.
    pub page_bytes: u64,
}

/// One kind of step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    /// Tokens of the prompt measured; 0 measures decode.
    prompt: usize,
    /// Sequences that decode.
    rows: usize,
    /// Tokens of their prompts.
    context: usize,
    /// Different adapters, spread over the sequences.
    adapters: usize,
}

/// Measures every case.
pub fn measure(
    args: &CalibrateArgs,
    opened: &Opened,
    scratch: &Path,
    rounds: u32,
    ui: &Ui,
) -> Result<(Vec<StepPoint>, Device)> {
    let cases = cases(args, opened.pack.config().context);
    let most = cases.iter().map(|c| c.prompt + c.rows * (c.context + STEPS + 16)).max().unwrap_or(0);
    let longest = cases.iter().map(|c| c.prompt).max().unwrap_or(0);
    let mut engine = engine(&args.model, opened, most, longest, args.batch as usize + 1)?;
    let adapters = adapters(args, opened, scratch, ui)?;
    let mut seen: Vec<Vec<StepStats>> = vec![Vec::new(); cases.len()];
    let bar = ui.progress("steps");
    settled(&mut engine, |engine| {
        for round in 0..=rounds as usize {
            for (n, case) in cases.iter().enumerate() {
                ui.check()?;
                bar.set_position(
                    ((round * cases.len() + n) * 1000 / ((rounds as usize + 1) * cases.len())) as u64,
                );
                let stats = run(engine, case, &adapters)?;
                // The first round warms caches and branch predictors up.
                if round > 0 {
                    seen[n].extend(stats);
                }
            }
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let points = cases.iter().zip(&seen).map(|(case, stats)| point(case, stats, &adapters)).collect();
    let probe =
        Native::new(opened.pack.clone(), NativeOptions { threads: 1, pages: 1, kv: args.model.kv() })?;
    Ok((points, Device { name: engine.device(), page_bytes: probe.page_bytes() }))
}

fn cases(args: &CalibrateArgs, context_max: usize) -> Vec<Case> {
    let most = args.batch as usize;
    let prompts: &[usize] = if args.quick { &[16, 64, 128, 256] } else { &[8, 16, 32, 64, 128, 256, 512] };
    let contexts: &[usize] = if args.quick { &[32, 256] } else { &[32, 128, 384, 768] };
    let batches: Vec<usize> =
        [1, 2, 4, 8, 16, 32, 64, 128].into_iter().filter(|&rows| rows <= most).collect();
    let mut cases = Vec::new();
    for &prompt in prompts {
        cases.extend([0, 1].map(|adapters| Case { prompt, rows: 0, context: 0, adapters }));
    }
    for &rows in &batches {
        cases.extend(contexts.iter().map(|&context| Case { prompt: 0, rows, context, adapters: 0 }));
        let context = contexts[0];
        cases.extend([1, rows].map(|adapters| Case { prompt: 0, rows, context, adapters }));
    }
    let rows = most.min(8);
    for &prompt in &prompts[prompts.len() / 2..] {
        cases.extend([0, rows].map(|adapters| Case { prompt, rows, context: contexts[0], adapters }));
    }
    cases.dedup();
    cases.retain(|case| case.context + STEPS + 16 < context_max && case.prompt + 1 < context_max);
    cases
}

/// Different adapters of the rank that stands for all.
fn adapters(args: &CalibrateArgs, opened: &Opened, scratch: &Path, ui: &Ui) -> Result<Vec<Arc<Adapter>>> {
    let make = |n: u32| {
        let folder = scratch.join(format!("step-{n}"));
        write(opened.pack.config(), &folder, args.rank as usize, &MODULES, u64::from(n) + 1000)?;
        opened.adapter(&folder, ui)
    };
    (0..args.batch + 1).map(make).collect()
}

/// Adapter of sequence `n` of a case.
fn of(case: &Case, adapters: &[Arc<Adapter>], n: usize) -> Option<Arc<Adapter>> {
    (case.adapters > 0).then(|| adapters[n % case.adapters].clone())
}

/// One run of a case: the measures of its steps.
fn run(engine: &mut Engine, case: &Case, adapters: &[Arc<Adapter>]) -> Result<Vec<StepStats>> {
    let submit = |engine: &mut Engine, n: usize| {
        let request = request(engine, case.context, None, of(case, adapters, n));
        engine.submit(request)
    };
    let ids = (0..case.rows).map(|n| submit(engine, n)).collect::<Result<Vec<SequenceId>, _>>()?;
    let mut started = 0;
    while started < ids.len() {
        started += engine.step()?.events.iter().filter(|event| first(&event.what)).count();
    }
    let stats = match case.prompt {
        0 => (0..STEPS).map(|_| Ok(engine.step()?.stats)).collect::<Result<Vec<_>>>()?,
        tokens => vec![prompt(engine, case, tokens, of(case, adapters, case.rows))?],
    };
    ids.into_iter().for_each(|id| {
        engine.cancel(id);
    });
    while !engine.is_idle() {
        engine.step()?;
    }
    Ok(stats)
}

/// The step that computes a prompt, beside the case's rows.
fn prompt(
    engine: &mut Engine,
    case: &Case,
    tokens: usize,
    adapter: Option<Arc<Adapter>>,
) -> Result<StepStats> {
    engine.submit(request(engine, tokens, Some(1), adapter))?;
    let stats = engine.step()?.stats;
    ensure!(
        (stats.prefill_tokens, stats.decode_tokens) == (tokens, case.rows),
        "a step took {} prompt tokens and {} rows where {tokens} and {} were given",
        stats.prefill_tokens,
        stats.decode_tokens,
        case.rows
    );
    Ok(stats)
}

fn point(case: &Case, stats: &[StepStats], adapters: &[Arc<Adapter>]) -> StepPoint {
    let of = |value: fn(&StepStats) -> u64| median(stats.iter().map(value));
    let device_ns = of(|s| s.executor_ns);
    StepPoint {
        prompt: case.prompt as u64,
        rows: case.rows as u64,
        cached: if case.rows > 0 { of(|s| s.context_tokens as u64) } else { 0 },
        adapters: case.adapters as u64,
        adapter_bytes: adapters.iter().take(case.adapters).map(|adapter| adapter.bytes()).sum(),
        device_ns,
        host_ns: of(|s| s.step_ns.saturating_sub(s.executor_ns)),
    }
}
