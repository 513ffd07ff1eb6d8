//! Memory and readiness, each measured in a process of its own: what adapters cost, what a second process keeps for
//! itself, how soon a fresh one is ready.

use super::{BenchArgs, adapters, engine};
use crate::opened::Opened;
use crate::ui::{Ui, print};
use anyhow::{Context, Result, ensure};
use coldframe_backbone::engine::Engine;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Adapters loaded at once.
const ADAPTERS: usize = 64;

/// What a process of the benchmark does; it is the command's own tool.
#[derive(clap::ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Says when it could step.
    Ready,
    /// Steps, and says which pages of the weights are its own.
    Share,
    /// Loads adapters, and says what they cost.
    Adapters,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Share => "share",
            Self::Adapters => "adapters",
        }
    }
}

/// Does a task in this process.
pub fn run(task: Task, args: &BenchArgs, ui: &Ui) -> Result<()> {
    let opened = args.model.open(ui)?;
    match task {
        Task::Ready => {
            let engine = engine(args, &opened)?;
            print(&format!("{}\n", json!({ "device": engine.device(), "phases": opened.phases })))
        }
        Task::Share => {
            warm(&mut engine(args, &opened)?)?;
            print(&format!("{}\n", mapped(&opened)?))
        }
        Task::Adapters => print(&format!("{}\n", cost(&opened, ui)?)),
    }
}

/// Measures with processes of its own; `engine` has the weights mapped meanwhile, as the first process of a host has.
pub fn measure(args: &BenchArgs, engine: &mut Engine, times: usize, ui: &Ui) -> Result<Value> {
    warm(engine)?;
    let mut ready = Vec::new();
    for _ in 0..times {
        ui.check()?;
        ready.push(first_line(args, Task::Ready)?.0);
    }
    ready.sort_by(f64::total_cmp);
    let share = first_line(args, Task::Share)?.1;
    let adapters = first_line(args, Task::Adapters)?.1;
    Ok(json!({
        "ready": { "best_ms": ready[0], "median_ms": super::median(&ready), "times": times },
        "second_process": share,
        "adapters": adapters,
    }))
}

/// Touches all weights.
fn warm(engine: &mut Engine) -> Result<()> {
    super::speed::measure(
        engine,
        &[super::speed::Case { name: String::new(), work: super::speed::Work::Prefill(16) }],
        &[],
        0,
        &Ui { json: false, quiet: true, stop: Default::default() },
    )?;
    Ok(())
}

/// Starts a process; milliseconds until its first line, and the line.
fn first_line(args: &BenchArgs, task: Task) -> Result<(f64, Value)> {
    let program = std::env::current_exe().context("this program's own file")?;
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(["--quiet", "bench", "--task", task.name()])
        .args(args.model.arguments()?)
        .stdout(Stdio::piped())
        .spawn()?;
    let answer = read_line(&mut child);
    let ms = crate::opened::ms(start);
    let status = child.wait()?;
    ensure!(status.success(), "measuring {} failed", task.name());
    Ok((ms, answer?))
}

pub fn read_line(child: &mut Child) -> Result<Value> {
    let out = child.stdout.take().context("a process with a pipe")?;
    let mut line = String::new();
    BufReader::new(out).read_line(&mut line)?;
    serde_json::from_str(&line).with_context(|| format!("a process of the benchmark printed {line:?}"))
}

/// Bytes of this process's mappings of the weights, from `/proc/self/smaps`.
fn mapped(opened: &Opened) -> Result<Value> {
    let text = std::fs::read_to_string("/proc/self/smaps").context("/proc/self/smaps, which Linux has")?;
    let files = files(opened)?;
    let (mut rss, mut pss, mut private) = (0, 0, 0);
    let mut counted = false;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        if !name.ends_with(':') {
            counted = files.iter().any(|file| line.ends_with(file.as_str()));
            continue;
        }
        let bytes = words.next().and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) * 1024;
        match name {
            "Rss:" if counted => rss += bytes,
            "Pss:" if counted => pss += bytes,
            "Private_Clean:" | "Private_Dirty:" if counted => private += bytes,
            _ => {}
        }
    }
    let size: u64 = opened.checkpoint.mappings().map(|mapping| mapping.bytes().len() as u64).sum();
    Ok(json!({
        "model_bytes": size,
        "mapped_rss_bytes": rss,
        "mapped_pss_bytes": pss,
        "mapped_private_bytes": private,
        "anonymous_bytes": anonymous()?,
        "private_share": private as f64 / size as f64,
    }))
}

/// Files of the weights as the kernel names them.
fn files(opened: &Opened) -> Result<Vec<String>> {
    let maps = opened.checkpoint.mappings().map(|mapping| mapping.path().to_owned());
    let all: Vec<PathBuf> = maps.chain(opened.pack.path().map(Path::to_owned)).collect();
    let real = |path: &PathBuf| std::fs::canonicalize(path).map(|path| path.display().to_string());
    Ok(all.iter().map(real).collect::<Result<_, _>>()?)
}

/// Bytes of anonymous memory of this process.
pub fn anonymous() -> Result<u64> {
    let status =
        std::fs::read_to_string("/proc/self/status").context("/proc/self/status, which Linux has")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("RssAnon")?;
    let kilobytes = line.split_ascii_whitespace().next().context("a number")?;
    Ok(kilobytes.parse::<u64>()? * 1024)
}

/// Loads adapters and compares what the process grew by with what they say they occupy.
fn cost(opened: &Opened, ui: &Ui) -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let paths = adapters::write_all(opened.checkpoint.config(), folder.path(), 16)?;
    let load = |path: &PathBuf| opened.adapter(path, ui);
    // The first load fills caches that later ones share.
    drop(paths.iter().map(load).collect::<Result<Vec<_>>>()?);
    let before = anonymous()?;
    let loaded = (0..ADAPTERS).map(|index| load(&paths[index % paths.len()])).collect::<Result<Vec<_>>>()?;
    let grown = anonymous()?.saturating_sub(before);
    let bytes: u64 = loaded.iter().map(|adapter| adapter.bytes()).sum();
    let files: u64 =
        (0..ADAPTERS).map(|index| file_bytes(&paths[index % paths.len()])).sum::<Result<u64>>()?;
    drop(loaded);
    let left = anonymous()?.saturating_sub(before);
    Ok(json!({
        "adapters": ADAPTERS,
        "bytes": bytes,
        "file_bytes": files,
        "grown_bytes": grown,
        "left_bytes": left,
        "overhead_share": grown as f64 / bytes as f64 - 1.0,
    }))
}

fn file_bytes(folder: &Path) -> Result<u64> {
    Ok(folder.join("adapter_model.safetensors").metadata()?.len())
}
