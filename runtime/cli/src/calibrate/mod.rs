//! `coldframe calibrate`: this machine, measured with the real runtime, as a hardware profile for the simulator.
//!
//! `steps` runs the engine, `loads` brings artifacts in from disk and from memory, `bandwidth` reads and copies. What is
//! fitted and how the file looks is the simulator's business (`coldframe_simulator::calibrate`).

mod bandwidth;
mod cache;
#[cfg(feature = "sandbox")]
mod code;
mod loads;
mod runs;
#[cfg(feature = "host")]
mod serving;
mod steps;

use crate::backbone::machine::Machine;
use crate::opened::{BackboneArg, Opened};
use crate::ui::{Ui, WholeFile, print};
use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use coldframe_backbone::adapter::BaseWeights;
use coldframe_backbone::engine::EngineOptions;
use coldframe_simulator::calibrate::{self as sim, Derived, Measured, Shape};
use coldframe_simulator::profile::EngineRules;
use runs::{Runs, mean_of};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Where an adapter's files are when it comes from disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FilesArg {
    /// In the page cache.
    Cached,
    /// Not in it.
    Dropped,
}

/// Measure this machine and write a hardware profile for the simulator
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe calibrate --backbone smollm2-135m-instruct --out here.toml --html here.html
  coldframe replay --trace traces/samples/demo-bursty.csv.gz --profile here.toml --policy serverlesslora

Leave the machine alone meanwhile: what else runs on it is measured too. The full run takes some minutes, --quick about \
two; the file tells the errors of its fits. A machine that is shared with others has fast and slow minutes: call the \
command several times with one --points file, spread over the time that counts, and the profile is of all of them.")]
pub struct CalibrateArgs {
    #[command(flatten)]
    model: BackboneArg,
    /// Write the profile here (TOML)
    #[arg(long, short, value_name = "FILE.toml", required_unless_present = "task")]
    out: Option<PathBuf>,
    /// Write a page with the measured points and the fits
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Add this run's measurements to this file and make the profile of all runs in it: the mean of each number
    #[arg(long, value_name = "FILE.jsonl")]
    points: Option<PathBuf>,
    /// Measure nothing: make the profile of the runs that are in --points
    #[arg(long, requires = "points", conflicts_with_all = [
        "quick", "rounds", "name", "rank", "files", "batch", "memory_gb", "price_per_hour", "scratch",
    ])]
    refit: bool,
    /// Fewer sizes and rounds
    #[arg(long)]
    quick: bool,
    /// Name of the profile
    #[arg(long, default_value = "this-machine")]
    name: String,
    /// Rounds of each measurement [default: 5, or 2 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: Option<u32>,
    /// Rank whose load stands for all adapters (the simulator knows one)
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=256))]
    rank: u32,
    /// Which load stands for one from disk: with the files in the page cache, as on a host with memory to spare, or not
    #[arg(long, value_enum, default_value = "cached")]
    files: FilesArg,
    /// Most sequences of a decode step of the engine alone; a server's streams are up to 32, with --quick 16
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=128))]
    batch: u32,
    /// Memory that the device tier may hold, GB [default: the machine's memory]
    #[arg(long, value_name = "GB")]
    memory_gb: Option<f64>,
    /// Price of this machine, US dollars an hour: writes a tariff too
    #[arg(long, value_name = "USD")]
    price_per_hour: Option<f64>,
    /// Folder for files that are written, dropped from memory and read back; it must be on the disk that is meant
    /// [default: the folder of --out]
    #[arg(long, value_name = "FOLDER")]
    scratch: Option<PathBuf>,
    /// Open the model in this process and tell what it took (used by the command itself)
    #[arg(long, hide = true)]
    task: bool,
}

