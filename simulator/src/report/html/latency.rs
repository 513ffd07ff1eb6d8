//! Latency: the TTFT curve, attainment of the limits, and cost against latency.
//!
//! Curves are means over seeds at each time; the seeds themselves show as points in the last chart.

use super::super::metrics;
use super::super::model::{PolicyReport, Report};
use super::super::summary;
use super::super::units::{self, Unit};
use super::markup::{letter, policy, section as frame};
use super::svg::{self, Plot, Scale, Tick, percent, tick_text};
use super::theme::dash;
use std::fmt::Write;

/// Points of a drawn curve; arbitrary, finer than a pixel on a phone.
const CURVE_POINTS: usize = 240;

/// Buttons that name the policies and, with the script, hide them.
fn legend(report: &Report) -> String {
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

fn seconds_tick(value: f64) -> String {
    match value {
        v if v < 0.9995e-3 => format!("{} µs", tick_text(v * 1e6)),
        v if v < 0.9995 => format!("{} ms", tick_text(v * 1e3)),
        v => format!("{} s", tick_text(v)),
    }
}

fn share_ticks() -> Vec<Tick> {
    Scale::Linear(1.0).ticks(|v| format!("{:.0} %", v * 100.0))
}

/// The share at or below `x`, mean over the seeds that completed requests.
fn share_at(policy: &PolicyReport, x: f64) -> f64 {
    let curves = policy.runs.iter().map(|run| &run.ttft_cdf).filter(|curve| !curve.is_empty());
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

pub(super) fn curves(report: &Report) -> String {
    let times =
        report.policies.iter().flat_map(|p| &p.runs).flat_map(|run| run.ttft_cdf.iter().map(|(x, _)| *x));
    let limit = report.inputs.slo_ttft_s;
    let scale = Scale::log(times.chain((limit > 0.0).then_some(limit)));
    let Scale::Log(low, high) = scale else { return String::new() };
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
            let has = report.policies[i].runs.iter().any(|run| !run.ttft_cdf.is_empty());
            if !has {
                empty.push(report.policies[i].name.clone());
            }
            has
        })
        .collect();
    if with_curve.is_empty() {
        return frame("ttft", "Time to first token", "No request completed, so there is no curve.", "");
    }
    for (place, &i) in with_curve.iter().enumerate() {
        let policy = &report.policies[i];
        let at = |k: usize| low * (high / low).powf(k as f64 / CURVE_POINTS as f64);
        let points: Vec<(f64, f64)> =
            (0..=CURVE_POINTS).map(|k| (k as f64 / CURVE_POINTS as f64, share_at(policy, at(k)))).collect();
        let name = super::markup::esc(&policy.name);
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
            "Share of completed requests by time to first token, one curve for each of {} policies",
            with_curve.len()
        ),
        x: (scale.ticks(seconds_tick), "time to first token, logarithmic".to_owned()),
        y: (share_ticks(), "share of completed requests at or below".to_owned()),
        height_px: 340,
        curves: drawn,
        marks,
    };
    let mut caption = "Further left is faster; a long flat step to the right is cold starts.".to_owned();
    if summary::seeds(report) > 1 {
        caption.push_str(" Each curve is the mean of its seeds.");
    }
    if !empty.is_empty() {
        let _ = write!(caption, " No request completed under: {}.", super::markup::esc(&empty.join(", ")));
    }
    let body =
        format!("{}<figure>{}<figcaption>{caption}</figcaption></figure>", legend(report), plot.render());
    frame("ttft", "Time to first token", "", &body)
}

/// The three shares of a policy: TTFT, TPOT, both.
fn shares(policy: &PolicyReport) -> [Option<f64>; 3] {
    let mean = |value: fn(&super::super::model::SloReport) -> f64| {
        let values: Vec<f64> =
            policy.runs.iter().filter(|run| run.requests.arrived > 0).map(|run| value(&run.slo)).collect();
        summary::interval(&values).map(|found| found.mean)
    };
    [mean(|slo| slo.ttft), mean(|slo| slo.tpot), mean(|slo| slo.both)]
}

pub(super) fn attainment(report: &Report) -> String {
    let mut body = String::from("<figure>");
    for (i, p) in report.policies.iter().enumerate() {
        let mut rows = String::new();
        for ((name, fill), share) in [("TTFT", 0), ("TPOT", 4), ("both", 1)].into_iter().zip(shares(p)) {
            let text = share.map_or("–".to_owned(), units::percent);
            let _ = write!(
                rows,
                "<span>{name}</span><svg width=\"100%\" height=\"12\" role=\"img\" aria-label=\"{name} limit met: {text}\">\
                 <rect width=\"{}\" height=\"12\" fill=\"url(#fill{fill})\"/></svg><span class=\"number\">{text}</span>",
                percent(share.unwrap_or(0.0).clamp(0.0, 1.0))
            );
        }
        let _ = write!(
            body,
            "<div class=\"slo-row\">{}<div class=\"attain\">{rows}</div></div>",
            policy(report, i)
        );
    }
    body.push_str("</figure>");
    let intro = format!(
        "Share of arrived requests whose time to first token was at most {}, whose time per output token was at most {}, \
         and that met both. A refused request meets neither.",
        units::duration(report.inputs.slo_ttft_s),
        units::duration(report.inputs.slo_tpot_s)
    );
    frame("slo", "Limits met", &intro, &body)
}

