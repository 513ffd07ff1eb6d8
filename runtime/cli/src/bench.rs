//! `coldframe bench-replay`: the figures of the simulator's promises (docs/spec.md); the last line is one JSON object.
//!
//! Each replay runs in a process of its own, so that peak memory is its own and not the largest so far. CPU seconds are
//! counted, since wall time says more about the machine's other work. What can't be measured is left out.

use crate::names::{data_folder, data_value};
use crate::replay::{ReplayArgs, peak_rss_bytes, replay, resolve};
use crate::ui::{Ui, print};
use crate::validate::ground_truth_file;
use anyhow::{Context, Result, ensure};
use clap::{Args, Parser};
use coldframe_simulator::invocations::Settings;
use coldframe_simulator::invocations::f1::{Day, f1_bench};
use coldframe_simulator::validate::{ground_truth::ground_truth, timeline::timeline};
use cpu_time::ProcessTime;
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Measure the simulator's promises
#[derive(Args)]
pub struct BenchArgs {
    /// Folder with the public data; without it only what needs none is measured
    #[arg(long, env = "COLDFRAME_DATA", value_parser = data_value)]
    data: Option<PathBuf>,
    /// Passes over the side-by-side trace
    #[arg(long, default_value_t = 100)]
    passes: u64,
    /// Times each is measured; the best is shown
    #[arg(long, default_value_t = 3)]
    times: u32,
    /// Measure one case in this process (used by the command itself)
    #[arg(long, hide = true)]
    case: Option<String>,
}

#[derive(Parser)]
struct Wrapped {
    #[command(flatten)]
    replay: ReplayArgs,
}

/// Measures and prints.
pub fn run(mut args: BenchArgs, ui: &Ui) -> Result<()> {
    args.data = data_folder(args.data.as_deref())?;
    if let Some(case) = &args.case {
        let measured = if case == "f1" { f1()? } else { side_by_side(&args, case, ui)? };
        return print(&format!("{measured}\n"));
    }
    let mut figures = Map::new();
    if args.data.is_some() {
        for policy in ["vllm", "serverlesslora"] {
            let best = best(&args, &format!("{policy}:{}", args.passes))?;
            let rate = best["per_cpu_s"].as_f64().context("a rate")?;
            print(&format!(
                "{policy:15} W1 x {:3}: {:>9.0} requests per CPU-second, peak {:.1} MiB\n",
                args.passes,
                rate,
                mib(&best)
            ))?;
            figures.insert(format!("w1x100_{policy}_requests_per_cpu_s"), json!(rate.round()));
            if policy == "vllm" {
                figures.insert("w1x100_peak_rss_mib".to_owned(), json!(mib(&best)));
            } else {
                let worst = figures["w1x100_peak_rss_mib"].as_f64().unwrap_or(0.0).max(mib(&best));
                figures.insert("w1x100_peak_rss_mib".to_owned(), json!(worst));
            }
            let once = child(&format!("{policy}:1"))?;
            print(&format!("{policy:15} W1 x   1: peak {:.1} MiB\n", mib(&once)))?;
            let worst = figures.get("w1_peak_rss_mib").and_then(Value::as_f64).unwrap_or(0.0).max(mib(&once));
            figures.insert("w1_peak_rss_mib".to_owned(), json!(worst));
        }
    } else {
        ui.warn("COLDFRAME_DATA is not set: the side-by-side case and the ground truth are left out");
    }
    let f1 = best(&args, "f1")?;
    let rate = f1["per_cpu_s"].as_f64().context("a rate")?;
    print(&format!("F1: {rate:.0} invocations per CPU-second, peak {:.1} MiB\n", mib(&f1)))?;
    figures.insert("f1_invocations_per_cpu_s".to_owned(), json!(rate.round()));
    if let Some(data) = &args.data {
        for row in ground_truth(&ground_truth_file(data))?.iter().filter(|r| r.statistic == "mean") {
            print(&format!("ground truth {}: mean off by {:+.2} %\n", row.metric, 100.0 * row.error))?;
            figures.insert(format!("ground_truth_{}_mean_err", row.metric), json!(round(row.error.abs())));
        }
    }
    let worst = timeline()?.iter().map(|r| r.error.abs()).fold(0.0, f64::max);
    print(&format!("golden timeline: worst total off by {:.2} %\n", 100.0 * worst))?;
    figures.insert("golden_timeline_worst_err".to_owned(), json!(round(worst)));
    print(&format!("{}\n", Value::Object(figures)))
}

