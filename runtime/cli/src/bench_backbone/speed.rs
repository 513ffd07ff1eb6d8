//! Speed: prefill, decode of one sequence, decode of a batch without, with one and with many adapters.
//!
//! The cases are interleaved, round by round, so that their ratios hold on a machine that is busy with other things.

use crate::opened::{BackboneArg, Opened};
use crate::ui::Ui;
use anyhow::{Result, anyhow};
use coldframe_backbone::adapter::Adapter;
use coldframe_backbone::engine::{Engine, EngineOptions, Request, Said, SequenceId, Spoken, Voice, What};
use coldframe_backbone::executor::PAGE_TOKENS;
use coldframe_backbone::kv::{BookOptions, TenantId};
use coldframe_backbone::native::{Native, NativeOptions};
use coldframe_backbone::sample::{Sampler, SamplingParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Tokens of the prompt before a decode is measured.
pub const DECODE_PROMPT: usize = 64;

/// Tokens of prompts that a step takes at least, whatever is measured.
const PROMPT: usize = 512;

/// An engine for `sequences` of `tokens` tokens together, in which nothing is found in cached pages; a step takes prompts up to
/// `prompt` tokens whole.
pub fn engine(
    model: &BackboneArg,
    opened: &Opened,
    tokens: usize,
    prompt: usize,
    sequences: usize,
) -> Result<Engine> {
    let pages = tokens.div_ceil(PAGE_TOKENS) + 2 * sequences;
    let native =
        Native::new(opened.pack.clone(), NativeOptions { threads: model.threads(), pages, kv: model.kv() })?;
    let options = EngineOptions {
        max_batched_tokens: prompt.max(PROMPT) + sequences,
        max_sequences: sequences,
        max_waiting_per_tenant: 1024,
        book: BookOptions { prefix_reuse: false, tenant_share: 1.0, ..BookOptions::default() },
        ..EngineOptions::default()
    };
    Ok(Engine::new(Box::new(native), options)?)
}

/// Something to measure.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name in the report, without `_tok_s`.
    pub name: String,
    /// What is run.
    pub work: Work,
}

/// What a case runs.
#[derive(Debug, Clone)]
pub enum Work {
    /// One prompt of so many tokens, always the same, to its first token.
    Prefill(usize),
    /// This prompt, to its first token.
    First(Vec<u32>),
    /// So many steps for each group of sequences, one group after the other; a sequence's entry is its adapter.
    Decode { groups: Vec<Vec<Option<usize>>>, steps: usize },
}

/// Tokens a second of each round of a case.
pub type Rates = BTreeMap<String, Vec<f64>>;

/// Does something with an engine on a thread of its own, as a server does: its threads may then have a core each, and the
/// calling thread stays free to start others.
pub fn settled<T: Send>(
    engine: &mut Engine,
    work: impl FnOnce(&mut Engine) -> Result<T> + Send,
) -> Result<T> {
    let own = move || {
        engine.settle();
        work(engine)
    };
    std::thread::scope(|scope| scope.spawn(own).join())
        .map_err(|_| anyhow!("the engine's thread panicked"))?
}

/// Runs every case once to warm up, then `rounds` times in turn.
pub fn measure(
    engine: &mut Engine,
    cases: &[Case],
    adapters: &[Arc<Adapter>],
    rounds: usize,
    ui: &Ui,
) -> Result<Rates> {
    let mut rates = Rates::new();
    let bar = ui.progress("measuring");
    for round in 0..=rounds {
        for (index, case) in cases.iter().enumerate() {
            ui.check()?;
            bar.set_position(((round * cases.len() + index) * 1000 / ((rounds + 1) * cases.len())) as u64);
            let rate = run(engine, &case.work, adapters)?;
            if round > 0 {
                rates.entry(case.name.clone()).or_default().push(rate);
            }
        }
    }
    bar.finish_and_clear();
    Ok(rates)
}