/// A policy's seeds and mean in the plane of mean TTFT (s) and cost per 1,000 requests ($).
struct Spot {
    policy: usize,
    seeds: Vec<(u64, f64, f64)>,
    mean: (f64, f64),
}

fn spots(report: &Report) -> Vec<Spot> {
    let (ttft, cost) = (metrics::by_key("ttft_mean"), metrics::by_key("money_per_1000"));
    let (ttft, cost) = (ttft.expect("a known key"), cost.expect("a known key"));
    let spot = |(policy, p): (usize, &PolicyReport)| {
        let value = |run| Some(((ttft.value)(run)?, (cost.value)(run)?));
        let seeds: Vec<(u64, f64, f64)> =
            p.runs.iter().filter_map(|run| value(run).map(|(x, y)| (run.seed, x, y))).collect();
        let n = seeds.len() as f64;
        let mean = (seeds.iter().map(|s| s.1).sum::<f64>() / n, seeds.iter().map(|s| s.2).sum::<f64>() / n);
        (!seeds.is_empty()).then_some(Spot { policy, seeds, mean })
    };
    report.policies.iter().enumerate().filter_map(spot).collect()
}

pub(super) fn tradeoff(report: &Report) -> String {
    let spots = spots(report);
    if spots.is_empty() {
        return frame(
            "tradeoff",
            "Cost against latency",
            "No request completed, so there is nothing to weigh.",
            "",
        );
    }
    let x_scale = Scale::log(spots.iter().flat_map(|s| s.seeds.iter().map(|p| p.1)));
    let y_scale = Scale::linear(spots.iter().flat_map(|s| s.seeds.iter().map(|p| p.2)));
    let place = |x: f64, y: f64| (x_scale.place(x), y_scale.place(y));
    let (mut dots, mut letters, mut taken) = (String::new(), String::new(), Vec::<(f64, f64)>::new());
    for spot in &spots {
        let name = super::markup::esc(&report.policies[spot.policy].name);
        for (seed, x, y) in spot.seeds.iter().filter(|_| spot.seeds.len() > 1) {
            let title = format!("{name}, seed {seed}: {}, ${}", units::duration(*x), Unit::Usd.format(*y));
            dots.push_str(&svg::dot(spot.policy, place(*x, *y), &title));
        }
        let (x, y) = place(spot.mean.0, spot.mean.1);
        let crowd = taken.iter().filter(|(a, b)| (a - x).abs() < 0.05 && (b - y).abs() < 0.06).count();
        taken.push((x, y));
        let title = format!("{name}: {}, ${}", units::duration(spot.mean.0), Unit::Usd.format(spot.mean.1));
        let shift = -21.0 * crowd as f64;
        letters.push_str(&svg::letter_mark(spot.policy, &letter(spot.policy), (x, y), shift, &title));
    }
    let plot = Plot {
        about: "Cost per 1,000 requests against mean time to first token; the values are in the table above"
            .to_owned(),
        x: (x_scale.ticks(seconds_tick), "mean time to first token, logarithmic".to_owned()),
        y: (y_scale.ticks(|v| format!("${}", tick_text(v))), "cost per 1,000 completed requests".to_owned()),
        height_px: 340,
        curves: String::new(),
        marks: dots + &letters,
    };
    let mut caption = "Lower left is better. ".to_owned();
    if summary::seeds(report) > 1 {
        caption.push_str("A letter is a policy's mean, its small dots are its seeds. ");
    }
    caption.push_str(&frontier(report, &spots));
    let body =
        format!("{}<figure>{}<figcaption>{caption}</figcaption></figure>", legend(report), plot.render());
    frame("tradeoff", "Cost against latency", "", &body)
}

/// Names the policies that no other beats on both axes.
fn frontier(report: &Report, spots: &[Spot]) -> String {
    let ranked: Vec<&Spot> =
        spots.iter().filter(|s| !metrics::is_bound(&report.policies[s.policy])).collect();
    if ranked.len() < 2 {
        return String::new();
    }
    let beaten = |s: &Spot| {
        ranked.iter().any(|o| {
            o.mean.0 <= s.mean.0 && o.mean.1 <= s.mean.1 && (o.mean.0 < s.mean.0 || o.mean.1 < s.mean.1)
        })
    };
    let names: Vec<String> = ranked
        .iter()
        .filter(|s| !beaten(s))
        .map(|s| super::markup::esc(&report.policies[s.policy].name))
        .collect();
    format!("Not beaten on both at once: {}.", names.join(", "))
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
        assert_eq!(share_at(policy, 0.5), 0.0);
        assert_eq!(share_at(policy, 2.0), 0.375);
        assert_eq!(share_at(policy, 20.0), 1.0);
    }
}
