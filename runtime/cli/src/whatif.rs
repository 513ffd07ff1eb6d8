//! `coldframe whatif`: a host's decision log, and what other policies would have made of the same calls.
//!
//! The log becomes a trace (who, when, how many tokens), the hardware comes from a profile, the fleet from the log; then
//! it is a replay like any other.

use crate::replay::{ReplayArgs, print, replay, resolve};
use crate::ui::{Ui, WholeFile};
use anyhow::{Context, Result, ensure};
use clap::{Args, Parser};
use coldframe_policy::log::Reader;
use coldframe_simulator::fidelity::trace::{Demand, demand};
use coldframe_simulator::profile::Profiles;
use coldframe_simulator::report::model::Report;
use coldframe_simulator::report::{check, html, json};
use coldframe_simulator::start::Start;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

/// Ask what other policies would have cost for the calls that a host really had
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe whatif decisions.jsonl --profile here.toml --policy coldframe,serverlesslora,vllm
  Another keep-alive, and twice the memory:
    coldframe whatif decisions.jsonl --profile here.toml --policy coldframe \\
        -- --set keep_alive.adapter_s=60 --gpu-memory-gb 2

The log has no prompts and no answers: names, times and numbers of tokens are enough. Workers and their memory are those \
of the log; options of `coldframe replay` after -- change them.")]
pub struct WhatifArgs {
    /// The host's decision log
    #[arg(value_name = "LOG.jsonl")]
    log: PathBuf,
    /// Profile of the machine, as `coldframe calibrate` writes it
    #[arg(long, value_name = "FILE.toml")]
    profile: String,
    /// Policies: presets or TOML files, separated by commas
    #[arg(
        long,
        short,
        value_delimiter = ',',
        default_value = "vllm,serverlessllm,instainfer,serverlesslora,coldframe"
    )]
    policy: Vec<String>,
    /// Policy the others are measured against
    #[arg(long)]
    baseline: Option<String>,
    /// Keep the log's calls as a trace here (.csv, .jsonl, each also .gz or .zst, .parquet)
    #[arg(long, value_name = "FILE")]
    trace_out: Option<PathBuf>,
    /// Write the report here (JSON)
    #[arg(long, short)]
    out: Option<PathBuf>,
    /// Write the page here (HTML, one file)
    #[arg(long)]
    html: Option<PathBuf>,
    /// Further `replay` options, after `--`
    #[arg(last = true)]
    more: Vec<String>,
}

/// `replay`'s options as its own command line reads them.
#[derive(Parser)]
#[command(name = "coldframe whatif … --")]
struct Wrapped {
    #[command(flatten)]
    replay: ReplayArgs,
}

/// Asks and tells.
pub fn run(args: WhatifArgs, ui: &Ui) -> Result<()> {
    let out = args.out.as_deref().map(WholeFile::create).transpose()?;
    let page = args.html.as_deref().map(WholeFile::create).transpose()?;
    let file = File::open(&args.log).with_context(|| format!("cannot open {}", args.log.display()))?;
    let log = Reader::new(BufReader::new(file)).and_then(demand);
    let demand = log.with_context(|| format!("{}", args.log.display()))?;
    ensure!(!demand.records.is_empty(), "{} holds no call: nothing to ask about", args.log.display());
    let folder = tempfile::tempdir()?;
    let trace = args.trace_out.clone().unwrap_or_else(|| folder.path().join("log.csv"));
    let note = format!("calls of the decision log {}", args.log.display());
    crate::records::write(&trace, &demand.records, &demand.catalog, note)?;
    let mut plan = resolve(&Wrapped::try_parse_from(line(&args, &demand, &trace)?)?.replay)?;
    plan.inputs.command = crate::replay::command_line();
    plan.base.start = start(&args)?;
    if demand.open > 0 {
        let text =
            "calls had not ended when the log did: their answers count with the most they might have had";
        plan.warnings.push(format!("{} {text}", demand.open));
    }
    plan.warnings.iter().for_each(|warning| ui.warn(warning));
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let report = replay(&plan, ui, jobs)?;
    let problems = check::check(&report);
    ensure!(
        problems.is_empty(),
        "the report contradicts itself (a defect of this program): {}",
        problems.join("; ")
    );
    if let Some(mut file) = out {
        file.write_all(json::to_string(&report).as_bytes())?;
        file.finish()?;
    }
    if let Some(mut file) = page {
        file.write_all(html::render_against(&report, args.baseline.as_deref()).as_bytes())?;
        file.finish()?;
    }
    print(&report, args.baseline, ui)?;
    if ui.json { Ok(()) } else { crate::ui::print(&tenants(&report)) }
}

