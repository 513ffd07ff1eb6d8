//! Latency in full: the curves of time to first token and end-to-end time, and tables of quantiles.
//!
//! A curve is the mean over seeds at each time. It leaves out the limits' attainment: that is in `latency`.

use super::super::model::{PolicyReport, Quantiles, Report, RunReport};
use super::super::summary;
use super::super::units::Unit;
use super::markup::{Cell, Table, esc, letter, policy, section as frame};
use super::served_mean;
use super::svg::{self, Plot, Scale, Tick, percent, tick_text};
use super::theme::dash;
use std::fmt::Write;

/// Points of a drawn curve; arbitrary, finer than a pixel on a phone.
const CURVE_POINTS: usize = 240;

/// Buttons that name the policies and, with the script, hide them.
pub(super) fn legend(report: &Report) -> String {
    let items: String = (0..report.policies.len())
        .map(|i| {
            format!(
                "<li><button type=\"button\" data-toggle=\"{i}\" aria-pressed=\"true\">{}</button></li>",
                policy(report, i)
            )
        })
        .collect();
    format!("<ul class=\"legend lines\">{items}</ul>")
}

/// A time on an axis, e.g. `500 ms`.
pub(super) fn seconds_tick(value: f64) -> String {
    match value {
        v if v < 0.9995e-3 => format!("{} µs", tick_text(v * 1e6)),
        v if v < 0.9995 => format!("{} ms", tick_text(v * 1e3)),
        v => format!("{} s", tick_text(v)),
    }
}

fn share_ticks() -> Vec<Tick> {
    Scale::Linear(1.0).ticks(|v| format!("{:.0} %", v * 100.0))
}

/// A curve of a run: times in seconds and shares.
type Curve = fn(&RunReport) -> &Vec<(f64, f64)>;

/// The share at or below `x`, mean over the seeds that completed requests.
fn share_at(policy: &PolicyReport, curve: Curve, x: f64) -> f64 {
    let curves = policy.runs.iter().map(curve).filter(|curve| !curve.is_empty());
    let (mut sum, mut n) = (0.0, 0);
    for curve in curves {
        let above = curve.partition_point(|(seconds, _)| *seconds <= x);
        sum += match (above.checked_sub(1).map(|i| curve[i]), curve.get(above)) {
            (None, _) => 0.0,
            (Some((_, share)), None) => share,
            (Some((x0, y0)), Some(&(x1, y1))) => y0 + (y1 - y0) * (x - x0) / (x1 - x0).max(1e-12),
        };
        n += 1;
    }
    if n == 0 { 0.0 } else { sum / f64::from(n) }
}

pub(super) fn section(report: &Report) -> String {
    let Some(ttft) = figure(report, |run| &run.ttft_cdf, report.inputs.slo_ttft_s, "time to first token")
    else {
        return frame("ttft", "Latency", "No request completed, so there is no curve.", "");
    };
    let mut body = legend(report) + "<h3>Time to first token</h3>" + &ttft;
    if let Some(e2e) = figure(report, |run| &run.e2e_cdf, 0.0, "arrival to last token") {
        body.push_str("<h3>Arrival to last token</h3>");
        body.push_str(&e2e);
    }
    body.push_str("<details><summary>Quantiles</summary>");
    body.push_str(&quantiles(report, "Time to first token, seconds", Unit::Seconds, |run| &run.ttft_s));
    body.push_str(&quantiles(report, "Time per output token, milliseconds", Unit::Millis, |run| &run.tpot_s));
    body.push_str(&quantiles(report, "Arrival to last token, seconds", Unit::Seconds, |run| &run.e2e_s));
    body.push_str("</details>");
    frame("ttft", "Latency", "", &body)
}

