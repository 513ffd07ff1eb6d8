//! What the numbers say, in words: who wins what, by how much, and whether the seeds bear it out.
//!
//! Every sentence is computed, including the ones that say a difference is too small or that a winner served fewer
//! requests. It leaves out advice on which policy to run: that depends on what latency is worth.

use super::metrics::{self, Better, Metric};
use super::model::Report;
use super::summary::{self, Change};
use super::units::{self, Unit};

/// The measures the headline speaks of.
const MEASURES: [&str; 5] = ["ttft_mean", "ttft_p99", "slo_both", "gpu_hours", "money_per_1000"];

/// A winner that completed less than this share of what the best completed is told; arbitrary.
const SERVED_MIN: f64 = 0.98;

/// Who leads one measure.
pub struct Verdict {
    /// The measure.
    pub metric: &'static Metric,
    /// Policies with the best mean (indices), usually one; empty when no policy gives the value.
    pub winners: Vec<usize>,
    /// The best of the others.
    pub next: Option<usize>,
    /// The winner against the next.
    pub change: Option<Change>,
}

impl Verdict {
    /// True when there are seeds enough for an interval and it holds zero, or when the seeds both ran do not bear out
    /// the order of the means.
    pub fn too_close(&self) -> bool {
        self.change.is_some_and(|change| {
            let ahead = if self.metric.better == Better::Higher { change.relative } else { -change.relative };
            change.is_clear() == Some(false) || ahead <= 0.0
        })
    }

    /// How sure the lead is, in words.
    pub fn certainty(&self, report: &Report) -> String {
        match (self.next, self.change.as_ref()) {
            (None, _) | (_, None) => String::new(),
            (Some(_), Some(change)) => match change.is_clear() {
                _ if self.too_close() && change.pairs > 1 => {
                    format!("too close to call over {} seeds", change.pairs)
                }
                _ if self.too_close() => "too close to call".to_owned(),
                Some(true) => format!("clear over {} seeds", change.pairs),
                _ if summary::seeds(report) < 2 => "one seed, so no interval".to_owned(),
                _ => "no interval: the two share fewer than two seeds".to_owned(),
            },
        }
    }
}

/// A verdict for each measure that at least one policy gives.
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    MEASURES
        .iter()
        .filter_map(|key| metrics::by_key(key))
        .filter_map(|metric| verdict(report, metric))
        .collect()
}

fn verdict(report: &Report, metric: &'static Metric) -> Option<Verdict> {
    let ranked = summary::ranking(report, metric);
    let mean =
        |i: usize| summary::over_seeds(&report.policies[i], metric).map_or(f64::NAN, |found| found.mean);
    let first = *ranked.first()?;
    let (winners, others): (Vec<usize>, Vec<usize>) = ranked.iter().partition(|&&i| mean(i) == mean(first));
    let next = others.first().copied();
    let change = next.and_then(|n| summary::change(&report.policies[first], &report.policies[n], metric));
    Some(Verdict { metric, winners, next, change })
}

/// One sentence for the top of a page.
pub fn lead(report: &Report) -> String {
    let ranked: Vec<usize> =
        (0..report.policies.len()).filter(|&i| !metrics::is_bound(&report.policies[i])).collect();
    let verdicts = verdicts(report);
    match ranked.as_slice() {
        [] => return "No policy was run.".to_owned(),
        [only] => return format!("One policy was run: {}.", report.policies[*only].name),
        _ => {}
    }
    if (0..report.policies.len()).all(|i| served(report, i) == 0.0) {
        return "No policy completed a request.".to_owned();
    }
    let differing: Vec<&Verdict> = verdicts.iter().filter(|v| v.next.is_some()).collect();
    let decided: Vec<&Verdict> = differing.iter().filter(|v| !v.too_close()).copied().collect();
    if decided.is_empty() && !differing.is_empty() {
        return "On no headline measure do these seeds tell the best policy from the next.".to_owned();
    }
    if decided.is_empty() {
        return "The policies give the same values on every headline measure.".to_owned();
    }
    let leads = |i: usize| -> Vec<&str> {
        decided.iter().filter(|v| v.winners == [i]).map(|v| v.metric.phrase).collect()
    };
    if let Some(&all) = ranked.iter().find(|&&i| leads(i).len() == decided.len()) {
        let name = &report.policies[all].name;
        return if decided.len() < MEASURES.len() {
            format!(
                "{name} leads on {}; on no other headline measure is there a clear winner.",
                join(&leads(all))
            )
        } else {
            format!("{name} is best on all {} headline measures.", decided.len())
        };
    }
    let parts: Vec<String> = ranked
        .iter()
        .filter(|&&i| !leads(i).is_empty())
        .map(|&i| format!("{} leads on {}", report.policies[i].name, join(&leads(i))))
        .collect();
    format!("No policy is best at everything: {}.", parts.join("; "))
}