/// What each tenant's functions would have cost and how many of their calls would have been cold, by policy.
fn tenants(report: &Report) -> String {
    let runs =
        || report.policies.iter().filter_map(|policy| Some((policy.name.as_str(), policy.runs.first()?)));
    let mut all: BTreeMap<&str, Vec<(u64, u64, u64)>> = BTreeMap::new();
    let count = runs().count();
    for (n, (_, run)) in runs().enumerate() {
        for row in &run.functions {
            let sums = &mut all.entry(&row.tenant).or_insert_with(|| vec![(0, 0, 0); count])[n];
            *sums = (sums.0 + row.requests, sums.1 + row.cold, sums.2 + row.money_nano_usd);
        }
    }
    let mut out = format!("\n{:20} {:>9}", "tenant", "calls");
    runs().for_each(|(name, _)| out += &format!(" {name:>24}"));
    out.push('\n');
    for (tenant, sums) in all {
        let calls = sums.iter().map(|sum| sum.0).max().unwrap_or(0);
        out += &format!("{:20} {calls:>9}", if tenant.is_empty() { "(none)" } else { tenant });
        for (_, cold, money) in sums {
            out += &format!(" {:>24}", format!("${:.6}, {cold} cold", money as f64 / 1e9));
        }
        out.push('\n');
    }
    let left_out = runs().map(|(_, run)| run.functions_left_out).max().unwrap_or(0);
    if left_out > 0 {
        out += &format!("{left_out} functions with the fewest calls are not in these sums\n");
    }
    out
}

/// The host as it was before its first call, unless the question is about another fleet or other adapters.
fn start(args: &WhatifArgs) -> Result<Option<Start>> {
    const OTHER: [&str; 8] = [
        "--workers",
        "--gpus-per-worker",
        "--fleet",
        "--gpu",
        "--rank",
        "--gpu-memory-gb",
        // Rows and spans go by the trace's own numbers of functions.
        "--requests",
        "--timeline",
    ];
    let other = |word: &String| OTHER.iter().any(|name| word.split('=').next() == Some(name));
    if args.more.iter().any(other) {
        return Ok(None);
    }
    let read = || -> Result<Start> { Ok(Start::read(Reader::new(BufReader::new(File::open(&args.log)?))?)?) };
    Ok(Some(read().with_context(|| format!("{}", args.log.display()))?))
}

/// The command line of the replay: hardware from the profile, memory and adapters from the log, the user's own last.
fn line(args: &WhatifArgs, demand: &Demand, trace: &Path) -> Result<Vec<String>> {
    let mut line: Vec<String> = vec!["coldframe whatif … --".into()];
    let mut option = |name: &str, value: String| line.extend([format!("--{name}"), value]);
    option("trace", trace.display().to_string());
    option("profile", args.profile.clone());
    option("policy", args.policy.join(","));
    if let Some(baseline) = &args.baseline {
        option("baseline", baseline.clone());
    }
    let given =
        |name: &str| args.more.iter().any(|word| word == name || word.starts_with(&format!("{name}=")));
    let device = demand.workers.first().and_then(|worker| worker.devices.first());
    if let Some(bytes) = device.filter(|_| !given("--gpu-memory-gb")) {
        option("gpu-memory-gb", (bytes.0 as f64 / 1e9).to_string());
    }
    let per_rank = Profiles::model(&args.profile)?.adapter_bytes_per_rank;
    let rank = demand.adapter.0.div_ceil(per_rank.max(1));
    if rank > 0 && !given("--rank") {
        option("rank", rank.to_string());
    }
    line.extend(args.more.iter().cloned());
    Ok(line)
}
