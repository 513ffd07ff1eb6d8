//! `coldframe replay --live URL`: the trace's requests sent to a running host, measured by the simulator's definitions.
//!
//! Open loop: every request goes out when the trace says, however far behind the host is, and its times count from then.
//! `plan` makes the requests, `prompt` their tokens, `client` and `sse` speak HTTP, `send` measures one, `drive` keeps the
//! schedule. What the numbers mean is the simulator's business (`coldframe_simulator::observed`).

mod args;
pub mod client;
mod drive;
pub mod plan;
mod prompt;
pub mod send;
mod sse;
mod tell;
mod timing;

#[cfg(test)]
mod tests;

pub use args::LiveArgs;

use crate::replay::{ReplayArgs, trace_source};
use crate::ui::{Interrupted, Ui, WholeFile};
use anyhow::{Context, Result, ensure};
use client::Client;
use coldframe_simulator::measure::collect::Limits;
use coldframe_simulator::observed::{Client as Seen, Ledger, Markers, report};
use coldframe_simulator::report::model::{Inputs, PolicyReport, Report, SCHEMA, TraceSection};
use drive::Driven;
use plan::Plan;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What a live replay leaves.
pub struct Outcome {
    /// The report, of the same schema as a simulated run's.
    pub report: Report,
    /// What became of every request.
    pub ledger: Ledger,
}

/// Replays and writes what was asked for.
pub fn run(args: &ReplayArgs, ui: &Ui) -> Result<()> {
    let out = args.out.as_deref().map(WholeFile::create).transpose()?;
    let html = args.html.as_deref().map(WholeFile::create).transpose()?;
    let outcome = replay(args, ui)?;
    tell::write(&outcome.report, args, out, html, ui)?;
    crate::replay::print(&outcome.report, None, ui)?;
    ui.say(&outcome.ledger.text());
    let asked = args.live.expect.is_some();
    ensure!(!asked || outcome.ledger.sound(), "not every request has one answer of its own function");
    Ok(())
}

/// Sends every seed's requests, one run after the other.
pub fn replay(args: &ReplayArgs, ui: &Ui) -> Result<Outcome> {
    let live = &args.live;
    let url = live.url.as_deref().context("--live names the host, e.g. http://127.0.0.1:8000")?;
    ensure!(live.time_scale.is_finite() && live.time_scale > 0.0, "--time-scale must be above zero");
    ensure!(args.seeds >= 1 && args.seeds <= 1000, "--seeds must be from 1 to 1000");
    let markers = live.expect.as_deref().map(read_markers).transpose()?.unwrap_or_default();
    let (source, mut section) = trace_source(args)?;
    let client = Arc::new(Client::new(url, live.api_key.clone())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let models = runtime.block_on(plan::models(&client))?;
    let pool = runtime.block_on(prompt::pool(live, &client, &models))?;
    let (mut runs, mut ledger, mut warnings) = (Vec::new(), Ledger::default(), Vec::new());
    for seed in args.seed..args.seed + args.seeds {
        let plan = Plan::make(args, source.open(seed)?.as_mut(), &models, seed)?;
        ui.say(&format!("seed {seed}: {}", plan.about()));
        if let Some(path) = &live.sent {
            ensure!(args.seeds == 1, "--sent is for one seed");
            let (records, catalog) = plan.sent();
            crate::records::write(path, &records, &catalog, format!("sent to {url}, seed {seed}"))?;
        }
        let driven = runtime.block_on(drive::drive(client.clone(), &plan, &pool, live, ui))?;
        ui.check()?;
        let driven = driven.ok_or(Interrupted)?;
        tell::rows(args, &plan, &driven, seed)?;
        judge(&plan, &driven, &markers, live, &mut ledger);
        warnings.extend(tell::warnings(&plan, &driven));
        let observed: Vec<_> = driven.iter().map(|d| d.observed.clone()).collect();
        let limits = Limits { ttft_ns: (args.slo_ttft * 1e9) as u64, tpot_ns: (args.slo_tpot * 1e9) as u64 };
        let seen = Seen { limits, functions: &plan.functions, seed, from_ns: plan.warmup_ns };
        runs.push(report(&seen, &observed));
        describe(&mut section, &plan);
    }
    section.sha256 = source.sha256()?;
    if !ledger.sound() {
        warnings
            .push(format!("not every request was answered once and by its own function: {}", ledger.text()));
    }
    Ok(Outcome { report: whole(args, url, section, runs, warnings), ledger })
}

fn read_markers(path: &std::path::Path) -> Result<Markers> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    Markers::parse(&text).with_context(|| format!("{}", path.display()))
}

