//! `coldframe fidelity`: the same trace, policy and fleet through a host and through the simulator, and what differs.
//!
//! The live side is a run made now (`--live`) or reports made before (`--live-report`), each with the host's decision log
//! where there is one. The comparison is the simulator's (`coldframe_simulator::fidelity`).

mod simulated;
pub mod table;

use crate::replay::{Plan, ReplayArgs, resolve};
use crate::ui::{Ui, WholeFile, print};
use anyhow::{Context, Result, ensure};
use clap::Args;
use coldframe_policy::log::Reader;
use coldframe_simulator::fidelity::compare::{Row, cold_count_error, rows};
use coldframe_simulator::fidelity::decisions::{Agreement, SameFate, agreement, same_fate};
use coldframe_simulator::fidelity::logged::{Logged, read};
use coldframe_simulator::fidelity::page::{Pair, dated, page};
use coldframe_simulator::report::json;
use coldframe_simulator::report::model::{Report, RunReport};
use coldframe_simulator::report::units;
use coldframe_simulator::start::Start;
use serde_json::{Map, Value, json};
use simulated::Simulated;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

/// Compare a host with the simulation of it: times, cold starts, bytes, money, and decisions one by one
#[derive(Args)]
#[command(after_help = "Examples:
  Measure the machine, serve on it, and compare:
    coldframe calibrate --backbone smollm2-135m-instruct --out here.toml
    coldframe fidelity --trace chat.csv --profile here.toml --policy coldframe --live http://127.0.0.1:8000 \\
        --host-log decisions.jsonl --html fidelity.html
  From three runs made before, each on a host started anew:
    coldframe fidelity --trace chat.csv --profile here.toml --policy coldframe \\
        --live-report 1.json --live-report 2.json --live-report 3.json --host-log 1.jsonl --host-log 2.jsonl --host-log 3.jsonl

Start the host anew for each run: the simulation starts cold. --requests and --timeline tell the (first) simulation;
a live run's requests are told by `coldframe replay --live`.")]
pub struct FidelityArgs {
    #[command(flatten)]
    replay: ReplayArgs,
    /// A report of `coldframe replay --live` made before, in place of a run made now; may be given several times
    #[arg(long, value_name = "FILE.json", conflicts_with = "live")]
    live_report: Vec<PathBuf>,
    /// The host's decision log of each live run, in the same order
    #[arg(long, value_name = "FILE.jsonl")]
    host_log: Vec<PathBuf>,
    /// The machine's profile about the time of each live run, in the same order, where there are several; --profile is for all
    #[arg(long, value_name = "FILE.toml", requires = "live_report")]
    run_profile: Vec<String>,
    /// Write the decision log of the (first) simulation here
    #[arg(long, value_name = "FILE.jsonl")]
    sim_log: Option<PathBuf>,
}

