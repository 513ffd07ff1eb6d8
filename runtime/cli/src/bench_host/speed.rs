//! What the host costs on top of the engine: tokens a second of sixteen streams on sixteen adapters, and the first token
//! of one call, each beside an engine of this process that has no host.
//!
//! Both are asked in turns, a call here and a call there: a machine whose speed changes by a tenth from one second to the next
//! does so for both. While one works the other's threads sleep. A bias makes every answer the same word: what untrained
//! adapters would say has tokens without text, which no event tells of.

use super::client::Client;
use super::numbers::{median, prompt, round};
use super::server::Server;
use super::streams::{self, Stream};
use super::{Bench, Figures};
use crate::bench_backbone::adapters::write_all;
use crate::bench_backbone::speed::{Work, run, settled};
use crate::opened::{BackboneArg, Opened};
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use coldframe_backbone::engine::{Engine, EngineOptions};
use coldframe_backbone::executor::Executor;
use coldframe_backbone::kv::Budget;
use coldframe_backbone::native::{Native, NativeOptions};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

/// Streams at once, each on an adapter of its own.
const STREAMS: usize = 16;
/// Tokens of their prompts, as `coldframe bench` has them.
const DECODE_PROMPT: usize = 64;
/// Steps that are measured, here and there.
const STEPS: usize = 96;
/// Steps of an answer beside them: the first streams speak while the last prompts are computed.
const MORE: usize = 64;
/// Repeats of which `coldframe bench` tells the median: a single prompt of a fresh process scatters by several milliseconds.
const REPEATS: &str = "3";
/// The word.
const WORD: &str = " the";
/// Tokens of the prompt of the call that is alone: `prefill_128` of `coldframe bench`.
const PREFILL: usize = 128;
/// Such calls in each round.
const ALONE: u64 = 20;
/// Batches of streams in each round.
const TURNS: u64 = 3;

/// What was measured in turns.
#[derive(Default)]
struct Pairs {
    engine_tok_s: Vec<f64>,
    host_tok_s: Vec<f64>,
    engine_ttft_ms: Vec<f64>,
    host_ttft_ms: Vec<f64>,
}

/// Measures.
pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let home = tempfile::tempdir()?;
    let adapters = home.path().join("adapters");
    let opened = bench.args.model.open(bench.ui)?;
    let config = opened.checkpoint.config();
    let vocab = config.vocab as u32;
    let folders = write_all(config, &adapters, STREAMS)?;
    let loaded = folders.iter().map(|folder| opened.adapter(folder, bench.ui)).collect::<Result<Vec<_>>>()?;
    let settings = bench.settings(&home.path().join("data"), &[&adapters]);
    let mut engine = engine_like(&bench.args.model, &opened, settings.kv_mib)?;
    let server = Server::start(&settings)?;
    let client = Client::new(&server.url);
    for (index, folder) in folders.iter().enumerate() {
        client.register(&name(index), folder)?;
        client.complete(&name(index), &prompt(vocab, DECODE_PROMPT, index as u64), 2).answered()?;
    }
    let word = word(&client)?;
    let pairs = std::thread::scope(|scope| {
        let (ask, asked) = channel::<Work>();
        let (tell, told) = channel();
        let answer = move |engine: &mut Engine| {
            while let Ok(work) = asked.recv() {
                // Whoever asked may have failed meanwhile.
                let _ = tell.send(run(engine, &work, &loaded));
            }
            Ok(())
        };
        scope.spawn(|| settled(&mut engine, answer));
        in_turns(bench, &client, &server.url, vocab, word, |work| {
            ask.send(work)?;
            told.recv()?
        })
    })?;
    tell_all(&pairs, figures)
}

/// An engine as the server has it: as many pages, whose memory it has already, and in which it finds prompts again. Neither
/// meets a prompt twice.
fn engine_like(model: &BackboneArg, opened: &Opened, kv_mib: u64) -> Result<Engine> {
    let native =
        |threads, pages| Native::new(opened.pack.clone(), NativeOptions { threads, pages, kv: model.kv() });
    let pages = Budget { total: kv_mib << 20, adapters: 0 }.pages(native(1, 1)?.page_bytes())?;
    let native = native(model.threads(), pages as usize)?;
    let mut ahead = native.ahead();
    while ahead.more() {}
    Ok(Engine::new(Box::new(native), EngineOptions::default())?)
}

/// Asks the engine alone and the host in turns; the first turn of both warms up.
fn in_turns(
    bench: &Bench<'_>,
    client: &Client,
    url: &str,
    vocab: u32,
    word: u64,
    engine: impl Fn(Work) -> Result<f64>,
) -> Result<Pairs> {
    let mixed = || Work::Decode { groups: vec![(0..STREAMS).map(Some).collect()], steps: STEPS };
    let mut pairs = Pairs::default();
    engine(mixed())?;
    streams(url, vocab, 0, word)?;
    for round in 1..=bench.args.rounds as u64 {
        let seed = round * 1000;
        for call in 0..ALONE {
            bench.ui.check()?;
            let prompt = prompt(vocab, PREFILL, seed + 500 + call);
            let tokens_s = engine(Work::First(prompt.clone()))?;
            pairs.engine_ttft_ms.push(PREFILL as f64 / tokens_s * 1e3);
            pairs.host_ttft_ms.push(client.complete(super::server::BASE, &prompt, 1).answered()?.ttft_ms());
        }
        for turn in 0..TURNS {
            bench.ui.check()?;
            pairs.engine_tok_s.push(engine(mixed())?);
            pairs.host_tok_s.push(streams(url, vocab, seed + turn * STREAMS as u64, word)?);
        }
    }
    Ok(pairs)
}

fn name(index: usize) -> String {
    format!("speed-{index:02}")
}

/// What `coldframe bench` says.
pub(super) struct Alone {
    pub(super) decode_tok_s: f64,
    pub(super) prefill_tok_s: f64,
}

/// Tokens a second of the mixed batch and of a prompt of `tokens` tokens, in a process of its own.
pub(super) fn engine(bench: &Bench<'_>, tokens: usize) -> Result<Alone> {
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
    Ok(Alone { decode_tok_s: of(&format!("decode_{STREAMS}_mixed"))?, prefill_tok_s: of(&prefill)? })
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

fn tell_all(pairs: &Pairs, figures: &mut Figures) -> Result<()> {
    let Pairs { engine_tok_s, host_tok_s, engine_ttft_ms, host_ttft_ms } = pairs;
    print(&format!(
        "16 streams on 16 adapters: host {:.0}, engine alone {:.0} tokens a second (medians of {} turns)\n",
        median(host_tok_s),
        median(engine_tok_s),
        host_tok_s.len()
    ))?;
    print(&format!(
        "first token of {PREFILL} prompt tokens: host {:.2} ms, engine alone {:.2} ms (medians of {} turns)\n",
        median(host_ttft_ms),
        median(engine_ttft_ms),
        host_ttft_ms.len()
    ))?;
    let pairs_of = |ours: &[f64], theirs: &[f64], with: fn(f64, f64) -> f64| {
        median(&ours.iter().zip(theirs).map(|(ours, theirs)| with(*ours, *theirs)).collect::<Vec<_>>())
    };
    let share = pairs_of(host_tok_s, engine_tok_s, |host, engine| host / engine);
    let added = pairs_of(host_ttft_ms, engine_ttft_ms, |host, engine| host - engine);
    figures.insert("throughput_vs_backbone".to_owned(), json!(round(share)));
    figures.insert("added_ttft_p50_ms".to_owned(), json!(round(added)));
    Ok(())
}