/// Measures and writes.
pub fn run(args: CalibrateArgs, ui: &Ui) -> Result<()> {
    if args.task {
        return loads::open_and_tell(&args.model, ui);
    }
    if !args.refit {
        args.model.check()?;
    }
    let out = args.out.clone().context("--out names the file to write")?;
    let mut profile = WholeFile::create(&out)?;
    let page = args.html.as_deref().map(WholeFile::create).transpose()?;
    let measured = match &args.points {
        Some(points) if args.refit => mean_of(points)?,
        points => measured(&args, &out, points.as_deref(), ui)?,
    };
    let derived = sim::derive(&measured)?;
    profile.write_all(sim::text(&measured, &derived).as_bytes())?;
    profile.finish()?;
    ui.say(&format!("profile: {}", out.display()));
    if let (Some(path), Some(mut page)) = (&args.html, page) {
        page.write_all(sim::page(&measured, &derived).as_bytes())?;
        page.finish()?;
        ui.say(&format!("page: {}", path.display()));
    }
    tell(&measured, &derived, ui)
}

/// A run now, and its mean with those in the file where there is one.
fn measured(args: &CalibrateArgs, out: &Path, points: Option<&Path>, ui: &Ui) -> Result<Measured> {
    let settings = settings(args)?;
    let Some(path) = points else { return measure(args, settings, out, ui) };
    let runs = Runs::open(path)?;
    // Before minutes are spent on what the file won't take.
    runs.fits(&settings)?;
    let whole = runs.add(measure(args, settings, out, ui)?)?;
    ui.say(&format!("points: {} (runs in it: {})", path.display(), whole.machine.runs));
    Ok(whole)
}

fn measure(args: &CalibrateArgs, notes: BTreeMap<String, String>, out: &Path, ui: &Ui) -> Result<Measured> {
    let beside = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::tempdir_in(args.scratch.as_deref().unwrap_or(beside))
        .context("cannot make a folder for files to measure with: name another with --scratch")?;
    let rounds = args.rounds.unwrap_or(if args.quick { 2 } else { 5 });
    ui.say("bandwidths of memory and disk");
    let bandwidths = bandwidth::measure(scratch.path(), args.model.threads(), args.quick, ui)?;
    ui.say("loads of the backbone, in processes of their own");
    let (backbone, context_bytes) = loads::backbone(&args.model, rounds, ui)?;
    let opened = args.model.open(ui)?;
    ui.say("loads of adapters");
    let adapters = loads::adapters(&opened, scratch.path(), &ranks(args), rounds, ui)?;
    #[cfg(feature = "sandbox")]
    let sandbox = {
        ui.say("a function's code");
        Some(code::measure(rounds)?)
    };
    #[cfg(not(feature = "sandbox"))]
    let sandbox = None;
    ui.say("steps");
    let (steps, device) = steps::measure(args, &opened, scratch.path(), rounds, ui)?;
    #[cfg(feature = "host")]
    let served = {
        ui.say("steps and first tokens behind a server");
        let batches: &[usize] = if args.quick { &[1, 2, 4, 8, 16] } else { &[1, 2, 4, 8, 16, 24, 32] };
        serving::measure(&args.model, opened.pack.config(), batches, scratch.path(), rounds, ui)?
    };
    #[cfg(feature = "host")]
    let (serving, firsts, served_loads) = (served.steps, served.firsts, served.loads);
    #[cfg(not(feature = "host"))]
    let (serving, firsts, served_loads) = (Vec::new(), Vec::new(), Vec::new());
    let page_tokens = coldframe_backbone::executor::PAGE_TOKENS as u64;
    let shape = shape(&opened, device.page_bytes / page_tokens, context_bytes);
    let machine = machine(args, rounds, &device.name)?;
    Ok(Measured {
        machine,
        shape,
        steps,
        adapters,
        backbone,
        bandwidths,
        sandbox,
        serving,
        firsts,
        served_loads,
        rank: args.rank,
        files: match args.files {
            FilesArg::Cached => sim::Files::Cached,
            FilesArg::Dropped => sim::Files::Dropped,
        },
        engine: Some(engine_rules()),
        notes,
    })
}

