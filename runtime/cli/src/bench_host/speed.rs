//! What the host costs on top of the engine: tokens a second of sixteen streams on sixteen adapters, and the first token
//! of one call, each beside `coldframe bench` in turns of the same run.
//!
//! A bias makes every answer the same word: what untrained adapters would say has tokens without text, which no event
//! tells of.

use super::client::Client;
use super::numbers::{median, prompt, round};
use super::server::Server;
use super::streams::{self, Stream};
use super::{Bench, Figures};
use crate::bench_backbone::adapters::write_all;
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Streams at once, each on an adapter of its own.
const STREAMS: usize = 16;
/// Tokens of their prompts, as `coldframe bench` has them.
const DECODE_PROMPT: usize = 64;
/// Steps that are measured, here and there.
const STEPS: usize = 96;
/// Steps of an answer beside them: the first streams speak while the last prompts are computed.
const MORE: usize = 64;
/// Repeats of which `coldframe bench` tells the median: a single prompt of a fresh process scatters by several milliseconds.
const REPEATS: &str = "5";
/// The word.
const WORD: &str = " the";
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
    let word = word(&client)?;
    let mut rounds = Vec::new();
    for round in 0..bench.args.rounds as u64 {
        bench.ui.check()?;
        let Engine { decode_tok_s, prefill_tok_s } = engine(bench, PREFILL)?;
        let seed = (round + 1) * 1000;
        rounds.push(Round {
            engine_tok_s: decode_tok_s,
            host_tok_s: streams(&server.url, vocab, seed, word)?,
            engine_ttft_ms: PREFILL as f64 / prefill_tok_s * 1e3,
            host_ttft_ms: alone(&client, vocab, seed + 500)?,
        });
    }
    tell(&rounds, figures)
}

fn name(index: usize) -> String {
    format!("speed-{index:02}")
}

/// What `coldframe bench` says.
pub(super) struct Engine {
    pub(super) decode_tok_s: f64,
    pub(super) prefill_tok_s: f64,
}

/// Tokens a second of the mixed batch and of a prompt of `tokens` tokens, in a process of its own.
pub(super) fn engine(bench: &Bench<'_>, tokens: usize) -> Result<Engine> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = Command::new(program);
    command.args(["--json", "--quiet", "bench"]).args(bench.args.model.arguments()?);
    command.args(["--batch", &STREAMS.to_string(), "--steps", &STEPS.to_string(), "--repeat", REPEATS]);
    let prefill = format!("prefill_{tokens}");
    command.args(["--prefill", &tokens.to_string(), "--only", &format!("{prefill},decode_{STREAMS}_mixed")]);
    let out = command.stderr(Stdio::inherit()).current_dir(Path::new(".")).output()?;
    ensure!(out.status.success(), "`coldframe bench` failed");
    let report: Value = serde_json::from_slice(&out.stdout).context("what `coldframe bench` printed")?;
    let of = |name: &str| {
        let value = report[format!("{name}_tok_s")]["median"].as_f64();
        value.with_context(|| format!("{name} of the bench"))
    };
    Ok(Engine { decode_tok_s: of(&format!("decode_{STREAMS}_mixed"))?, prefill_tok_s: of(&prefill)? })
}

/// The id of [`WORD`].
pub(super) fn word(client: &Client) -> Result<u64> {
    let body = json!({"model": super::server::BASE, "prompt": WORD, "add_special_tokens": false});
    let told = client.good("POST", "/tokenize", &body)?;
    let ids = told["tokens"].as_array().context("tokens")?;
    ensure!(ids.len() == 1, "{WORD:?} is {} tokens of this model", ids.len());
    ids[0].as_u64().context("a token's id")
}

/// Tokens a second while all streams are speaking.
fn streams(url: &str, vocab: u32, seed: u64, word: u64) -> Result<f64> {
    let ask = |index: usize| {
        let body = json!({
            "model": name(index), "prompt": prompt(vocab, DECODE_PROMPT, seed + index as u64), "temperature": 0,
            "max_tokens": STEPS + MORE, "ignore_eos": true, "stream": true, "logit_bias": {(word.to_string()): 100},
        });
        Stream::ask(url, "/v1/completions", &body)
    };
    streams::rate((0..STREAMS).map(ask).collect::<Result<Vec<_>>>()?, STEPS)
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
