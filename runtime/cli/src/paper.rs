//! `coldframe paper`: the paper's workloads under every policy, class by class, at both cold-start regimes.
//!
//! It reports what comes out beside the paper's headline claims; nothing is tuned to them.

use crate::names::data_value;
use crate::replay::{ReplayArgs, replay, resolve};
use crate::ui::{Ui, WholeFile, print};
use anyhow::{Context, Result, ensure};
use clap::Args;
use clap::Parser;
use coldframe_policy::config::preset_names;
use coldframe_simulator::report::metrics::{Metric, by_key};
use coldframe_simulator::report::model::{PolicyReport, Report};
use coldframe_simulator::report::{html, json, summary, table};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

const CLASSES: [&str; 3] = ["predictable", "normal", "bursty"];
const REGIMES: [&str; 2] = ["container", "engine"];
const OURS: &str = "serverlesslora";

/// The paper's workloads: 4 + 4 functions of Llama-2-7B and 13B, four-hour Azure windows of each class, 8 L40S
///
/// Runs every policy on predictable, normal and bursty windows at both cold-start regimes (`container`: seconds;
/// `engine`: a minute or two), over several seeds (each draws other windows and lengths), and prints TTFT and money of
/// each, with what serverlesslora saves against each baseline beside the paper's headline (TTFT up to 86 %, money up
/// to 89 %). Windows are sampled from the public data when COLDFRAME_DATA is set, else drawn from laws fitted to it.
#[derive(Args)]
pub struct PaperArgs {
    /// Seeds
    #[arg(long, default_value_t = 10)]
    seeds: u64,
    /// Write a report and a page per case into this folder
    #[arg(long, default_value = "out/paper")]
    out: PathBuf,
    /// Folder with the public data
    #[arg(long, env = "COLDFRAME_DATA", value_parser = data_value)]
    data: Option<PathBuf>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Further `replay` options for every case, after `--`, e.g. `-- --slo-ttft 1.5 --jitter 50`
    #[arg(last = true)]
    more: Vec<String>,
}

/// One policy in one case.
#[derive(Serialize)]
struct Line {
    class: &'static str,
    cold_start: &'static str,
    policy: String,
    ttft_mean_s: Option<f64>,
    ttft_half_s: Option<f64>,
    money_usd: Option<f64>,
    money_half_usd: Option<f64>,
    /// The same run billed by the share of device memory held.
    memory_share_usd: Option<f64>,
    cold_share: Option<f64>,
    /// Change of serverlesslora's TTFT against this policy, with its 95 % interval over paired seeds.
    ttft_change: Option<f64>,
    ttft_change_interval: Option<(f64, f64)>,
    money_change: Option<f64>,
    money_change_interval: Option<(f64, f64)>,
}

#[derive(Parser)]
struct Wrapped {
    #[command(flatten)]
    replay: ReplayArgs,
}

/// Runs all cases and prints the table.
pub fn run(args: PaperArgs, ui: &Ui) -> Result<()> {
    // Told before the first case, not after it.
    ensure!(!args.out.exists() || args.out.is_dir(), "--out {} is a file: name a folder", args.out.display());
    let mut lines = Vec::new();
    let mut text = String::new();
    for regime in REGIMES {
        for class in CLASSES {
            ui.say(&format!("{class} windows, {regime} cold starts"));
            let report = case(&args, class, regime, ui)?;
            write_case(&args, class, regime, &report)?;
            let new = case_lines(class, regime, &report)?;
            case_text(&mut text, class, regime, &report)?;
            lines.extend(new);
        }
    }
    if ui.json {
        return print(&(serde_json::to_string_pretty(&lines)? + "\n"));
    }
    writeln!(
        text,
        "The paper claims: TTFT lower by up to 86 %, money lower by up to 89 %, against current systems (which one gives the maximum is not public)."
    )?;
    writeln!(
        text,
        "Our = serverlesslora. GPU seconds: whole GPUs while anything is on them. By share: the part of each GPU's memory held."
    )?;
    writeln!(
        text,
        "Each case has a report and a page in {}. Why policies rank as they do: docs/findings.md.",
        args.out.display()
    )?;
    print(&text)
}

fn case(args: &PaperArgs, class: &str, regime: &str, ui: &Ui) -> Result<Report> {
    let mut typed: Vec<String> = vec!["replay".into(), "--trace".into(), format!("paper-{class}")];
    typed.extend(["--cold-start".into(), regime.into(), "--seeds".into(), args.seeds.to_string()]);
    typed.extend([
        "--policy".into(),
        preset_names().join(","),
        "--gpu".into(),
        "l40s".into(),
        "--workers".into(),
        "8".into(),
    ]);
    if let Some(data) = &args.data {
        typed.extend(["--data".into(), data.display().to_string()]);
    }
    typed.extend(args.more.iter().cloned());
    let wrapped = Wrapped::try_parse_from(&typed)?;
    let mut plan = resolve(&wrapped.replay)?;
    plan.inputs.command = format!("coldframe paper --seeds {} ({class}, {regime})", args.seeds);
    plan.warnings.iter().for_each(|w| ui.warn(w));
    replay(&plan, ui, args.jobs)
}

