//! Where time went: cold-start stages of a request, and causes of reserved GPU time.
//!
//! Both add up: stages to the mean TTFT, causes to the reserved time.

use super::super::metrics::cold_share;
use super::super::model::Report;
use super::super::summary;
use super::super::units;
use super::bars::{Bar, Bars, Part};
use super::markup::section as frame;
use super::{part_names, served_mean, words};

pub(super) fn stages(report: &Report) -> String {
    if report.policies.iter().all(|p| served_mean(p, |_| 0.0).is_none()) {
        return frame(
            "stages",
            "Cold-start stages",
            "No request completed, so there are no stages to show.",
            "",
        );
    }
    let names = part_names(report, |run| run.stages.iter().map(|stage| stage.stage.as_str()).collect());
    // Fills by how a stage feels: waiting grey, loads warm and patterned, useful work solid.
    const FILLS: [usize; 7] = [2, 5, 6, 3, 1, 4, 0];
    let chart = |cold: bool, legend: bool| {
        let bars = report.policies.iter().enumerate().map(|(policy, p)| {
            let value = |name: &&str| {
                served_mean(p, |run| {
                    let stage = run.stages.iter().find(|stage| stage.stage == *name);
                    stage.map_or(0.0, |stage| if cold { stage.cold_mean_s } else { stage.mean_s })
                })
            };
            let values: Vec<Option<f64>> = names.iter().map(value).collect();
            let total = match values.iter().copied().sum::<Option<f64>>() {
                Some(sum) if !names.is_empty() => units::duration(sum),
                _ => "none served".to_owned(),
            };
            Bar { policy, values: values.into_iter().map(|v| v.unwrap_or(0.0)).collect(), total }
        });
        let parts = names
            .iter()
            .enumerate()
            .map(|(i, name)| Part { fill: FILLS[i % FILLS.len()], label: words(name) });
        Bars {
            report,
            parts: parts.collect(),
            bars: bars.collect(),
            text: units::duration,
            shares: false,
            legend,
        }
        .render()
    };
    let mut body = format!(
        "<h3>All completed requests, seconds</h3><figure>{}</figure>\
         <h3>Only requests that met a cold start, seconds</h3><figure>{}</figure>",
        chart(false, true),
        chart(true, true)
    );
    body.push_str("<h3>Requests by the deepest stage they waited for</h3><figure>");
    body.push_str(&kinds(report));
    body.push_str("</figure>");
    let intro = "What the mean time to first token is made of: the stages of a bar add up to it.";
    frame("stages", "Cold-start stages", intro, &body)
}

/// Shares of requests that started warm, or waited for a kernel, an adapter, …
fn kinds(report: &Report) -> String {
    const FILLS: [usize; 6] = [7, 4, 1, 3, 6, 5];
    let names = part_names(report, |run| run.cold_by_kind.iter().map(|(name, _)| name.as_str()).collect());
    let bars = report.policies.iter().enumerate().map(|(policy, p)| {
        let requests = |name: &&str| {
            let of = |parts: &[(String, u64)]| parts.iter().find(|(n, _)| n == name).map_or(0, |(_, n)| *n);
            summary::mean_whole(p.runs.iter().map(|run| of(&run.cold_by_kind))) as f64
        };
        let cold = summary::interval(&p.runs.iter().filter_map(cold_share).collect::<Vec<_>>());
        let total = cold.map_or("–".to_owned(), |found| format!("{} cold", units::percent(found.mean)));
        Bar { policy, values: names.iter().map(requests).collect(), total }
    });
    Bars {
        report,
        parts: names
            .iter()
            .enumerate()
            .map(|(i, n)| Part { fill: FILLS[i % FILLS.len()], label: words(n) })
            .collect(),
        bars: bars.collect(),
        text: |v| format!("{} requests", units::sig(v)),
        shares: true,
        legend: true,
    }
    .render()
}

pub(super) fn gpu_time(report: &Report) -> String {
    let names = part_names(report, |run| run.gpu.causes.iter().map(|(name, _)| name.as_str()).collect());
    // Busy solid blue, loading orange, waste patterned, free memory palest.
    const FILLS: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];
    let most = report.policies.iter().flat_map(|p| &p.runs).map(|run| run.gpu.reserved_ns).max().unwrap_or(0);
    // Below six minutes hours have too many zeros to read.
    let hours = most >= 360_000_000_000;
    let (heading, unit_ns) = if hours { ("GPU-hours", 3.6e12) } else { ("GPU-seconds", 1e9) };
    let text: fn(f64) -> String =
        if hours { |v| format!("{} GPU-h", units::sig(v)) } else { |v| format!("{} GPU-s", units::sig(v)) };
    let chart = |shares: bool| {
        let bars = report.policies.iter().enumerate().map(|(policy, p)| {
            let value = |name: &&str| {
                let of =
                    |parts: &[(String, u64)]| parts.iter().find(|(n, _)| n == name).map_or(0, |(_, ns)| *ns);
                summary::mean_whole(p.runs.iter().map(|run| of(&run.gpu.causes))) as f64 / unit_ns
            };
            let reserved = summary::mean_whole(p.runs.iter().map(|run| run.gpu.reserved_ns)) as f64 / unit_ns;
            let total = text(reserved);
            Bar { policy, values: names.iter().map(value).collect(), total }
        });
        let parts = names
            .iter()
            .enumerate()
            .map(|(i, name)| Part { fill: FILLS[i % FILLS.len()], label: words(name) });
        Bars { report, parts: parts.collect(), bars: bars.collect(), text, shares, legend: true }.render()
    };
    let body = format!(
        "<h3>{heading}</h3><figure>{}</figure><h3>Share of reserved time</h3><figure>{}</figure>",
        chart(false),
        chart(true)
    );
    let intro = "Every reserved GPU-second has one cause, and the causes add up to what is reserved. Only “busy” does \
                 work that a user sees; the rest is the price of being ready.";
    frame("gpu", "GPU time by cause", intro, &body)
}
