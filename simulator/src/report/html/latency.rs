//! What latency buys: attainment of the limits, and cost against latency.
//!
//! Curves and quantiles are in `curves`.

use super::super::metrics;
use super::super::model::{PolicyReport, Report};
use super::super::summary;
use super::super::units::{self, Unit};
use super::curves::{legend, seconds_tick};
use super::markup::{letter, policy, section as frame};
use super::svg::{self, Plot, Scale, percent, tick_text};
use std::fmt::Write;

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