/// Compares and tells.
pub fn run(args: FidelityArgs, ui: &Ui) -> Result<()> {
    let replay = &args.replay;
    ensure!(replay.policy.len() == 1, "fidelity compares one policy: name the host's with --policy");
    let html = replay.html.as_deref().map(WholeFile::create).transpose()?;
    let out = replay.out.as_deref().map(WholeFile::create).transpose()?;
    let folder = tempfile::tempdir()?;
    let (live, replay) = &live(&args, folder.path(), ui)?;
    ensure!(
        args.host_log.is_empty() || args.host_log.len() == live.len(),
        "{} host logs for {} live runs: give one for each, in order",
        args.host_log.len(),
        live.len()
    );
    ensure!(
        args.run_profile.is_empty() || args.run_profile.len() == live.len(),
        "{} profiles of runs for {} live runs: give one for each, in order",
        args.run_profile.len(),
        live.len()
    );
    let replay = &ReplayArgs { seeds: 1, ..replay.clone() };
    let plan = resolve(replay)?;
    let simulated = simulate(&args, replay, live, ui)?;
    if let Some(path) = &args.sim_log {
        let mut file = WholeFile::create(path)?;
        file.write_all(simulated[0].log.as_bytes())?;
        file.finish()?;
    }
    let logs = logs(&args, &plan)?;
    let live: Vec<RunReport> =
        live.iter().enumerate().map(|(n, run)| merged(run.clone(), logs.get(n))).collect();
    // Both sides' logs are read by the same code: a simulation knows more of itself, of when a call left its sender too.
    let own_logs = own_logs(&simulated, &logs, &plan)?;
    let simulated: Vec<RunReport> =
        simulated.into_iter().enumerate().map(|(n, run)| merged(run.report, own_logs.get(n))).collect();
    let found = Found::new([&live, &simulated], &logs, &own_logs);
    if let (Some(path), Some(mut file)) = (&replay.html, html) {
        let title = format!("Fidelity: {} under {}", plan.trace.name, plan.policies[0].name);
        let about = format!("{}; {}", plan.inputs.fleet, plan.inputs.command);
        let pair = Pair {
            title: &title,
            about: &about,
            live: &live,
            simulated: &simulated,
            rows: &found.rows,
            agreement: found.agreement.as_ref(),
            same_fate: found.same_fate,
            same_fate_live: found.same_fate_live,
        };
        file.write_all(page(&pair).as_bytes())?;
        file.finish()?;
        ui.say(&format!("page: {}", path.display()));
    }
    let value = found.json(live.len());
    if let Some(mut file) = out {
        file.write_all(format!("{value:#}\n").as_bytes())?;
        file.finish()?;
    }
    if ui.json { print(&format!("{value}\n")) } else { print(&found.table(&value["summary"])) }
}

/// Live runs, from a host or from files, and the replay that simulates them: of what was sent, where it was sent now.
fn live(args: &FidelityArgs, folder: &Path, ui: &Ui) -> Result<(Vec<RunReport>, ReplayArgs)> {
    let mut replay = args.replay.clone();
    if replay.live.url.is_none() {
        ensure!(
            !args.live_report.is_empty(),
            "name a running host with --live, or reports of it with --live-report"
        );
        let reports =
            args.live_report.iter().map(|path| json::read(path)).collect::<Result<Vec<Report>, _>>()?;
        let runs = reports.into_iter().flat_map(|report| report.policies).flat_map(|policy| policy.runs);
        return Ok((runs.collect(), replay));
    }
    ensure!(replay.seeds == 1, "a run now is one seed: the host has to be started anew for the next");
    let sent = replay.live.sent.get_or_insert_with(|| folder.join("sent.csv")).clone();
    // The rows of requests that are asked for are the simulation's.
    let outcome = crate::live::replay(&ReplayArgs { requests: None, timeline: None, ..replay.clone() }, ui)?;
    outcome.report.warnings.iter().for_each(|warning| ui.warn(warning));
    // Mapped, cut and stretched already.
    (replay.trace, replay.format) = (sent.display().to_string(), None);
    (replay.adapters, replay.repeat, replay.sort) = (None, 1, false);
    Ok((outcome.report.policies.into_iter().flat_map(|policy| policy.runs).collect(), replay))
}

/// The host's logs as runs.
fn logs(args: &FidelityArgs, plan: &Plan) -> Result<Vec<Logged>> {
    let one = |path: &PathBuf| logged(open(path)?, plan).with_context(|| format!("{}", path.display()));
    args.host_log.iter().map(one).collect()
}

/// The simulations' own logs as runs, where there are hosts' to compare them with.
fn own_logs(simulated: &[Simulated], logs: &[Logged], plan: &Plan) -> Result<Vec<Logged>> {
    let one = |run: &Simulated| logged(Reader::new(run.log.as_bytes())?, plan);
    simulated.iter().take(logs.len()).map(one).collect()
}

/// A log as a run of the plan's first policy.
fn logged<R: BufRead>(log: Reader<R>, plan: &Plan) -> Result<Logged> {
    let mut setup = plan.base.clone();
    setup.policy = plan.policies[0].clone();
    Ok(read(log, &setup, &plan.tariffs)?)
}