fn write_case(args: &PaperArgs, class: &str, regime: &str, report: &Report) -> Result<()> {
    for (extension, body) in
        [("json", json::to_string(report)), ("html", html::render_against(report, Some("vllm")))]
    {
        let mut file = WholeFile::create(&args.out.join(format!("{class}-{regime}.{extension}")))?;
        file.write_all(body.as_bytes())?;
        file.finish()?;
    }
    Ok(())
}

fn metric(key: &str) -> Result<&'static Metric> {
    by_key(key).with_context(|| format!("no metric {key}"))
}

fn case_lines(class: &'static str, cold_start: &'static str, report: &Report) -> Result<Vec<Line>> {
    let (ttft, money, cold) = (metric("ttft_mean")?, metric("money")?, metric("cold_share")?);
    let ours = report.policies.iter().find(|p| p.name == OURS).context("serverlesslora is in every case")?;
    let line = |p: &PolicyReport| {
        let (t, m) = (summary::over_seeds(p, ttft), summary::over_seeds(p, money));
        let (dt, dm) = (summary::change(ours, p, ttft), summary::change(ours, p, money));
        Line {
            class,
            cold_start,
            policy: p.name.clone(),
            ttft_mean_s: t.as_ref().map(|i| i.mean),
            ttft_half_s: t.as_ref().and_then(|i| i.half),
            money_usd: m.as_ref().map(|i| i.mean / 1e9),
            money_half_usd: m.as_ref().and_then(|i| i.half).map(|h| h / 1e9),
            memory_share_usd: memory_share(p),
            cold_share: summary::over_seeds(p, cold).map(|i| i.mean),
            ttft_change: dt.as_ref().map(|c| c.relative),
            ttft_change_interval: dt.as_ref().and_then(|c| c.interval),
            money_change: dm.as_ref().map(|c| c.relative),
            money_change_interval: dm.as_ref().and_then(|c| c.interval),
        }
    };
    Ok(report.policies.iter().map(line).collect())
}

fn case_text(text: &mut String, class: &str, regime: &str, report: &Report) -> Result<()> {
    let (ttft, money, cold) = (metric("ttft_mean")?, metric("money")?, metric("cold_share")?);
    let ours = report.policies.iter().find(|p| p.name == OURS).context("serverlesslora is in every case")?;
    writeln!(
        text,
        "{class} windows, {regime} cold starts ({} requests a seed on average)",
        mean_requests(report)
    )?;
    writeln!(
        text,
        "{:28} {:>16} {:>15} {:>10} {:>7} {:>24} {:>24}",
        "policy",
        "TTFT mean s",
        "GPU seconds $",
        "by share $",
        "cold %",
        "our TTFT against it",
        "our money against it"
    )?;
    for p in &report.policies {
        let show = |key: &Metric, scale: f64| match summary::over_seeds(p, key) {
            Some(i) => match i.half {
                Some(half) => format!("{:.3} ±{:.3}", i.mean / scale, half / scale),
                None => format!("{:.3}", i.mean / scale),
            },
            None => "–".to_owned(),
        };
        let cold =
            summary::over_seeds(p, cold).map_or_else(|| "–".to_owned(), |i| format!("{:.1}", 100.0 * i.mean));
        let shared = memory_share(p).map_or_else(|| "–".to_owned(), |m| format!("{m:.2}"));
        let (dt, dm) = if p.name == OURS {
            ("".to_owned(), "".to_owned())
        } else {
            (table::change_text(ours, p, ttft), table::change_text(ours, p, money))
        };
        writeln!(
            text,
            "{:28} {:>16} {:>15} {shared:>10} {cold:>7} {dt:>24} {dm:>24}",
            p.name,
            show(ttft, 1.0),
            show(money, 1e9)
        )?;
    }
    writeln!(text)?;
    Ok(())
}

/// Mean bill under the tariff that prices device memory held, US dollars.
fn memory_share(p: &PolicyReport) -> Option<f64> {
    let bills = p.runs.iter().filter_map(|r| r.bills.iter().find(|b| b.tariff == "memory-share"));
    let all: Vec<f64> = bills.map(|b| b.total_nano_usd as f64 / 1e9).collect();
    (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
}

fn mean_requests(report: &Report) -> u64 {
    let runs = report.policies.first().map(|p| p.runs.as_slice()).unwrap_or_default();
    runs.iter().map(|r| r.requests.arrived).sum::<u64>() / (runs.len() as u64).max(1)
}