fn round(x: f64) -> f64 {
    (x * 1e5).round() / 1e5
}

fn mib(measured: &Value) -> f64 {
    let bytes = measured["peak_rss_bytes"].as_f64().unwrap_or(0.0);
    (bytes / 1024.0 / 102.4).round() / 10.0
}

/// The fastest of several measurements, each in a process of its own.
fn best(args: &BenchArgs, case: &str) -> Result<Value> {
    let all = (0..args.times.max(1)).map(|_| child(case)).collect::<Result<Vec<_>>>()?;
    let fastest = all.into_iter().max_by(|a, b| {
        let rate = |v: &Value| v["per_cpu_s"].as_f64().unwrap_or(0.0);
        rate(a).total_cmp(&rate(b))
    });
    fastest.context("measured at least once")
}

fn child(case: &str) -> Result<Value> {
    let program = std::env::current_exe().context("this program's own file")?;
    let out = Command::new(program)
        .args(["--quiet", "bench-replay", "--case", case])
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(out.status.success(), "measuring {case} failed");
    let text = String::from_utf8_lossy(&out.stdout);
    let last = text.lines().last().with_context(|| format!("{case} printed nothing"))?;
    serde_json::from_str(last).with_context(|| format!("{case} printed {last}"))
}

/// `POLICY:PASSES` on the side-by-side case: one adapter per request by a seeded Zipf over 100, 4 A100-80GB, Llama-2-7B.
fn side_by_side(args: &BenchArgs, case: &str, ui: &Ui) -> Result<Value> {
    let (policy, passes) = case.split_once(':').context("a case is POLICY:PASSES")?;
    let data = args.data.as_ref().context("COLDFRAME_DATA is not set")?;
    let trace = data.join("traces/azure-llm-2023/AzureLLMInferenceTrace_conv.csv");
    let mut typed = vec!["replay".to_owned(), "--trace".to_owned(), trace.display().to_string()];
    let rest = [
        "--adapters",
        "100",
        "--zipf",
        "0.9",
        "--gpu",
        "a100-80",
        "--workers",
        "4",
        "--model",
        "llama-2-7b",
        "--step",
        "vidur",
    ];
    typed.extend(rest.map(str::to_owned));
    typed.extend(["--policy".to_owned(), policy.to_owned(), "--repeat".to_owned(), passes.to_owned()]);
    if policy == "vllm" {
        // The side-by-side case has four replicas, as the peers were run.
        typed.extend(["--set".to_owned(), "scaling.replicas=0".to_owned()]);
    }
    let plan = resolve(&Wrapped::try_parse_from(&typed)?.replay)?;
    let start = ProcessTime::now();
    let report = replay(&plan, ui, 1)?;
    let cpu_s = start.elapsed().as_secs_f64();
    let arrived = report.policies[0].runs[0].requests.arrived;
    Ok(json!({ "per_cpu_s": arrived as f64 / cpu_s, "peak_rss_bytes": peak_rss_bytes() }))
}

/// A made-up Azure-Functions-2019 day of 4,320,000 invocations under a fixed keep-alive, reading included.
fn f1() -> Result<Value> {
    let folder = tempfile::tempdir()?;
    let files = Day::new(1).write(folder.path())?;
    let start = ProcessTime::now();
    let figures = f1_bench(&files, 1, &Settings::fixed(600.0, 250_000_000))?;
    let cpu_s = start.elapsed().as_secs_f64();
    Ok(json!({ "per_cpu_s": figures.invocations as f64 / cpu_s, "peak_rss_bytes": peak_rss_bytes() }))
}
