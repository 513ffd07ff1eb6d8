//! What serving costs beside the engine: a real server over HTTP, streams at once, the time of a step as their readers
//! see it, and the first token of a request that comes while others speak, of an adapter in place and of one that is loaded.
//! On a CPU the server, its readers, loads and the engine share the same cores, so it is no small part: the readers are those
//! of `replay --live`, whose runs are compared with the profile's simulations.

use super::loads::MODULES;
use crate::bench_backbone::adapters::write;
use crate::bench_host::client::Client as Admin;
use crate::bench_host::numbers::{Random, mean, prompt};
use crate::bench_host::server::{Server, Settings};
use crate::live::client::Client;
use crate::live::plan::Planned;
use crate::live::send::{Answered, completion, send};
use crate::opened::BackboneArg;
use crate::ui::Ui;
use anyhow::{Context, Result, ensure};
use coldframe_backbone::model::ModelConfig;
use coldframe_simulator::calibrate::{FirstPoint, ServedLoad, ServingPoint};
use coldframe_simulator::observed::End;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Tokens of each prompt.
const PROMPT: usize = 32;
/// Tokens of each answer.
const STEPS: u32 = 64;
/// Streams times repetitions of a round: few streams have short steps, and a short look sees a moment of the machine.
const REPEATED: usize = 8;
/// Streams beside a request whose first token is measured, and the tokens of its prompt.
const BESIDE: [u64; 4] = [0, 1, 3, 6];
const PROMPTS: [usize; 3] = [32, 64, 128];
/// Requests measured of each kind and round.
const FIRSTS: usize = 8;
/// Streams beside an adapter's load.
const LOADS_BESIDE: [u64; 3] = [0, 1, 3];
/// Tokens of the answers of streams beside something measured.
const LONG: u32 = 160;
/// Rank of the adapters used.
const RANK: usize = 16;
/// Longest pause before a request, milliseconds: it comes at any moment of a step.
const PAUSE_MS: usize = 60;

/// What a server showed.
#[derive(Default)]
pub struct Served {
    /// Steps by number of streams.
    pub steps: Vec<ServingPoint>,
    /// First tokens by streams beside and prompt length.
    pub firsts: Vec<FirstPoint>,
    /// An adapter's loads by streams beside.
    pub loads: Vec<ServedLoad>,
}

/// Measures with these numbers of streams, and first tokens and loads beside some.
///
/// All kinds are in every round, so that each has its share of a machine's fast and slow minutes.
pub fn measure(
    model: &BackboneArg,
    config: &ModelConfig,
    batches: &[usize],
    scratch: &Path,
    rounds: u32,
    ui: &Ui,
) -> Result<Served> {
    let name = match Path::new(&model.backbone).exists() {
        true => std::path::absolute(&model.backbone)?.display().to_string(),
        false => model.backbone.clone(),
    };
    let folder = scratch.join("serving-adapters");
    std::fs::create_dir_all(&folder)?;
    let settings =
        Settings::new(&name, &scratch.join("serving"), vec![folder.clone()], Some(model.threads()));
    let server = Server::start(&settings)?;
    let admin = Admin::new(&server.url);
    let most = batches.iter().map(|&rows| rows as u64).chain(BESIDE.map(|rows| rows + 1)).max().unwrap_or(0);
    let adapter_bytes = register(&admin, config, &folder, most)?;
    let vocab = config.vocab as u32;
    let caller = Caller { client: Arc::new(Client::new(&server.url, None)?), vocab, start: Instant::now() };
    // As many threads as a live replay has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = folder.join(adapter(0));
    let mut asked = Asked { admin, caller, runtime, folder, random: Random(7), functions: 0 };
    let mut seen = Seen::new(batches);
    let bar = ui.progress("rounds behind a server");
    asked.warm_up(batches)?;
    for round in 0..rounds {
        bar.set_position(u64::from(round) * 1000 / u64::from(rounds));
        seen.round(&mut asked, ui)?;
    }
    bar.finish_and_clear();
    Ok(seen.served(adapter_bytes))
}

/// Sends requests and reads their answers.
#[derive(Clone)]
struct Caller {
    client: Arc<Client>,
    vocab: u32,
    start: Instant,
}