/// The simulations: one for each live run, its calls sent as late as that run's sender sent them. With the host's log it starts
/// as that host did, with its functions, their sizes and what it had measured of its machine, by which it decides.
fn simulate(args: &FidelityArgs, replay: &ReplayArgs, live: &[RunReport], ui: &Ui) -> Result<Vec<Simulated>> {
    let one = |(n, run): (usize, &RunReport)| {
        let mut replay = replay.clone();
        if let Some(profile) = args.run_profile.get(n) {
            replay.profile = Some(profile.clone());
        }
        let mut plan = resolve(&replay)?;
        // Files beside the report are the first one's.
        if n > 0 {
            (plan.requests, plan.timeline) = (None, None);
        }
        plan.base.sent_late_us.clone_from(&run.sent_late_us);
        plan.base.start = args.host_log.get(n).map(|path| start(path)).transpose()?;
        simulated::run(&plan, ui)
    };
    live.iter().enumerate().map(one).collect()
}

/// A host's state before its first request.
fn start(path: &Path) -> Result<Start> {
    Start::read(open(path)?).with_context(|| format!("{}", path.display()))
}

/// A decision log.
pub fn open(path: &Path) -> Result<Reader<BufReader<File>>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Reader::new(BufReader::new(file)).with_context(|| format!("{}", path.display()))
}

/// What clients saw of latency, what the log tells of the rest.
fn merged(client: RunReport, log: Option<&Logged>) -> RunReport {
    let Some(log) = log.map(|log| &log.report) else { return client };
    RunReport {
        cold_by_kind: log.cold_by_kind.clone(),
        gpu: log.gpu.clone(),
        memory: log.memory.clone(),
        adapters: log.adapters.clone(),
        links: log.links.clone(),
        bills: log.bills.clone(),
        ..client
    }
}

/// Everything compared.
struct Found {
    rows: Vec<Row>,
    /// Of the pair of runs whose fates agree least.
    agreement: Option<Agreement>,
    /// Each live run's fates beside its simulation's.
    same_fate: Option<SameFate>,
    /// Fates of each two live runs.
    same_fate_live: Option<SameFate>,
    cold_count_error: Option<f64>,
    replayed: Vec<(u64, Option<String>)>,
    with_logs: bool,
}

impl Found {
    /// Of live and simulated runs, the hosts' logs and the simulations'.
    fn new([live, simulated]: [&[RunReport]; 2], logs: &[Logged], own_logs: &[Logged]) -> Self {
        let pair = |(log, own): (&Logged, &Logged)| {
            agreement(&log.decisions, &own.decisions, [&log.fates, &own.fates])
        };
        let agreements: Vec<Agreement> = logs.iter().zip(own_logs).map(pair).collect();
        let same: Vec<f64> = agreements.iter().map(|found| found.by_request).collect();
        let replayed =
            logs.iter().map(|log| (log.equal, log.parted.as_ref().map(|p| format!("{p:?}")))).collect();
        let with_logs = !logs.is_empty();
        let pairs = logs.iter().enumerate().flat_map(|(n, a)| logs[n + 1..].iter().map(move |b| (a, b)));
        let among_live: Vec<f64> = pairs.map(|(a, b)| same_fate(&a.fates, &b.fates)).collect();
        let all = rows(live, simulated).into_iter();
        // Without the host's log a client knows nothing of the devices, and of cold starts only what the host tells.
        let known = |row: &Row| with_logs || !device_row(&row.key);
        Self {
            rows: all.filter(known).collect(),
            agreement: agreements.into_iter().min_by(|a, b| a.by_request.total_cmp(&b.by_request)),
            same_fate: SameFate::of(&same),
            same_fate_live: SameFate::of(&among_live),
            cold_count_error: cold_count_error(live, simulated),
            replayed,
            with_logs,
        }
    }