/// The curves of all policies; `None` when no request completed. A limit of 0 is not drawn.
fn figure(report: &Report, curve: Curve, limit: f64, what: &str) -> Option<String> {
    let times =
        report.policies.iter().flat_map(|p| &p.runs).flat_map(|run| curve(run).iter().map(|(x, _)| *x));
    let scale = Scale::log(times.chain((limit > 0.0).then_some(limit)));
    let Scale::Log(low, high) = scale else { return None };
    let (mut drawn, mut marks, mut empty) = (String::new(), String::new(), Vec::new());
    if limit > 0.0 {
        let x = percent(scale.place(limit));
        let (dx, anchor) = if scale.place(limit) > 0.75 { (-6, "end") } else { (6, "start") };
        let _ = write!(
            marks,
            "<line class=\"limit\" x1=\"{x}\" x2=\"{x}\" y1=\"-4\" y2=\"100%\"/>\
             <text x=\"{x}\" y=\"100%\" dx=\"{dx}\" dy=\"-8\" text-anchor=\"{anchor}\">limit {}</text>",
            seconds_tick(limit)
        );
    }
    let with_curve: Vec<usize> = (0..report.policies.len())
        .filter(|&i| {
            let has = report.policies[i].runs.iter().any(|run| !curve(run).is_empty());
            if !has {
                empty.push(report.policies[i].name.clone());
            }
            has
        })
        .collect();
    if with_curve.is_empty() {
        return None;
    }
    for (place, &i) in with_curve.iter().enumerate() {
        let policy = &report.policies[i];
        let at = |k: usize| low * (high / low).powf(k as f64 / CURVE_POINTS as f64);
        let points: Vec<(f64, f64)> = (0..=CURVE_POINTS)
            .map(|k| (k as f64 / CURVE_POINTS as f64, share_at(policy, curve, at(k))))
            .collect();
        let name = esc(&policy.name);
        let _ = write!(
            drawn,
            "<path class=\"curve s{}\" stroke-dasharray=\"{}\" data-policy=\"{i}\" d=\"{}\"><title>{name}</title></path>",
            i % 7,
            dash(i),
            svg::path(points.iter().copied())
        );
        // Letters sit at staggered heights, so that curves close together keep theirs apart.
        let wanted = 0.3 + 0.62 * (place as f64 + 0.5) / with_curve.len() as f64;
        if let Some(point) = points.iter().find(|(_, share)| *share >= wanted) {
            marks.push_str(&svg::letter_mark(i, &letter(i), *point, 0.0, &name));
        }
    }
    let plot = Plot {
        about: format!(
            "Share of completed requests by {what}, one curve for each of {} policies",
            with_curve.len()
        ),
        x: (scale.ticks(seconds_tick), format!("{what}, logarithmic")),
        y: (share_ticks(), "share of completed requests at or below".to_owned()),
        height_px: 340,
        curves: drawn,
        marks,
    };
    let mut caption = "Further left is faster; a flat step before the end is requests that waited much longer, as for a cold start.".to_owned();
    if summary::seeds(report) > 1 {
        caption.push_str(" Each curve is the mean of its seeds.");
    }
    if !empty.is_empty() {
        let _ = write!(caption, " No request completed under: {}.", esc(&empty.join(", ")));
    }
    Some(format!("<figure>{}<figcaption>{caption}</figcaption></figure>", plot.render()))
}

fn quantiles(report: &Report, caption: &str, unit: Unit, of: fn(&RunReport) -> &Quantiles) -> String {
    type Reader = fn(&Quantiles) -> f64;
    const SHOWN: [(&str, Reader); 7] = [
        ("mean", |q| q.mean),
        ("p50", |q| q.p50),
        ("p90", |q| q.p90),
        ("p95", |q| q.p95),
        ("p99", |q| q.p99),
        ("max", |q| q.max),
        ("observations", |q| q.count as f64),
    ];
    let row = |i: usize| {
        let cells = SHOWN.iter().map(|(name, value)| {
            let unit = if *name == "observations" { Unit::Count } else { unit };
            let mean = served_mean(&report.policies[i], |run| value(of(run)));
            Cell::new(mean.map_or("–".to_owned(), |mean| unit.format(mean)))
        });
        std::iter::once(Cell::new(policy(report, i))).chain(cells).collect()
    };
    let seeds = if summary::seeds(report) > 1 { ", mean over seeds" } else { "" };
    Table {
        caption: format!("{caption}{seeds}"),
        head: std::iter::once("policy")
            .chain(SHOWN.iter().map(|(name, _)| *name))
            .map(str::to_owned)
            .collect(),
        rows: (0..report.policies.len()).map(row).collect(),
        class: "numbers",
    }
    .render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_read_well() {
        for (value, text) in [(0.0005, "500 µs"), (0.02, "20 ms"), (1.0, "1 s"), (200.0, "200 s")] {
            assert_eq!(seconds_tick(value), text);
        }
    }

    #[test]
    fn curves_interpolate_and_average() {
        let mut report = super::super::super::sample::report(1, 2);
        let policy = &mut report.policies[0];
        policy.runs[0].ttft_cdf = vec![(1.0, 0.5), (3.0, 1.0)];
        policy.runs[1].ttft_cdf = vec![(10.0, 1.0)];
        assert_eq!(share_at(policy, |run| &run.ttft_cdf, 0.5), 0.0);
        assert_eq!(share_at(policy, |run| &run.ttft_cdf, 2.0), 0.375);
        assert_eq!(share_at(policy, |run| &run.ttft_cdf, 20.0), 1.0);
    }
}