impl Caller {
    /// The answer of a function's adapter to random tokens, with the time of each token.
    async fn complete(&self, function: &str, tokens: usize, seed: u64, output: u32) -> Result<Answered> {
        let (model, prompt) = (function.to_owned(), prompt(self.vocab, tokens, seed));
        let planned = Planned { due_ns: 0, function: 0, model, prompt: tokens as u32, output };
        let blank = Answered { at: Some(Vec::new()), ..Answered::default() };
        let body = completion(&planned, &prompt, seed);
        let answered = send(&self.client, "/v1/completions", body, blank, self.start).await;
        let end = &answered.observed.end;
        ensure!(*end == End::Completed, "`{function}` gave no answer: {end:?}");
        Ok(answered)
    }

    /// The answers of so many streams that begin at once, each under an adapter of its own.
    async fn at_once(self, rows: u64, seed: u64) -> Result<Vec<Answered>> {
        let stream = |n: u64| {
            let caller = self.clone();
            let seed = seed.wrapping_add(n);
            tokio::spawn(async move { caller.complete(&adapter(n), PROMPT, seed, STEPS).await })
        };
        let streams: Vec<_> = (0..rows).map(stream).collect();
        let mut all = Vec::with_capacity(streams.len());
        for stream in streams {
            all.push(stream.await??);
        }
        Ok(all)
    }

    /// One stream after the other until it is over.
    async fn speak(self, n: u64, mut seed: u64, over: Arc<AtomicBool>) -> Result<()> {
        while !over.load(Ordering::Relaxed) {
            self.complete(&adapter(n), PROMPT, seed, LONG).await?;
            seed += 1;
        }
        Ok(())
    }
}

/// Whom the requests go to.
struct Asked {
    admin: Admin,
    caller: Caller,
    runtime: Runtime,
    /// An adapter's, for functions that are new.
    folder: PathBuf,
    random: Random,
    /// New functions so far.
    functions: u64,
}

/// Nanoseconds by kind.
struct Seen {
    /// Streams: steps.
    steps: Vec<(usize, Vec<f64>)>,
    /// Streams beside, tokens of the prompt: first tokens.
    firsts: Vec<(u64, usize, Vec<f64>)>,
    /// Streams beside: loads.
    loads: Vec<(u64, Vec<f64>)>,
}

impl Seen {
    fn new(batches: &[usize]) -> Self {
        Self {
            steps: batches.iter().map(|&rows| (rows, Vec::new())).collect(),
            firsts: BESIDE
                .iter()
                .flat_map(|&rows| PROMPTS.map(|tokens| (rows, tokens, Vec::new())))
                .collect(),
            loads: LOADS_BESIDE.map(|rows| (rows, Vec::new())).to_vec(),
        }
    }

    /// Each kind once.
    fn round(&mut self, asked: &mut Asked, ui: &Ui) -> Result<()> {
        for (rows, seen) in &mut self.steps {
            for _ in 0..(REPEATED / *rows).max(1) {
                ui.check()?;
                seen.push(asked.steps(*rows)?);
            }
        }
        for (rows, tokens, seen) in &mut self.firsts {
            ui.check()?;
            seen.extend(asked.firsts(*rows, *tokens)?);
        }
        for (rows, seen) in &mut self.loads {
            ui.check()?;
            seen.extend(asked.loads(*rows)?);
        }
        Ok(())
    }

    fn served(&self, adapter_bytes: u64) -> Served {
        let step = |(rows, seen): &(usize, Vec<f64>)| ServingPoint {
            rows: *rows as u64,
            cached: *rows as u64 * (PROMPT as u64 + u64::from(STEPS) / 2),
            adapter_bytes: *rows as u64 * adapter_bytes,
            step_ns: mean(seen) as u64,
        };
        let first = |(rows, tokens, seen): &(u64, usize, Vec<f64>)| FirstPoint {
            rows: *rows,
            cached: rows * (PROMPT as u64 + u64::from(LONG) / 2),
            prompt: *tokens as u64,
            adapter_bytes: (rows + 1) * adapter_bytes,
            ttft_ns: mean(seen) as u64,
        };
        let load = |(rows, seen): &(u64, Vec<f64>)| ServedLoad {
            rows: *rows,
            bytes: adapter_bytes,
            load_ns: mean(seen) as u64,
        };
        Served {
            steps: self.steps.iter().map(step).collect(),
            firsts: self.firsts.iter().map(first).collect(),
            loads: self.loads.iter().map(load).collect(),
        }
    }
}

