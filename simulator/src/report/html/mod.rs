//! The report as one HTML page that needs nothing else: no network, no fonts, no script to be complete.
//!
//! Sections draw with `bars` and `svg`, which know no report section and are open to other pages. It leaves out
//! per-request rows: those are files of their own.

pub mod bars;
pub mod markup;
pub mod svg;
pub mod theme;

mod curves;
mod headline;
mod inputs;
mod latency;
mod memory;
mod money;
mod policies;
mod whereabouts;

use super::model::{PolicyReport, Report, RunReport};
use super::units;
use markup::esc;

/// The page, with reductions against the first policy.
pub fn render(report: &Report) -> String {
    render_against(report, None)
}

/// The page, with reductions against a named policy (the first when `None` or unknown).
pub fn render_against(report: &Report, baseline: Option<&str>) -> String {
    let base = report.policies.iter().position(|policy| Some(policy.name.as_str()) == baseline).unwrap_or(0);
    let mut sections = vec![("headline", "Headline", headline::section(report))];
    if !report.policies.is_empty() {
        sections.extend([
            ("policies", "Side by side", policies::section(report, base)),
            ("ttft", "Latency", curves::section(report)),
            ("stages", "Cold-start stages", whereabouts::stages(report)),
            ("slo", "Limits met", latency::attainment(report)),
            ("gpu", "GPU time", whereabouts::gpu_time(report)),
            ("memory", "Memory", memory::section(report)),
            ("cost", "Cost", money::tariffs(report)),
            ("tradeoff", "Cost against latency", latency::tradeoff(report)),
            ("functions", "Functions", money::functions(report)),
            ("seeds", "Seeds", policies::intervals(report)),
        ]);
    }
    sections.push(("inputs", "Inputs", inputs::section(report)));
    sections.push(("limits", "Limits of the model", inputs::limits(report)));
    let contents: Vec<(&str, &str)> = sections.iter().map(|(id, title, _)| (*id, *title)).collect();
    let body: String = sections.iter().map(|(_, _, html)| html.as_str()).collect();
    theme::page(&report.title, &header(report), &contents, &body)
}

fn header(report: &Report) -> String {
    let trace = &report.trace;
    format!(
        "<p class=\"about\">{} requests of {} functions over {}, from {}, replayed on {}. Written by {}.</p>",
        units::count(trace.records),
        units::count(trace.functions),
        units::duration(trace.span_s),
        esc(&trace.name),
        esc(&report.inputs.fleet),
        esc(&report.tool)
    )
}

/// The mean of a run's value over the seeds that completed a request; `None` when none did.
fn served_mean(policy: &PolicyReport, value: impl Fn(&RunReport) -> f64) -> Option<f64> {
    let served: Vec<f64> = policy.runs.iter().filter(|run| run.ttft_s.count > 0).map(value).collect();
    super::summary::interval(&served).map(|found| found.mean)
}

/// A name of the schema as a heading: `idle_base` becomes `idle base`.
fn words(name: &str) -> String {
    esc(&name.replace('_', " "))
}

/// The names of the first run that has any, and how each is found in the others: by name.
fn part_names<'a>(report: &'a Report, names: impl Fn(&'a RunReport) -> Vec<&'a str>) -> Vec<&'a str> {
    let mut runs = report.policies.iter().flat_map(|policy| &policy.runs);
    runs.find_map(|run| Some(names(run)).filter(|found| !found.is_empty())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
