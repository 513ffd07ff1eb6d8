//! Cold starts: many registered functions, memory for few; a cold function's first token beside a warm one's.
//!
//! Each function is called cold and then warm, with prompts of one length that share no page, so that every ratio is of
//! two neighbours in time. The bytes of an adapter are taken off at the bandwidth at which this process reads the same
//! files: they lie in the page cache, which makes the allowance the smallest that it can be.

use super::client::{Client, Told};
use super::numbers::{median, prompt, quantile, round};
use super::server::{Server, Settings};
use super::{Bench, Figures};
use crate::bench_backbone::adapters::write;
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use coldframe_backbone::Module;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Tokens of a prompt: what the host measures itself with.
const PROMPT: usize = 64;
/// MiB beside weights and adapters: KV pages of the one call at a time.
const KV_MIB: u64 = 4;
/// Adapters of one size, that of the middle one of `functions/adapters`: a policy that weighs sizes would keep the small
/// ones of a mixture, and memory "for so many" would mean nothing.
const SHAPE: (usize, [Module; 4]) = (16, [Module::Q, Module::K, Module::V, Module::O]);
/// Crashes and restarts, with a first call each.
const RESTARTS: usize = 9;
/// Warm calls after each that its first call is compared with.
const WARM: u64 = 5;

/// A function's two calls.
struct Pair {
    cold: Told,
    warm: Told,
    bytes: f64,
}

/// Measures.
pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let home = tempfile::tempdir()?;
    let adapters = home.path().join("adapters");
    let config = bench.config()?;
    let vocab = config.vocab as u32;
    let folders = (0..bench.args.functions).map(|index| {
        let folder = adapters.join(name(index));
        write(&config, &folder, SHAPE.0, &SHAPE.1, index as u64)?;
        Ok(folder)
    });
    let folders = folders.collect::<Result<Vec<_>>>()?;
    let bytes = folders.iter().map(|folder| bytes(folder)).collect::<Result<Vec<_>>>()?;
    let bandwidth = bandwidth(&folders)?;
    let mut settings = bench.settings(&home.path().join("data"), &[&adapters]);
    let (weights, adapter) = register(&mut Server::start(&settings)?, &folders, vocab)?;
    let mib = (weights + adapter * bench.args.resident as f64) / f64::from(1 << 20);
    (settings.device_mib, settings.host_mib) = (Some(mib.ceil() as u64 + KV_MIB), Some(mib.ceil() as u64));
    settings.kv_mib = KV_MIB * 2;

    // The server before was killed; this is its data.
    let server = Server::start(&settings)?;
    let client = Client::new(&server.url);
    let mut pairs = Vec::new();
    for (index, bytes) in bytes.iter().enumerate().skip(1) {
        bench.ui.check()?;
        let call = |number| client.complete(&name(index), &prompt(vocab, PROMPT, number), 2).answered();
        let (cold, warm) = (call(2 * index as u64)?, call(2 * index as u64 + 1)?);
        pairs.push(Pair { cold, warm, bytes: *bytes });
    }
    tell(&pairs, bandwidth, figures)?;
    residency(&client, bench)?;
    restarts(server, &settings, &bytes, bandwidth, vocab, figures)
}

/// Kills the server again and again; each time the first call of the next one beside its own warm calls.
fn restarts(
    mut server: Server,
    settings: &Settings,
    bytes: &[f64],
    bandwidth: f64,
    vocab: u32,
    figures: &mut Figures,
) -> Result<()> {
    let (mut ratios, mut ready, mut cold) = (Vec::new(), Vec::new(), String::new());
    for (index, bytes) in bytes.iter().take(RESTARTS).enumerate() {
        server.kill9()?;
        server = Server::start(settings)?;
        let client = Client::new(&server.url);
        // Numbers that no call of the pairs had.
        let call = |number: u64| {
            let number = u64::MAX - (index as u64 * (WARM + 1) + number);
            client.complete(&name(index), &prompt(vocab, PROMPT, number), 2).answered()
        };
        let first = call(0)?;
        let warm = (1..=WARM).map(|number| Ok(call(number)?.ttft_ms())).collect::<Result<Vec<_>>>()?;
        ratios.push((first.ttft_ms() - bytes / bandwidth * 1e3) / median(&warm));
        ready.push(server.ready.as_secs_f64() * 1e3);
        cold = first.cold;
    }
    print(&format!(
        "after kill -9, {} times: ready in {:.0} ms, first call ({cold}) {:.2} x warm (medians), {:.2} x at most\n",
        ratios.len(),
        median(&ready),
        median(&ratios),
        quantile(&ratios, 1.0)
    ))?;
    figures.insert("restart_over_warm_ttft".to_owned(), json!(round(median(&ratios))));
    figures.insert("restart_over_warm_ttft_max".to_owned(), json!(round(quantile(&ratios, 1.0))));
    figures.insert("restart_ready_ms".to_owned(), json!(round(median(&ready))));
    Ok(())
}

fn name(index: usize) -> String {
    format!("cold-{index:03}")
}

fn bytes(folder: &Path) -> Result<f64> {
    let path = folder.join("adapter_model.safetensors");
    Ok(std::fs::metadata(&path).with_context(|| format!("{}", path.display()))?.len() as f64)
}

