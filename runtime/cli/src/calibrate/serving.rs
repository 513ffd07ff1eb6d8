//! What serving costs beside the engine: a real server over HTTP, streams at once, the time of a step as their readers
//! see it, and the first token of a request that comes while others speak, of an adapter in place and of one that is loaded.
//! On a CPU the server, its readers, loads and the engine share the same cores, so it is no small part.

use super::loads::MODULES;
use crate::bench_backbone::adapters::write;
use crate::bench_host::client::{Client, Told};
use crate::bench_host::numbers::{Random, mean, prompt};
use crate::bench_host::server::{Server, Settings};
use crate::opened::BackboneArg;
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow, ensure};
use coldframe_backbone::model::ModelConfig;
use coldframe_simulator::calibrate::{FirstPoint, ServedLoad, ServingPoint};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    let client = Client::new(&server.url);
    let most = batches.iter().map(|&rows| rows as u64).chain(BESIDE.map(|rows| rows + 1)).max().unwrap_or(0);
    let adapter_bytes = register(&client, config, &folder, most)?;
    let vocab = config.vocab as u32;
    let mut asked = Asked { client, vocab, folder: folder.join(adapter(0)), random: Random(7), functions: 0 };
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

/// Whom the requests go to.
struct Asked {
    client: Client,
    vocab: u32,
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
fn register(client: &Client, config: &ModelConfig, folder: &Path, most: u64) -> Result<u64> {
    for n in 0..most {
        let path = folder.join(adapter(n));
        write(config, &path, RANK, &MODULES, n)?;
        client.register(&adapter(n), &path)?;
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
        let (client, vocab) = (&self.client, self.vocab);
        beside(client, vocab, rows, &mut self.random, |random| {
            let prompt = prompt(vocab, tokens, random.next());
            Ok(client.complete(&adapter(0), &prompt, 1).answered()?.ttft.as_nanos() as f64)
        })
    }

    /// An adapter's loads beside streams: each for a function that is called for the first time.
    fn loads(&mut self, rows: u64) -> Result<Vec<f64>> {
        let (client, vocab) = (&self.client, self.vocab);
        let (folder, functions) = (&self.folder, &mut self.functions);
        beside(client, vocab, rows, &mut self.random, |random| {
            let name = format!("load-{functions}");
            *functions += 1;
            client.register(&name, folder)?;
            let told = client.complete(&name, &prompt(vocab, PROMPT, random.next()), 1).answered()?;
            let phases = told.phases.iter().filter(|(name, _)| name.starts_with("adapter_"));
            let ms: f64 = phases.map(|(_, ms)| ms).sum();
            ensure!(ms > 0.0, "`{name}` answered before its adapter was loaded");
            Ok(ms * 1e6)
        })
    }

    /// Nanoseconds of a step while all streams speak, each under an adapter of its own.
    fn steps(&mut self, rows: usize) -> Result<f64> {
        let (client, vocab, seed) = (&self.client, self.vocab, self.random.next());
        let told = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..rows as u64)
                .map(|n| {
                    let prompt = prompt(vocab, PROMPT, seed.wrapping_add(n));
                    scope.spawn(move || client.complete(&adapter(n), &prompt, STEPS).answered())
                })
                .collect();
            let ended =
                callers.into_iter().map(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?);
            ended.collect::<Result<Vec<Told>>>()
        })?;
        let firsts = told.iter().map(|told| told.at.first().copied()).collect::<Option<Vec<Instant>>>();
        let lasts = told.iter().map(|told| told.at.last().copied()).collect::<Option<Vec<Instant>>>();
        let (from, to) = firsts
            .and_then(|all| all.into_iter().max())
            .zip(lasts.and_then(|all| all.into_iter().min()))
            .context("streams with tokens")?;
        let inside = told.iter().flat_map(|told| &told.at).filter(|at| **at > from && **at <= to).count();
        ensure!(to > from && inside > rows, "the streams of a calibration were not speaking at once");
        Ok(to.duration_since(from).as_nanos() as f64 * rows as f64 / inside as f64)
    }
}

fn adapter(n: u64) -> String {
    format!("first-{n}")
}

/// What some requests show, at any moment of a step, while `rows` streams speak.
fn beside(
    client: &Client,
    vocab: u32,
    rows: u64,
    random: &mut Random,
    mut ask: impl FnMut(&mut Random) -> Result<f64>,
) -> Result<Vec<f64>> {
    let over = AtomicBool::new(false);
    let seeds: Vec<u64> = (0..rows).map(|_| random.next()).collect();
    std::thread::scope(|scope| {
        let stream = |n: u64, mut seed: u64| {
            while !over.load(Ordering::Relaxed) {
                client.complete(&adapter(n + 1), &prompt(vocab, PROMPT, seed), LONG).answered()?;
                seed += 1;
            }
            anyhow::Ok(())
        };
        let streams: Vec<_> =
            seeds.iter().zip(0..).map(|(&seed, n)| scope.spawn(move || stream(n, seed))).collect();
        let mut measured = || -> Result<Vec<f64>> {
            // All of them speak by then.
            std::thread::sleep(Duration::from_millis(60 * rows + 20));
            let mut seen = Vec::with_capacity(FIRSTS);
            for _ in 0..FIRSTS {
                std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS) as u64));
                seen.push(ask(random)?);
            }
            Ok(seen)
        };
        let seen = measured();
        over.store(true, Ordering::Relaxed);
        for stream in streams {
            stream.join().map_err(|_| anyhow!("a stream's thread panicked"))??;
        }
        seen
    })
}
