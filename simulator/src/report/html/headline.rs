//! The top of the page: the winners in words and numbers, what to doubt, and the run's warnings.
//!
//! It leaves out every other number.

use super::super::model::Report;
use super::super::summary;
use super::super::units::Unit;
use super::super::verdict::{self, Verdict};
use super::markup::{esc, list, policy, section as frame};

pub(super) fn section(report: &Report) -> String {
    // A measure on which all are equal has no winner to show.
    let told = |verdict: &&Verdict| report.policies.len() == 1 || verdict.next.is_some();
    let cards: String =
        verdict::verdicts(report).iter().filter(told).map(|verdict| card(report, verdict)).collect();
    let mut notes = verdict::caveats(report);
    notes.extend(report.warnings.iter().cloned());
    let cards = if cards.is_empty() { cards } else { format!("<ul class=\"cards\">{cards}</ul>") };
    let notes = if notes.is_empty() { String::new() } else { list("notes", &notes) };
    let body = format!("<p class=\"lead\">{}</p>{cards}{notes}", esc(&verdict::lead(report)));
    frame("headline", "Headline", "", &body)
}

fn card(report: &Report, verdict: &Verdict) -> String {
    let metric = verdict.metric;
    let first = verdict.winners[0];
    let found = summary::over_seeds(&report.policies[first], metric);
    let value = found.map_or(String::new(), |found| shown(metric.unit, found.mean, found.half));
    let compared = report.policies.len() > 1;
    let title = if compared { format!("Best {}", metric.phrase) } else { capital(metric.phrase) };
    let who: String =
        verdict.winners.iter().take(3).map(|&i| format!("<p>{}</p>", policy(report, i))).collect();
    let more = verdict.winners.len().saturating_sub(3);
    let more = if more > 0 { format!("<p>and {more} more</p>") } else { String::new() };
    let margin =
        verdict::margin(report, verdict).map_or(String::new(), |text| format!("<p>{}</p>", esc(&text)));
    let bound = verdict::left_to_bound(report, verdict)
        .map_or(String::new(), |text| format!("<p>{}</p>", esc(&text)));
    let sure = match verdict.certainty(report) {
        text if text.is_empty() => text,
        text => format!("<p class=\"sure\">{text}</p>"),
    };
    format!(
        "<li class=\"card\"><h3>{title}</h3><p class=\"value\">{value}</p>{who}{more}{margin}{bound}{sure}</li>"
    )
}

/// A value with its unit and half-interval, in a unit that spares it leading zeros.
fn shown(unit: Unit, mean: f64, half: Option<f64>) -> String {
    let (unit, name, factor) = match unit {
        Unit::Seconds if mean < 0.1 => (Unit::Millis, "ms", 1.0),
        Unit::GpuHours if mean < 0.1 => (Unit::Seconds, "GPU-s", 3600.0),
        Unit::NanoUsd | Unit::Usd => (unit, "", 1.0),
        other => (other, other.heading(), 1.0),
    };
    let sign = if matches!(unit, Unit::NanoUsd | Unit::Usd) { "$" } else { "" };
    let (mean, half) = (mean * factor, half.filter(|half| *half > 0.0).map(|half| half * factor));
    let pair = half.map_or(unit.format(mean), |half| unit.format_pair(mean, half));
    let (mean, half) = pair.split_once('±').unwrap_or((&pair, ""));
    let name = if name.is_empty() { String::new() } else { format!(" <small>{name}</small>") };
    let half = if half.is_empty() { String::new() } else { format!(" <small>±{half}</small>") };
    format!("{sign}{mean}{name}{half}")
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}
