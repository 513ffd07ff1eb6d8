//! What serving costs beside the engine: a real server over HTTP, streams at once, and the time of a step as their readers
//! see it. On a CPU the server, its readers and the engine share the same cores, so it is no small part.

use crate::bench_host::client::{Client, Told};
use crate::bench_host::numbers::{median, prompt};
use crate::bench_host::server::{BASE, Server, Settings};
use crate::opened::BackboneArg;
use crate::ui::Ui;
use anyhow::{Context, Result, anyhow, ensure};
use coldframe_simulator::calibrate::ServingPoint;
use std::path::Path;
use std::time::Instant;

/// Tokens of each prompt.
const PROMPT: usize = 32;
/// Tokens of each answer.
const STEPS: u32 = 64;

/// Measures with these numbers of streams.
pub fn measure(
    model: &BackboneArg,
    vocab: u32,
    batches: &[usize],
    scratch: &Path,
    rounds: u32,
    ui: &Ui,
) -> Result<Vec<ServingPoint>> {
    let name = match Path::new(&model.backbone).exists() {
        true => std::path::absolute(&model.backbone)?.display().to_string(),
        false => model.backbone.clone(),
    };
    let settings = Settings::new(&name, &scratch.join("serving"), Vec::new(), Some(model.threads()));
    let server = Server::start(&settings)?;
    let client = Client::new(&server.url);
    let mut seen = vec![Vec::new(); batches.len()];
    let mut seed = 0;
    for round in 0..=rounds {
        for (n, &rows) in batches.iter().enumerate() {
            ui.check()?;
            seed += rows as u64;
            let step = streams(&client, vocab, rows, seed)?;
            // The first round warms up.
            if round > 0 {
                seen[n].push(step);
            }
        }
    }
    let point = |(&rows, steps): (&usize, &Vec<f64>)| ServingPoint {
        rows: rows as u64,
        cached: rows as u64 * (PROMPT as u64 + u64::from(STEPS) / 2),
        step_ns: median(steps) as u64,
    };
    Ok(batches.iter().zip(&seen).map(point).collect())
}

/// Nanoseconds of a step while all streams speak.
fn streams(client: &Client, vocab: u32, rows: usize, seed: u64) -> Result<f64> {
    let told = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..rows as u64)
            .map(|n| {
                let prompt = prompt(vocab, PROMPT, (seed + n) << 8);
                scope.spawn(move || client.complete(BASE, &prompt, STEPS).answered())
            })
            .collect();
        let ended = callers.into_iter().map(|caller| caller.join().map_err(|_| anyhow!("a caller panicked"))?);
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