/// Bytes a second at which the adapters' files are read.
fn bandwidth(folders: &[PathBuf]) -> Result<f64> {
    let (start, mut read) = (Instant::now(), 0);
    for folder in folders {
        read += std::fs::read(folder.join("adapter_model.safetensors"))?.len();
    }
    Ok(read as f64 / start.elapsed().as_secs_f64())
}

/// Registers all, makes one call, kills the server; the bytes that it counts for its weights and for an adapter.
fn register(server: &mut Server, folders: &[PathBuf], vocab: u32) -> Result<(f64, f64)> {
    let client = Client::new(&server.url);
    let start = Instant::now();
    for (index, folder) in folders.iter().enumerate() {
        client.register(&name(index), folder)?;
    }
    let each = start.elapsed().as_secs_f64() * 1e3 / folders.len() as f64;
    print(&format!("{} functions registered, {each:.1} ms each\n", folders.len()))?;
    client.complete(&name(0), &prompt(vocab, PROMPT, 0), 2).answered()?;
    let residency = client.good("GET", "/admin/v1/residency", &Value::Null)?;
    server.kill9()?;
    let uses = |what: &str| residency["uses"][what].as_f64().with_context(|| format!("bytes of {what}"));
    Ok((uses("backbone")?, uses("adapters")? / held(&residency)?.max(1) as f64))
}

fn tell(pairs: &[Pair], bandwidth: f64, figures: &mut Figures) -> Result<()> {
    let odd = pairs.iter().filter(|pair| pair.cold.cold != "disk" || pair.warm.cold != "warm").count();
    ensure!(
        odd * 20 < pairs.len(),
        "{odd} of {} pairs were not a call from disk and one from memory",
        pairs.len()
    );
    let ratio = |pair: &Pair| (pair.cold.ttft_ms() - pair.bytes / bandwidth * 1e3) / pair.warm.ttft_ms();
    let ratios: Vec<_> = pairs.iter().map(ratio).collect();
    let calls = || pairs.iter().flat_map(|pair| [&pair.cold, &pair.warm]);
    let error = |told: &Told| (told.ttft_ms() - told.phases_ms()).abs() / told.ttft_ms();
    let errors: Vec<_> = calls().map(error).collect();
    let inside = calls().map(|told| (told.server_ttft_ms - told.phases_ms()).abs()).fold(0.0, f64::max);
    let of = |pick: fn(&Pair) -> &Told| median(&pairs.iter().map(|p| pick(p).ttft_ms()).collect::<Vec<_>>());
    print(&format!(
        "cold {:.1} ms, warm {:.1} ms (medians of {}); files read at {:.2} GB/s; ratio p50 {:.3}, p95 {:.3}\n",
        of(|pair| &pair.cold),
        of(|pair| &pair.warm),
        pairs.len(),
        bandwidth / 1e9,
        median(&ratios),
        quantile(&ratios, 0.95)
    ))?;
    print(&format!(
        "phases against the client's first token: off by {:.2} % (p50), {:.2} % (p95); against the server's own sum by \
         at most {inside:.3} ms\n",
        100.0 * median(&errors),
        100.0 * quantile(&errors, 0.95)
    ))?;
    phases(pairs)?;
    figures.insert("cold_over_warm_ttft".to_owned(), json!(round(median(&ratios))));
    figures.insert("cold_over_warm_ttft_p95".to_owned(), json!(round(quantile(&ratios, 0.95))));
    figures.insert("phases_sum_err".to_owned(), json!(round(median(&errors))));
    Ok(())
}

/// Where the time of cold and warm calls goes, phase by phase.
fn phases(pairs: &[Pair]) -> Result<()> {
    let Some(any) = pairs.first() else { return Ok(()) };
    for (place, (phase, _)) in any.cold.phases.iter().enumerate() {
        let of = |pick: fn(&Pair) -> &Told| {
            median(&pairs.iter().filter_map(|p| Some(pick(p).phases.get(place)?.1)).collect::<Vec<_>>())
        };
        print(&format!(
            "  {phase:12} cold {:8.3} ms  warm {:8.3} ms\n",
            of(|pair| &pair.cold),
            of(|pair| &pair.warm)
        ))?;
    }
    Ok(())
}

/// Functions whose adapters are in the device's memory.
fn held(residency: &Value) -> Result<usize> {
    let functions = residency["functions"].as_array().context("functions")?;
    Ok(functions.iter().filter(|function| function["tier"] == "device").count())
}

/// Memory held what it should: about as many functions as it was made for.
fn residency(client: &Client, bench: &Bench<'_>) -> Result<()> {
    let residency = client.good("GET", "/admin/v1/residency", &Value::Null)?;
    let held = held(&residency)?;
    print(&format!("{held} of {} functions in memory at the end\n", bench.args.functions))?;
    let made_for = bench.args.resident;
    ensure!(
        (made_for * 3 / 4..=made_for * 5 / 4 + 1).contains(&held),
        "memory for {made_for} held {held}: the measure is of another case than it says"
    );
    Ok(())
}