/// Tokens a second.
pub fn run(engine: &mut Engine, work: &Work, adapters: &[Arc<Adapter>]) -> Result<f64> {
    match work {
        Work::Prefill(tokens) => prefill(engine, request(engine, *tokens, Some(1), None)),
        Work::First(prompt) => prefill(engine, asked(prompt.clone(), Some(1), None)),
        Work::Decode { groups, steps } => {
            let (mut tokens, mut seconds) = (0, 0.0);
            for group in groups {
                let group: Vec<_> =
                    group.iter().map(|adapter| adapter.map(|adapter| adapters[adapter].clone())).collect();
                let (more, took) = decode(engine, &group, *steps)?;
                (tokens, seconds) = (tokens + more, seconds + took);
            }
            Ok(tokens as f64 / seconds)
        }
    }
}

/// Tokens a second of a prompt, to its first token.
fn prefill(engine: &mut Engine, request: Request) -> Result<f64> {
    let tokens = request.prompt.len();
    engine.submit(request)?;
    let start = Instant::now();
    while !engine.is_idle() {
        engine.step()?;
    }
    Ok(tokens as f64 / start.elapsed().as_secs_f64())
}

/// Tokens and seconds of `steps` steps in which every sequence of the group decodes.
fn decode(engine: &mut Engine, group: &[Option<Arc<Adapter>>], steps: usize) -> Result<(usize, f64)> {
    let ids =
        group.iter().map(|adapter| engine.submit(request(engine, DECODE_PROMPT, None, adapter.clone())));
    let ids = ids.collect::<Result<Vec<SequenceId>, _>>()?;
    let mut started = 0;
    while started < ids.len() {
        started += engine.step()?.events.iter().filter(|event| first(&event.what)).count();
    }
    let (mut tokens, start) = (0, Instant::now());
    for _ in 0..steps {
        let events = engine.step()?.events;
        tokens += events.iter().filter(|event| matches!(event.what, What::Token(_))).count();
    }
    let seconds = start.elapsed().as_secs_f64();
    ids.into_iter().for_each(|id| {
        engine.cancel(id);
    });
    engine.step()?;
    anyhow::ensure!(tokens == group.len() * steps, "{tokens} tokens in {steps} steps of {}", group.len());
    Ok((tokens, seconds))
}

/// Whether this is a sequence's first token.
pub fn first(what: &What) -> bool {
    matches!(what, What::Token(spoken) if spoken.text == FIRST)
}

const FIRST: &str = "first";

/// A greedy request over ordinary tokens; without `max_tokens` it goes on as long as it may.
pub fn request(
    engine: &Engine,
    tokens: usize,
    max_tokens: Option<usize>,
    adapter: Option<Arc<Adapter>>,
) -> Request {
    // Ordinary tokens, far from a vocabulary's special ones at its start.
    let vocab = engine.config().vocab as u32;
    let prompt = (0..tokens as u32).map(|i| vocab / 8 + i * 37 % (vocab / 2)).collect();
    asked(prompt, max_tokens, adapter)
}

fn asked(prompt: Vec<u32>, max_tokens: Option<usize>, adapter: Option<Arc<Adapter>>) -> Request {
    Request {
        tenant: TenantId(0),
        adapter,
        yields: false,
        prompt,
        max_tokens,
        voices: vec![Box::new(Greedy { sampler: Sampler::new(SamplingParams::greedy(), &[], 0) })],
    }
}

/// The likeliest token, without text.
struct Greedy {
    sampler: Sampler,
}

impl Voice for Greedy {
    fn next(&mut self, logits: &mut [f32]) -> coldframe_backbone::Result<Said> {
        let text = if self.sampler.output().is_empty() { FIRST } else { "" };
        let token = self.sampler.sample(logits)?.token;
        Ok(Said::Token(Spoken { token, text: text.to_owned(), ..Spoken::default() }))
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}
