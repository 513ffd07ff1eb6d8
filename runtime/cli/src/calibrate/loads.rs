//! Loads: the backbone in fresh processes, adapters of several ranks, each with its files in memory and dropped from it.

use super::cache::{bytes_of, drop_file, drop_folder, read_so_far, was_cold};
use crate::bench_backbone::adapters::write;
use crate::bench_backbone::memory::{anonymous, read_line};
use crate::bench_backbone::speed::{self, engine};
use crate::opened::{BackboneArg, Opened};
use crate::ui::{Ui, print};
use anyhow::{Context, Result, ensure};
use coldframe_backbone::Module;
use coldframe_backbone::adapter::BaseWeights;
use coldframe_backbone::engine::Engine;
use coldframe_backbone::executor::PAGE_TOKENS;
use coldframe_backbone::native::{Native, NativeOptions};
use coldframe_simulator::calibrate::{AdapterLoad, BackboneLoad};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Tokens of a small prompt: its step is over soon, and it reads all weights.
const SMALL: usize = 16;
/// Tokens of a prompt that makes the executor's buffers as large as they get.
const LARGE: usize = 512;

/// What a process that opened the model tells.
#[derive(Serialize, Deserialize)]
struct Told {
    open_ns: u64,
    first_step_ns: u64,
    usual_step_ns: u64,
    context_bytes: u64,
    weight_bytes: u64,
    read_bytes: Option<u64>,
    files: Vec<PathBuf>,
}

/// In a process of its own: opens the model, steps, tells on stdout.
pub fn open_and_tell(model: &BackboneArg, ui: &Ui) -> Result<()> {
    let before = read_so_far();
    let start = Instant::now();
    let opened = model.open(ui)?;
    let open_ns = nanos(start);
    let empty = anonymous()?;
    let mut engine = engine(model, &opened, LARGE + 2 * PAGE_TOKENS, LARGE, 1)?;
    let first_step_ns = prompt(&mut engine, SMALL)?;
    let read_bytes = before.and_then(|before| Some(read_so_far()?.saturating_sub(before)));
    let again = (0..3).map(|_| prompt(&mut engine, SMALL)).collect::<Result<Vec<u64>>>()?;
    prompt(&mut engine, LARGE)?;
    let page = Native::new(opened.pack.clone(), NativeOptions { threads: 1, pages: 1, kv: model.kv() })?;
    let page_bytes = coldframe_backbone::executor::Executor::page_bytes(&page);
    let pages = (LARGE + 1).div_ceil(PAGE_TOKENS) as u64;
    let told = Told {
        open_ns,
        first_step_ns,
        usual_step_ns: again.into_iter().min().unwrap_or(first_step_ns),
        context_bytes: anonymous()?.saturating_sub(empty + pages * page_bytes),
        weight_bytes: opened.pack.mapped_bytes(),
        read_bytes,
        files: opened.pack.path().map(Path::to_owned).into_iter().chain(mapped(&opened)).collect(),
    };
    print(&format!("{}\n", serde_json::to_string(&told)?))
}

fn mapped(opened: &Opened) -> Vec<PathBuf> {
    opened.checkpoint.mappings().map(|mapping| mapping.path().to_owned()).collect()
}

/// Nanoseconds from a prompt to its only token.
fn prompt(engine: &mut Engine, tokens: usize) -> Result<u64> {
    let start = Instant::now();
    engine.submit(speed::request(engine, tokens, Some(1), None))?;
    while !engine.is_idle() {
        engine.step()?;
    }
    Ok(nanos(start))
}

/// The backbone's load, and what an executor takes beside weights and KV. The caller must not have the model open.
pub fn backbone(model: &BackboneArg, rounds: u32, ui: &Ui) -> Result<(BackboneLoad, u64)> {
    // The first packs the weights where that was never done, and fills the page cache.
    let first = elsewhere(model)?;
    let mut warm = Vec::new();
    for _ in 0..rounds {
        ui.check()?;
        warm.push(elsewhere(model)?);
    }
    first.files.iter().try_for_each(|path| drop_file(path))?;
    let cold = elsewhere(model)?;
    let was_cold = was_cold(Some(0), cold.read_bytes, cold.weight_bytes);
    let of = |value: fn(&Told) -> u64| median(warm.iter().map(value));
    let usual_step_ns = of(|told| told.usual_step_ns);
    let all_ns = cold.open_ns + cold.first_step_ns.saturating_sub(usual_step_ns);
    let load = BackboneLoad {
        bytes: first.weight_bytes,
        map_ns: of(|told| told.open_ns),
        disk_ns: was_cold.then_some(all_ns),
        first_step_ns: of(|told| told.first_step_ns),
        usual_step_ns,
    };
    Ok((load, of(|told| told.context_bytes)))
}

/// Opens the model in another process.
fn elsewhere(model: &BackboneArg) -> Result<Told> {
    let program = std::env::current_exe().context("this program's own file")?;
    let mut child = Command::new(program)
        .args(["--quiet", "calibrate", "--task"])
        .args(model.arguments()?)
        .stdout(Stdio::piped())
        .spawn()?;
    let answer = read_line(&mut child);
    ensure!(child.wait()?.success(), "opening the model in a process of its own failed");
    Ok(serde_json::from_value(answer?)?)
}

/// Adapters on q, k, v and o, one a rank.
pub fn adapters(
    opened: &Opened,
    scratch: &Path,
    ranks: &[u32],
    rounds: u32,
    ui: &Ui,
) -> Result<Vec<AdapterLoad>> {
    ranks.iter().map(|&rank| one_rank(opened, scratch, rank, rounds, ui)).collect()
}

/// Modules of the adapters measured, as the simulator has it.
pub const MODULES: [Module; 4] = [Module::Q, Module::K, Module::V, Module::O];

fn one_rank(opened: &Opened, scratch: &Path, rank: u32, rounds: u32, ui: &Ui) -> Result<AdapterLoad> {
    let folder = scratch.join(format!("rank-{rank}"));
    write(opened.pack.config(), &folder, rank as usize, &MODULES, u64::from(rank))?;
    let file_bytes = bytes_of(&folder)?;
    let (mut memory, mut disk) = (Vec::new(), Vec::new());
    let load = || -> Result<(u64, u64)> {
        let start = Instant::now();
        let adapter = opened.adapter(&folder, ui)?;
        Ok((nanos(start), adapter.bytes()))
    };
    let (_, bytes) = load()?;
    for _ in 0..rounds {
        ui.check()?;
        memory.push(load()?.0);
        drop_folder(&folder)?;
        let before = read_so_far();
        let ns = load()?.0;
        if was_cold(before, read_so_far(), file_bytes) {
            disk.push(ns);
        }
    }
    let disk_ns = (!disk.is_empty()).then(|| median(disk.into_iter()));
    Ok(AdapterLoad { rank, bytes, file_bytes, disk_ns, memory_ns: median(memory.into_iter()) })
}

/// The middle value; of an even number the upper one.
pub fn median(values: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<u64> = values.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(0)
}

/// Nanoseconds since then.
pub fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}