/// What a reader should know before trusting the lead.
pub fn caveats(report: &Report) -> Vec<String> {
    let mut found = Vec::new();
    let verdicts = verdicts(report);
    let close: Vec<&str> = verdicts.iter().filter(|v| v.too_close()).map(|v| v.metric.phrase).collect();
    if !close.is_empty() {
        found.push(format!("Too close to call over these seeds: {}.", join(&close)));
    }
    if summary::seeds(report) == 1 && report.policies.len() > 1 {
        found.push("One seed was run, so no difference here has an interval.".to_owned());
    }
    for policy in report.policies.iter().filter(|p| p.runs.is_empty()) {
        found.push(format!("{} has no runs in this report.", policy.name));
    }
    found.extend(served_less(report, &verdicts));
    found
}

/// Winners that completed visibly fewer requests than the best did: cheap or fast may mean that work was turned away.
fn served_less(report: &Report, verdicts: &[Verdict]) -> Vec<String> {
    let mean = |i: usize| served(report, i);
    let most = (0..report.policies.len()).map(mean).fold(0.0, f64::max);
    let mut winners: Vec<usize> = verdicts.iter().flat_map(|v| v.winners.iter().copied()).collect();
    winners.sort_unstable();
    winners.dedup();
    winners
        .into_iter()
        .filter(|&i| mean(i) < most * SERVED_MIN)
        .map(|i| {
            format!(
                "{} completed only {} requests where the best policy completed {}; its averages leave out the others.",
                report.policies[i].name,
                Unit::Count.format(mean(i).round()),
                Unit::Count.format(most.round())
            )
        })
        .collect()
}

/// Mean requests completed.
fn served(report: &Report, policy: usize) -> f64 {
    let completed = metrics::by_key("completed").expect("a known key");
    summary::over_seeds(&report.policies[policy], completed).map_or(0.0, |found| found.mean)
}

/// The lead over the next, e.g. `62 % below serverless-llm`.
pub fn margin(report: &Report, verdict: &Verdict) -> Option<String> {
    let (next, change) = (verdict.next?, verdict.change?);
    Some(format!("{} {}", distance(change.relative), report.policies[next].name))
}

/// How far the winner is from the clairvoyant bound, e.g. `12 % above the bound`; `None` without one.
pub fn left_to_bound(report: &Report, verdict: &Verdict) -> Option<String> {
    let bound = report.policies.iter().find(|policy| metrics::is_bound(policy))?;
    let change = summary::change(&report.policies[*verdict.winners.first()?], bound, verdict.metric)?;
    Some(format!("{} {}", distance(change.relative), bound.name))
}

/// `62 % below`, `4.1 % above`, or `level with` where the digits shown would be zero.
fn distance(relative: f64) -> String {
    match units::change(relative.abs()).trim_start_matches('+') {
        "0.0 %" => "level with".to_owned(),
        size => format!("{size} {}", if relative < 0.0 { "below" } else { "above" }),
    }
}

/// `a`, `a and b`, `a, b and c`.
fn join(parts: &[&str]) -> String {
    match parts {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn names_the_winners() {
        let report = sample::report(4, 5);
        let lead = lead(&report);
        assert!(lead.contains("No policy is best at everything"), "{lead}");
        assert!(lead.contains("serverlesslora leads on GPU time reserved"), "{lead}");
        let first = &verdicts(&report)[0];
        assert!(margin(&report, first).expect("two policies").contains("below"));
        assert_eq!(first.certainty(&report), "clear over 5 seeds");
    }

    #[test]
    fn says_when_it_cannot_know() {
        let one = sample::report(2, 1);
        assert!(caveats(&one).iter().any(|line| line.contains("One seed")));
        let mut same = sample::report(1, 3);
        let mut copy = same.policies[0].clone();
        copy.name = "copy".into();
        same.policies.push(copy);
        assert!(lead(&same).contains("same values"), "{}", lead(&same));
        assert_eq!(lead(&sample::nothing_completed()), "No policy completed a request.");
        assert_eq!(lead(&sample::report(1, 1)), "One policy was run: serverlesslora.");
    }

    #[test]
    fn a_winner_that_turned_work_away_is_told() {
        let mut report = sample::report(2, 1);
        report.policies[0].runs[0].requests.completed /= 2;
        assert!(
            caveats(&report).iter().any(|line| line.contains("completed only")),
            "{:?}",
            caveats(&report)
        );
    }

    #[test]
    fn the_bound_is_not_ranked() {
        let mut report = sample::report(2, 1);
        report.policies[0].name = "bound".into();
        assert!(verdicts(&report).iter().all(|v| v.winners == [1]));
        let gap = left_to_bound(&report, &verdicts(&report)[0]).expect("there is a bound");
        assert!(gap.ends_with("above bound"), "{gap}");
    }
}