/// Adds a run's answers to the ledger.
fn judge(plan: &Plan, driven: &[Driven], markers: &Markers, live: &LiveArgs, ledger: &mut Ledger) {
    use coldframe_simulator::observed::End;
    for one in driven {
        let planned = &plan.requests[one.observed.id as usize];
        ledger.sent += 1;
        match &one.observed.end {
            End::Completed => ledger.answered += 1,
            End::Refused => ledger.refused += 1,
            End::TimedOut | End::Failed(_) => ledger.lost += 1,
        }
        ledger.duplicated += u64::from(one.extra_ends > 0);
        if one.observed.end == End::Completed {
            if live.expect.is_some() {
                ledger.judged(markers.judge(&planned.model, &one.text));
            }
            let exact = live.ask.is_some() || one.observed.output_tokens == planned.output;
            ledger.off_length += u64::from(!exact);
        }
    }
}

fn describe(section: &mut TraceSection, plan: &Plan) {
    section.records = plan.requests.len() as u64;
    section.rows = section.rows.max(plan.rows);
    section.functions = plan.functions.len() as u64;
    section.span_s = plan.requests.last().map_or(0.0, |r| r.due_ns as f64 / 1e9);
    section.prompt_tokens = plan.requests.iter().map(|r| u64::from(r.prompt)).sum();
    section.output_tokens = plan.requests.iter().map(|r| u64::from(r.output)).sum();
    for note in plan.notes.iter().filter(|note| !section.mapping.contains(note)).collect::<Vec<_>>() {
        section.mapping.push(note.clone());
    }
}

fn whole(
    args: &ReplayArgs,
    url: &str,
    trace: TraceSection,
    runs: Vec<coldframe_simulator::report::model::RunReport>,
    warnings: Vec<String>,
) -> Report {
    Report {
        schema: SCHEMA.to_owned(),
        tool: format!("coldframe {}", env!("CARGO_PKG_VERSION")),
        title: format!("{} on the host at {url}", trace.name),
        trace,
        inputs: Inputs {
            fleet: format!("the host at {url}"),
            gpus: 1,
            profiles: Vec::new(),
            slo_ttft_s: args.slo_ttft,
            slo_tpot_s: args.slo_tpot,
            primary_tariff: String::new(),
            command: crate::replay::command_line(),
        },
        policies: vec![PolicyReport {
            name: args.live.label.clone(),
            about: "A running host, seen by its clients.".to_owned(),
            parameters: BTreeMap::from([("live".to_owned(), url.to_owned())]),
            runs,
        }],
        warnings,
        limits: limits_of_a_client(),
    }
}

fn limits_of_a_client() -> Vec<String> {
    [
        "Times are a client's, from the moment the trace says a request is due; connection and scheduling of the client are in them.",
        "Stages before the first token are those that the host tells in Server-Timing; the rest of the wait is queue.",
        "Device time, memory, links and money are not seen by a client and are empty here.",
    ]
    .map(str::to_owned)
    .into()
}

/// How long one request may take.
fn patience(live: &LiveArgs) -> Duration {
    Duration::from_secs_f64(live.timeout_s.clamp(0.001, 1e6))
}