/// What decides what is measured; runs that differ in it make no mean.
fn settings(args: &CalibrateArgs) -> Result<BTreeMap<String, String>> {
    let model = args.model.path()?;
    let all = [
        ("model", model.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        ("mode", if args.quick { "quick" } else { "full" }.to_owned()),
        ("threads", args.model.threads().to_string()),
        ("kv", format!("{:?}", args.model.kv()).to_lowercase()),
        ("batch", args.batch.to_string()),
        ("rank", args.rank.to_string()),
        ("files", format!("{:?}", args.files).to_lowercase()),
    ];
    Ok(all.map(|(what, value)| (what.to_owned(), value)).into())
}

/// How the host's engine makes its steps.
fn engine_rules() -> EngineRules {
    let usual = EngineOptions::default();
    EngineRules {
        max_sequences: usual.max_sequences as u32,
        max_batched_tokens: usual.max_batched_tokens as u32,
        prefill_quantum: usual.prefill_quantum as u32,
    }
}

fn ranks(args: &CalibrateArgs) -> Vec<u32> {
    let mut ranks = if args.quick { vec![8, args.rank] } else { vec![4, 8, 16, 32, 64, args.rank] };
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

fn shape(opened: &Opened, kv_bytes_per_token: u64, context_bytes: u64) -> Shape {
    let config = opened.pack.config();
    let name = opened.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Shape {
        name,
        layers: config.layers as u32,
        hidden: config.width as u32,
        vocab: config.vocab as u32,
        weight_bytes: opened.pack.mapped_bytes() + opened.pack.private_bytes(),
        kv_bytes_per_token,
        context_bytes,
    }
}

fn machine(args: &CalibrateArgs, rounds: u32, device: &str) -> Result<sim::Machine> {
    let here = Machine::here();
    let memory = here.memory_total.context("the machine's memory is not told: give --memory-gb")?;
    let given = args.memory_gb.map(|gb| {
        ensure!(gb.is_finite() && gb > 0.0 && gb <= 1e6, "--memory-gb must be above zero");
        Ok((gb * 1e9) as u64)
    });
    let price = args.price_per_hour.map(|usd| {
        ensure!(usd.is_finite() && usd > 0.0 && usd <= 1e6, "--price-per-hour must be above zero");
        Ok(((usd * 1e9 / 3600.0).round() as u64).max(1))
    });
    let cpu = here.cpu.unwrap_or_else(|| "an unnamed CPU".to_owned());
    Ok(sim::Machine {
        name: args.name.clone(),
        device: format!("{cpu}, {device}"),
        date: date(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()),
        threads: args.model.threads() as u32,
        device_bytes: given.transpose()?.unwrap_or(memory),
        host_bytes: memory,
        rounds,
        runs: 1,
        price_nano_usd_per_s: price.transpose()?,
    })
}

/// The day of a time since 1970, UTC: Howard Hinnant's `civil_from_days`.
pub fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// What was found, on stdout.
fn tell(measured: &Measured, derived: &Derived, ui: &Ui) -> Result<()> {
    if ui.json {
        let fit = |note: &sim::FitNote| {
            serde_json::json!({
                "what": note.what, "points": note.errors.points,
                "mean_error": note.errors.mean, "worst_error": note.errors.worst,
            })
        };
        let all = serde_json::json!({
            "host_ms": derived.host_ps as f64 / 1e9,
            "prefill_ps": derived.prefill_ps, "prefill_floor_ps": derived.prefill_floor_ps,
            "decode_ps": derived.decode_ps, "decode_rows_ps": derived.decode_rows_ps,
            "adapter_layer_ps": derived.adapter_layer_ps, "adapter_token_ps": derived.adapter_token_ps,
            "adapter_disk_ms": derived.adapter.disk_ns.map(|ns| ns as f64 / 1e6),
            "adapter_memory_ms": derived.adapter.memory_ns as f64 / 1e6,
            "backbone_map_ms": measured.backbone.map_ns as f64 / 1e6,
            "fits": derived.fits.iter().map(fit).collect::<Vec<_>>(),
        });
        return print(&format!("{all}\n"));
    }
    let mut text = format!("{:24} {:>8} {:>12} {:>12}\n", "fit", "points", "mean error", "worst error");
    for note in &derived.fits {
        let e = note.errors;
        let (mean, worst) = (e.mean * 100.0, e.worst * 100.0);
        text += &format!("{:24} {:>8} {mean:>10.1} % {worst:>10.1} %\n", note.what, e.points);
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_have_dates() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
        ] {
            assert_eq!(date(seconds), day);
        }
    }
}
