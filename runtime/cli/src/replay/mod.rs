//! `coldframe replay`: a trace through policies on a simulated fleet; table, JSON, page, rows.
//!
//! `args` is what a user types, `resolve` turns it into runs, `execute` runs them on threads. Here they meet.

mod args;
mod execute;
pub mod outputs;
mod policy;
mod resolve;

pub use args::ReplayArgs;
pub use execute::{execute, peak_rss_bytes};
#[cfg(feature = "host")]
pub use resolve::trace_source;
pub use resolve::{Plan, command_line, resolve};

use crate::ui::{Ui, WholeFile};
use anyhow::Result;
use coldframe_simulator::report::model::{PolicyReport, Report, SCHEMA};
use coldframe_simulator::report::{check, html, json, table};
use std::io::{IsTerminal, Write};

/// Replays and reports.
pub fn run(args: ReplayArgs, ui: &Ui) -> Result<()> {
    #[cfg(feature = "host")]
    if args.live.url.is_some() {
        return crate::live::run(&args, ui);
    }
    let plan = resolve(&args)?;
    plan.warnings.iter().for_each(|w| ui.warn(w));
    // Opened first: a folder that can't be written to is told before the work, not after it.
    let out = args.out.as_deref().map(WholeFile::create).transpose()?;
    let html = args.html.as_deref().map(WholeFile::create).transpose()?;
    let report = replay(&plan, ui, args.jobs)?;
    let problems = check::check(&report);
    anyhow::ensure!(
        problems.is_empty(),
        "the report contradicts itself (a defect of this program): {}",
        problems.join("; ")
    );
    if let (Some(path), Some(mut file)) = (&args.out, out) {
        file.write_all(json::to_string(&report).as_bytes())?;
        file.finish()?;
        ui.say(&format!("report: {}", path.display()));
    }
    if let (Some(path), Some(mut file)) = (&args.html, html) {
        file.write_all(html::render_against(&report, args.baseline.as_deref()).as_bytes())?;
        file.finish()?;
        ui.say(&format!("page: {}", path.display()));
    }
    print(&report, args.baseline.clone(), ui)
}

/// The report on stdout: a table, or JSON.
pub fn print(report: &Report, baseline: Option<String>, ui: &Ui) -> Result<()> {
    let text = if ui.json {
        json::to_string(report)
    } else {
        table::render(
            report,
            &table::TableOptions { width: 120, baseline, colour: std::io::stdout().is_terminal() },
        )
    };
    crate::ui::print(&text)
}

/// Runs a plan and puts its report together.
pub fn replay(plan: &Plan, ui: &Ui, threads: usize) -> Result<Report> {
    let results = execute(plan, ui, threads)?;
    let mut warnings = plan.warnings.clone();
    let mut policies: Vec<PolicyReport> = Vec::new();
    for (config, chunk) in plan.policies.iter().zip(results.chunks(plan.seeds.len())) {
        let runs: Vec<_> = chunk.iter().map(|r| r.outcome.report.clone()).collect();
        let lost: u64 = runs.iter().map(|r| r.requests.refused + r.requests.timed_out).sum();
        let arrived: u64 = runs.iter().map(|r| r.requests.arrived).sum();
        if lost > 0 {
            warnings.push(format!(
                "{}: {lost} of {arrived} requests were refused or gave up waiting; latencies are over completed requests only",
                config.name
            ));
        }
        policies.push(PolicyReport {
            name: config.name.clone(),
            about: config.about.clone(),
            parameters: config.flat(),
            runs,
        });
    }
    // Every policy reads the same trace: what the first saw, seed by seed, is what there is to say.
    for warning in results[..plan.seeds.len()].iter().flat_map(|r| &r.warnings) {
        if !warnings.contains(warning) {
            ui.warn(warning);
            warnings.push(warning.clone());
        }
    }
    let first = &results[0].outcome;
    let mut trace = plan.trace.clone();
    trace.sha256 = plan.source.sha256()?;
    (trace.rows, trace.records, trace.refused) = (first.rows, first.records, first.refused);
    (trace.functions, trace.span_s) = (first.functions, first.span_ns as f64 / 1e9);
    (trace.prompt_tokens, trace.output_tokens) = (first.prompt_tokens, first.output_tokens);
    if first.refused > 0 {
        warnings.push(format!("{} rows of the trace were refused and skipped", first.refused));
    }
    Ok(Report {
        schema: SCHEMA.to_owned(),
        tool: format!("coldframe {}", env!("CARGO_PKG_VERSION")),
        title: format!("{} on {}", plan.trace.name, plan.inputs.fleet),
        trace,
        inputs: plan.inputs.clone(),
        policies,
        warnings,
        limits: resolve::limits(),
    })
}
