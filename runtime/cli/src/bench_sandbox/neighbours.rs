//! What two steady neighbours feel of hogs: one that is called every millisecond, and one that streams a chat's tokens.
//!
//! Slices with the hogs and without follow each other in short turns, so that both see the same machine; percentiles are over all
//! slices of a kind together.

use super::hogs::Hogs;
use super::stage::{STREAMS, Stage, call};
use super::{BenchArgs, SCRIPT, load, round, shift};
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use coldframe_sandbox::{Function, Limits, Sandbox};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Time between two calls of the first neighbour.
const CALL_PACE: Duration = Duration::from_millis(1);

/// Time between two tokens of the second.
const TOKEN_PACE: Duration = Duration::from_millis(3);

/// Length of a slice.
const SLICE: Duration = Duration::from_millis(500);

/// Latencies of one kind of slice, milliseconds.
#[derive(Default)]
struct Felt {
    calls: Vec<f64>,
    tokens: Vec<f64>,
}

pub fn measure(
    args: &BenchArgs,
    runtime: &Runtime,
    sandbox: &Sandbox,
    hogs: &Hogs,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let neighbour = load(runtime, sandbox, SCRIPT, Limits::default())?;
    let (mut alone, mut beside) = (Felt::default(), Felt::default());
    let mut hogged = 0;
    for _ in 0..args.rounds as u64 * args.seconds * 2 {
        runtime.block_on(slice(&neighbour, &mut alone))?;
        let stop = Arc::new(AtomicBool::new(false));
        let hogging = runtime.spawn(hogging(hogs.clone(), stop.clone()));
        runtime.block_on(slice(&neighbour, &mut beside))?;
        stop.store(true, Ordering::Relaxed);
        hogged += runtime.block_on(hogging).context("the hog's task")?;
    }
    let calls = shift("neighbour's calls", "hogs", &alone.calls, &beside.calls)?;
    let tokens = shift("neighbour's tokens", "hogs", &alone.tokens, &beside.tokens)?;
    print(&format!("{hogged} misdeeds beside them\n"))?;
    figures.insert("neighbour_bare_call_p99_shift".to_owned(), json!(round(calls)));
    figures.insert("neighbour_bare_token_p99_shift".to_owned(), json!(round(tokens)));
    Ok(())
}

/// Every misdeed in turn until told to stop; how many there were.
async fn hogging(hogs: Hogs, stop: Arc<AtomicBool>) -> usize {
    let mut hogged = 0;
    while !stop.load(Ordering::Relaxed) {
        hogs.commit(hogged % hogs.len()).await;
        hogged += 1;
    }
    hogged
}

/// Both neighbours for one slice.
async fn slice(neighbour: &Function, felt: &mut Felt) -> Result<()> {
    let (silent, speaking) = (Stage::new(), Stage::speaking(TOKEN_PACE));
    let streaming = tokio::spawn(call(neighbour.clone(), speaking.clone(), STREAMS.to_vec()));
    let until = Instant::now() + SLICE;
    let mut pace = tokio::time::interval(CALL_PACE);
    while Instant::now() < until {
        pace.tick().await;
        let start = Instant::now();
        let end = tokio::spawn(call(neighbour.clone(), silent.clone(), Vec::new())).await?;
        felt.calls.push(millis(start.elapsed()));
        end.result?;
    }
    ensure!(!streaming.is_finished(), "the stream ended by itself");
    streaming.abort();
    felt.tokens.extend(speaking.heard().into_iter().map(millis));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