/// Registers so many functions, each with an adapter of its own, and says how large an adapter is.
fn register(admin: &Admin, config: &ModelConfig, folder: &Path, most: u64) -> Result<u64> {
    for n in 0..most {
        let path = folder.join(adapter(n));
        write(config, &path, RANK, &MODULES, n)?;
        admin.register(&adapter(n), &path)?;
    }
    Ok(folder.join(adapter(0)).join("adapter_model.safetensors").metadata()?.len())
}

impl Asked {
    /// Every adapter is loaded, every kind of request was made.
    fn warm_up(&mut self, batches: &[usize]) -> Result<()> {
        self.steps(batches.iter().copied().max().unwrap_or(1))?;
        self.firsts(1, PROMPT)?;
        self.loads(0).map(drop)
    }

    /// First tokens of requests beside streams, each under an adapter of its own.
    fn firsts(&mut self, rows: u64, tokens: usize) -> Result<Vec<f64>> {
        self.beside(rows, |asked| {
            let answered = asked.ask(adapter(0), tokens)?;
            Ok((answered.observed.first_ns - answered.observed.sent_ns) as f64)
        })
    }

    /// An adapter's loads beside streams: each for a function that is called for the first time.
    fn loads(&mut self, rows: u64) -> Result<Vec<f64>> {
        self.beside(rows, |asked| {
            let name = format!("load-{}", asked.functions);
            asked.functions += 1;
            asked.admin.register(&name, &asked.folder)?;
            let answered = asked.ask(name.clone(), PROMPT)?;
            let phases = answered.observed.phases.iter().filter(|(name, _)| name.starts_with("adapter_"));
            let ns: u64 = phases.map(|(_, ns)| ns).sum();
            ensure!(ns > 0, "`{name}` answered before its adapter was loaded");
            Ok(ns as f64)
        })
    }

    /// Nanoseconds of a step while all streams speak, each under an adapter of its own.
    fn steps(&mut self, rows: usize) -> Result<f64> {
        let all = self.caller.clone().at_once(rows as u64, self.random.next());
        let told = self.runtime.block_on(all)?;
        let at: Vec<&[u64]> = told.iter().map(|told| told.at.as_deref().unwrap_or_default()).collect();
        let firsts = at.iter().map(|at| at.first().copied()).collect::<Option<Vec<u64>>>();
        let lasts = at.iter().map(|at| at.last().copied()).collect::<Option<Vec<u64>>>();
        let (from, to) = firsts
            .and_then(|all| all.into_iter().max())
            .zip(lasts.and_then(|all| all.into_iter().min()))
            .context("streams with tokens")?;
        let inside = at.iter().flat_map(|at| *at).filter(|at| **at > from && **at <= to).count();
        ensure!(to > from && inside > rows, "the streams of a calibration were not speaking at once");
        Ok((to - from) as f64 * rows as f64 / inside as f64)
    }

    /// The answer of one token to a prompt, from a thread of the runtime as in a live replay.
    fn ask(&mut self, function: String, tokens: usize) -> Result<Answered> {
        let (caller, seed) = (self.caller.clone(), self.random.next());
        let one = self.runtime.spawn(async move { caller.complete(&function, tokens, seed, 1).await });
        self.runtime.block_on(one)?
    }

    /// What some requests show, at any moment of a step, while `rows` streams speak.
    fn beside(&mut self, rows: u64, mut ask: impl FnMut(&mut Self) -> Result<f64>) -> Result<Vec<f64>> {
        let over = Arc::new(AtomicBool::new(false));
        let streams: Vec<_> = (0..rows)
            .map(|n| self.runtime.spawn(self.caller.clone().speak(n + 1, self.random.next(), over.clone())))
            .collect();
        let mut measured = || -> Result<Vec<f64>> {
            // All of them speak by then.
            std::thread::sleep(Duration::from_millis(60 * rows + 20));
            let mut seen = Vec::with_capacity(FIRSTS);
            for _ in 0..FIRSTS {
                std::thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS) as u64));
                seen.push(ask(self)?);
            }
            Ok(seen)
        };
        let seen = measured();
        over.store(true, Ordering::Relaxed);
        for stream in streams {
            self.runtime.block_on(stream)??;
        }
        seen
    }
}

fn adapter(n: u64) -> String {
    format!("first-{n}")
}