    /// The promised numbers; what was not measured is left out.
    fn summary(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut put = |key: &str, value: Option<f64>| {
            if let Some(value) = value.filter(|value| value.is_finite()) {
                all.insert(key.to_owned(), json!(value));
            }
        };
        let error =
            |key: &str| self.rows.iter().find(|row| row.key == key).and_then(Row::error).map(f64::abs);
        put("decisions_equal", self.same_fate.map(|same| same.mean));
        put("decisions_equal_least", self.same_fate.map(|same| same.least));
        put("decisions_equal_live", self.same_fate_live.map(|same| same.mean));
        put("decisions_equal_live_least", self.same_fate_live.map(|same| same.least));
        put("decisions_in_order", self.agreement.as_ref().and_then(|found| found.in_order));
        for (name, key) in [
            ("ttft_mean_err", "ttft_mean"),
            ("ttft_p50_err", "ttft_p50"),
            ("ttft_p95_err", "ttft_p95"),
            ("tpot_err", "tpot_mean"),
        ] {
            put(name, error(key));
        }
        put("cold_count_err", self.cold_count_error);
        let money = self.rows.iter().find(|row| row.key.starts_with("money_"));
        put("money_err", money.filter(|_| self.with_logs).and_then(Row::error).map(f64::abs));
        all
    }

    fn json(&self, runs: usize) -> Value {
        let row = |row: &Row| {
            json!({
                "key": row.key, "live": row.live, "noise": row.noise(), "simulated": row.simulated, "error": row.error(),
            })
        };
        let parted = self.agreement.as_ref().and_then(|found| found.parted.as_ref()).map(|parted| {
            json!({
                "decision": parted.place + 1,
                "live": dated(parted.live.as_ref()),
                "simulated": dated(parted.simulated.as_ref()),
            })
        });
        let replay = |(equal, parted): &(u64, Option<String>)| json!({ "equal": equal, "parted": parted });
        json!({
            "live_runs": runs,
            "rows": self.rows.iter().map(row).collect::<Vec<_>>(),
            "first_difference": parted,
            "host_log_decided_again": self.replayed.iter().map(replay).collect::<Vec<_>>(),
            "summary": self.summary(),
        })
    }

    fn table(&self, summary: &Value) -> String {
        let mut out =
            format!("{:46} {:>12} {:>8} {:>12} {:>10}\n", "", "live", "noise", "simulated", "error");
        for row in &self.rows {
            let heading = match row.unit.heading() {
                "" => row.what.clone(),
                unit => format!("{}, {unit}", row.what),
            };
            let error = row.error().map_or("–".to_owned(), units::change);
            let (live, simulated) = (row.unit.format(row.live), row.unit.format(row.simulated));
            out += &format!(
                "{heading:46} {live:>12} {:>8} {simulated:>12} {error:>10}\n",
                units::percent(row.noise())
            );
        }
        for (n, (equal, parted)) in self.replayed.iter().enumerate() {
            let parted = parted.as_ref().map_or("all equal".to_owned(), |p| format!("then: {p}"));
            out +=
                &format!("host log {}: {equal} decisions made again from the same events, {parted}\n", n + 1);
        }
        if let Some(found) = &self.agreement {
            let in_order = found.in_order.map_or("too different to tell".to_owned(), units::percent);
            for (whose, same) in
                [("live and simulated", self.same_fate), ("live runs among themselves", self.same_fate_live)]
            {
                let Some(same) = same else { continue };
                let (mean, least) = (units::percent(same.mean), units::percent(same.least));
                out += &format!("{whose}: same fate of {mean} of requests, {least} where they agree least\n");
            }
            out += &format!("decisions of those that agree least: {in_order} common in order\n");
            if let Some(parted) = &found.parted {
                out += &format!(
                    "they part at decision {}: live {}; simulated {}\n",
                    parted.place + 1,
                    dated(parted.live.as_ref()),
                    dated(parted.simulated.as_ref())
                );
            }
        }
        out + &format!("{summary}\n")
    }
}

/// Rows that only the host's log can fill.
fn device_row(key: &str) -> bool {
    ["adapter_", "gb_", "held_", "reserved", "money_"].iter().any(|start| key.starts_with(start))
}
