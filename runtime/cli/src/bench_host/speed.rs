//! What the host costs on top of the engine: tokens a second of sixteen streams on sixteen adapters, and the first token
//! of one call, each beside `coldframe bench` in turns of the same run.

use super::client::{Client, Told};
use super::numbers::{median, prompt, round};
use super::server::Server;
use super::{Bench, Figures};
use crate::bench_backbone::adapters::write_all;
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

/// Streams at once, each on an adapter of its own.
const STREAMS: usize = 16;
/// Tokens of their prompts, as `coldframe bench` has them.
const DECODE_PROMPT: usize = 64;
/// Tokens of each answer.
const STEPS: u32 = 32;
/// Tokens of the prompt of the call that is alone: `prefill_128` of `coldframe bench`.
const PREFILL: usize = 128;
/// Such calls in each round.
const ALONE: u64 = 20;

/// A round.
struct Round {
    engine_tok_s: f64,
    host_tok_s: f64,
    engine_ttft_ms: f64,
    host_ttft_ms: f64,
}

/// Measures.
pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let home = tempfile::tempdir()?;
    let adapters = home.path().join("adapters");
    let config = bench.config()?;
    let vocab = config.vocab as u32;
    let folders = write_all(&config, &adapters, STREAMS)?;
    let server = Server::start(&bench.settings(&home.path().join("data"), &[&adapters]))?;
    let client = Client::new(&server.url);
    for (index, folder) in folders.iter().enumerate() {
        client.register(&name(index), folder)?;
        client.complete(&name(index), &prompt(vocab, DECODE_PROMPT, index as u64), 2).answered()?;
    }
    let mut rounds = Vec::new();
    for round in 0..bench.args.rounds as u64 {
        bench.ui.check()?;
        let (engine_tok_s, prefill_tok_s) = engine(bench)?;
        let seed = (round + 1) * 1000;
        rounds.push(Round {
            engine_tok_s,
            host_tok_s: streams(&client, vocab, seed)?,
            engine_ttft_ms: PREFILL as f64 / prefill_tok_s * 1e3,
            host_ttft_ms: alone(&client, vocab, seed + 500)?,
        });
    }
    tell(&rounds, figures)
}

fn name(index: usize) -> String {
    format!("speed-{index:02}")
}

/// Tokens a second of the mixed batch and of a prompt of [`PREFILL`] tokens, in a process of its own.
fn engine(bench: &Bench<'_>) -> Result<(f64, f64)> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = Command::new(program);
    command.args(["--json", "--quiet", "bench"]).args(bench.args.model.arguments()?);
    command.args(["--batch", &STREAMS.to_string(), "--steps", &STEPS.to_string(), "--repeat", "1"]);
    command.args(["--prefill", &PREFILL.to_string()]);
    let out = command.stderr(Stdio::inherit()).current_dir(Path::new(".")).output()?;
    ensure!(out.status.success(), "`coldframe bench` failed");
    let report: Value = serde_json::from_slice(&out.stdout).context("what `coldframe bench` printed")?;
    let of = |name: &str| report[name]["median"].as_f64().with_context(|| format!("{name} of the bench"));
    Ok((of("decode_16_mixed_tok_s")?, of("prefill_128_tok_s")?))
}

/// Tokens a second while all streams are speaking.
fn streams(client: &Client, vocab: u32, seed: u64) -> Result<f64> {
    let told = std::thread::scope(|scope| {
        let call = |index: usize| {
            move || {
                client
                    .complete(&name(index), &prompt(vocab, DECODE_PROMPT, seed + index as u64), STEPS)
                    .answered()
            }
        };
        let callers: Vec<_> = (0..STREAMS).map(|index| scope.spawn(call(index))).collect();
        callers
            .into_iter()
            .map(|caller| caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?)
            .collect::<Result<Vec<Told>>>()
    })?;
    let first = |told: &Told| told.at.first().copied().context("a first token");
    let last = |told: &Told| told.at.last().copied().context("a last token");
    let from: Instant =
        told.iter().map(first).collect::<Result<Vec<_>>>()?.into_iter().max().context("streams")?;
    let to: Instant =
        told.iter().map(last).collect::<Result<Vec<_>>>()?.into_iter().min().context("streams")?;
    let inside = told.iter().flat_map(|told| &told.at).filter(|at| **at > from && **at <= to).count();
    ensure!(to > from && inside > STREAMS, "the streams were not all speaking at once");
    Ok(inside as f64 / to.duration_since(from).as_secs_f64())
}

/// Median first token of calls that are alone, on the backbone as it is.
fn alone(client: &Client, vocab: u32, seed: u64) -> Result<f64> {
    let call = |number| {
        let told =
            client.complete(super::server::BASE, &prompt(vocab, PREFILL, seed + number), 1).answered()?;
        Ok(told.ttft_ms())
    };
    Ok(median(&(0..ALONE).map(call).collect::<Result<Vec<_>>>()?))
}

fn tell(rounds: &[Round], figures: &mut Figures) -> Result<()> {
    let of = |pick: fn(&Round) -> f64| median(&rounds.iter().map(pick).collect::<Vec<_>>());
    print(&format!(
        "16 streams on 16 adapters: host {:.0}, engine alone {:.0} tokens a second (medians of {} rounds)\n",
        of(|round| round.host_tok_s),
        of(|round| round.engine_tok_s),
        rounds.len()
    ))?;
    print(&format!(
        "first token of {PREFILL} prompt tokens: host {:.2} ms, engine alone {:.2} ms\n",
        of(|round| round.host_ttft_ms),
        of(|round| round.engine_ttft_ms)
    ))?;
    let share = of(|round| round.host_tok_s / round.engine_tok_s);
    let added = of(|round| round.host_ttft_ms - round.engine_ttft_ms);
    figures.insert("throughput_vs_backbone".to_owned(), json!(round(share)));
    figures.insert("added_ttft_p50_ms".to_owned(), json!(round(added)));
    Ok(())
}
