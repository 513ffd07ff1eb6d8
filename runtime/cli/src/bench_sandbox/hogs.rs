//! Guests that break one limit after another: how each ends, how far past its time, and whether memory comes back.

use super::stage::{Stage, call, chat};
use super::{SCRIPT, load, resident, round};
use crate::ui::print;
use anyhow::{Result, ensure};
use coldframe_sandbox::{CallEnd, Function, Grants, Limits, Sandbox};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The example that breaks every limit.
const BUDGET_HOG: &[u8] = include_bytes!("../../../../functions/budget-hog/budget-hog.wasm");

/// Misdeeds of `functions/budget-hog`, and the word each ends with.
pub const MISDEEDS: [(&str, &str); 11] = [
    ("infinite-loop", "out_of_fuel"),
    ("memory-bomb", "memory"),
    ("deep-recursion", "stack"),
    ("table-growth", "table"),
    ("host-call-flood", "host_calls"),
    ("log-flood", "host_calls"),
    ("output-flood", "output"),
    ("generation-flood", "generations"),
    ("trap", "trap"),
    ("trap-in-hook", "hook_trap"),
    ("panic-in-drop", "trap"),
];

/// Scripts that stay within their limits and still take much: 56 MiB of memory with every page touched, a table of 19,000. The
/// bytes are those of `runtime/sandbox/guests/script.wat`.
const GREEDY: [(&str, &[u8]); 2] =
    [("memory-within-limit", &[39, 0x80, 3, 0, 0]), ("table-within-limit", &[11, 0x38, 0x4a, 0, 0])];

/// Time a misdeed has when nothing else ends it.
const WALL: Duration = Duration::from_millis(50);

/// Runs of each misdeed that has a time limit only.
const TIMED_RUNS: usize = 5;

/// Rounds of every misdeed over which memory is watched, after one that is not.
const CYCLES: usize = 10;

/// The functions that misbehave.
#[derive(Clone)]
pub struct Hogs {
    budget: Function,
    greedy: Function,
    stage: Arc<Stage>,
}

impl Hogs {
    pub fn load(runtime: &Runtime, sandbox: &Sandbox) -> Result<Self> {
        let limits = Limits {
            fuel: 200_000_000,
            host_calls: 9_000,
            output_bytes: 1 << 20,
            generations: 8_000,
            ..Limits::default()
        };
        let budget = load(runtime, sandbox, BUDGET_HOG, limits)?;
        Ok(Self { budget, greedy: load(runtime, sandbox, SCRIPT, Limits::default())?, stage: Stage::new() })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        MISDEEDS.len() + GREEDY.len()
    }

    /// Commits one of them; its name, the word it should end with, and its end.
    pub async fn commit(&self, which: usize) -> (&'static str, &'static str, CallEnd) {
        match MISDEEDS.get(which) {
            Some((name, word)) => (name, word, chat(self.budget.clone(), self.stage.clone(), name).await),
            None => {
                let (name, script) = GREEDY[which - MISDEEDS.len()];
                (name, "ok", call(self.greedy.clone(), self.stage.clone(), script.to_vec()).await)
            }
        }
    }

    /// Every misdeed once, each ending as it should; how long each took.
    async fn all(&self) -> Result<Vec<(&'static str, &'static str, Duration)>> {
        let mut times = Vec::with_capacity(self.len());
        for which in 0..self.len() {
            let start = Instant::now();
            let (name, word, end) = self.commit(which).await;
            ensure!(code(&end) == word, "`{name}` ended with `{}`, not with `{word}`", code(&end));
            times.push((name, word, start.elapsed()));
        }
        Ok(times)
    }
}

pub fn measure(runtime: &Runtime, hogs: &Hogs, figures: &mut Map<String, Value>) -> Result<()> {
    for (name, word, time) in runtime.block_on(hogs.all())? {
        print(&format!("{name}: `{word}` after {:.1} ms\n", time.as_secs_f64() * 1e3))?;
    }
    overrun(runtime, hogs, figures)?;
    memory(runtime, hogs, figures)
}

/// How far past its deadline each misdeed ends when time is its only limit.
fn overrun(runtime: &Runtime, hogs: &Hogs, figures: &mut Map<String, Value>) -> Result<()> {
    let limits = Limits {
        fuel: u64::MAX,
        wall: WALL,
        host_calls: u64::MAX,
        output_bytes: u64::MAX,
        generations: usize::MAX,
        ..Limits::default()
    };
    let endless = hogs.budget.with(limits, Grants::default());
    let mut worst: f64 = 0.0;
    for (name, _) in MISDEEDS {
        let mut over: f64 = 0.0;
        let mut word = String::new();
        for _ in 0..TIMED_RUNS {
            let start = Instant::now();
            let end = runtime.block_on(chat(endless.clone(), hogs.stage.clone(), name));
            over = over.max(start.elapsed().saturating_sub(WALL).as_secs_f64() * 1e3);
            code(&end).clone_into(&mut word);
        }
        print(&format!("{name} with {WALL:?} and no other limit: `{word}`, {over:.1} ms late at most\n"))?;
        worst = worst.max(over);
    }
    figures.insert("deadline_overrun_ms".to_owned(), json!(round(worst)));
    Ok(())
}

/// Resident memory over cycles of every misdeed.
fn memory(runtime: &Runtime, hogs: &Hogs, figures: &mut Map<String, Value>) -> Result<()> {
    runtime.block_on(hogs.all())?;
    let Some(first) = resident() else { return Ok(()) };
    let mut after = vec![first];
    for _ in 0..CYCLES {
        runtime.block_on(hogs.all())?;
        after.extend(resident());
    }
    let kib = |from: usize| after[CYCLES].total().saturating_sub(after[from].total()) >> 10;
    print("resident after each cycle of misdeeds, KiB (anonymous + file + shared):\n")?;
    for memory in &after {
        print(&format!("  {} + {} + {}\n", memory.anonymous >> 10, memory.file >> 10, memory.shared >> 10))?;
    }
    figures.insert("hog_memory_kib".to_owned(), json!(kib(0)));
    figures.insert("hog_memory_last_five_kib".to_owned(), json!(kib(CYCLES - 5)));
    Ok(())
}

fn code(end: &CallEnd) -> &str {
    end.result.as_ref().map_or_else(|end| end.code(), |()| "ok")
}
