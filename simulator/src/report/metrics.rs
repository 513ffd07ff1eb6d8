//! The headline metrics: name, unit, which direction is better, and how a run gives the value.
//!
//! Table, HTML, reductions and `compare` all read this one list. A metric a run cannot give (no request completed) is
//! `None`, never zero. It leaves out the statistics over seeds.

use super::model::{PolicyReport, RunReport};
use super::units::Unit;

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    /// Smaller values win.
    Lower,
    /// Larger values win.
    Higher,
    /// Neither: shown, not ranked.
    Neither,
}

/// One headline metric.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Stable key, e.g. `ttft_mean`.
    pub key: &'static str,
    /// Short heading, e.g. `TTFT mean`.
    pub heading: &'static str,
    /// The name in running text, e.g. `mean time to first token`.
    pub phrase: &'static str,
    /// How it is written.
    pub unit: Unit,
    /// Which direction is better.
    pub better: Better,
    /// The value of one run, in the metric's stored unit.
    pub value: fn(&RunReport) -> Option<f64>,
}

/// All headline metrics in the order of the table.
pub const METRICS: &[Metric] = &[
    metric("completed", "completed", "requests completed", Unit::Count, Better::Higher, |r| {
        Some(r.requests.completed as f64)
    }),
    metric("refused", "refused", "requests refused or timed out", Unit::Count, Better::Lower, |r| {
        Some((r.requests.refused + r.requests.timed_out) as f64)
    }),
    metric("ttft_mean", "TTFT mean", "mean time to first token", Unit::Seconds, Better::Lower, |r| {
        some_if(r.ttft_s.count, r.ttft_s.mean)
    }),
    metric("ttft_p50", "TTFT p50", "median time to first token", Unit::Seconds, Better::Lower, |r| {
        some_if(r.ttft_s.count, r.ttft_s.p50)
    }),
    metric(
        "ttft_p99",
        "TTFT p99",
        "99th percentile of time to first token",
        Unit::Seconds,
        Better::Lower,
        |r| some_if(r.ttft_s.count, r.ttft_s.p99),
    ),
    metric("tpot_mean", "TPOT mean", "mean time per output token", Unit::Millis, Better::Lower, |r| {
        some_if(r.tpot_s.count, r.tpot_s.mean)
    }),
    metric("e2e_mean", "E2E mean", "mean end-to-end time", Unit::Seconds, Better::Lower, |r| {
        some_if(r.e2e_s.count, r.e2e_s.mean)
    }),
    metric("slo_both", "SLO met", "share of requests within both limits", Unit::Share, Better::Higher, |r| {
        some_if(r.requests.arrived, r.slo.both)
    }),
    metric(
        "cold_share",
        "cold",
        "share of requests that met a cold start",
        Unit::Share,
        Better::Lower,
        cold_share,
    ),
    metric("gpu_hours", "GPU reserved", "GPU time reserved", Unit::GpuHours, Better::Lower, |r| {
        Some(r.gpu.reserved_ns as f64 / 3.6e12)
    }),
    metric(
        "busy_share",
        "GPU busy",
        "busy share of reserved GPU time",
        Unit::Share,
        Better::Higher,
        busy_share,
    ),
    metric("money", "money", "total bill", Unit::NanoUsd, Better::Lower, |r| {
        r.bills.first().map(|b| b.total_nano_usd as f64)
    }),
    metric("money_per_1000", "per 1k req", "cost per 1,000 requests", Unit::Usd, Better::Lower, |r| {
        r.bills.first().and_then(|b| some_if(r.requests.completed, b.per_1000_requests_usd))
    }),
    metric("money_per_mtok", "per M tok", "cost per million tokens", Unit::Usd, Better::Lower, |r| {
        let tokens = r.prompt_tokens + r.output_tokens;
        r.bills.first().and_then(|b| some_if(tokens, b.per_million_tokens_usd))
    }),
    metric(
        "goodput",
        "goodput",
        "requests per second within both limits",
        Unit::PerSecond,
        Better::Higher,
        |r| some_if(r.requests.arrived, r.slo.goodput_rps),
    ),
    metric("adapter_hits", "adapter hits", "adapter hit rate", Unit::Share, Better::Higher, |r| {
        let asked = r.adapters.hits + r.adapters.misses;
        some_if(asked, r.adapters.hits as f64 / asked.max(1) as f64)
    }),
    metric(
        "fairness",
        "fairness",
        "fairness over tenants (Jain's index)",
        Unit::Ratio,
        Better::Higher,
        |r| some_if(r.requests.completed, r.fairness),
    ),
];

/// Keys of the metrics that reductions and intervals report.
pub const HEADLINE: &[&str] = &[
    "ttft_mean",
    "ttft_p99",
    "tpot_mean",
    "e2e_mean",
    "slo_both",
    "cold_share",
    "gpu_hours",
    "money",
    "money_per_1000",
    "money_per_mtok",
];

/// The metric with this key.
pub fn by_key(key: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|m| m.key == key)
}

/// True for a clairvoyant lower bound, by its name (`bound`, `lower-bound`, `clairvoyant`, also with `-…` behind): it is
/// shown beside the policies and never ranked, since no system can run it.
pub fn is_bound(policy: &PolicyReport) -> bool {
    let name = policy.name.rsplit('/').next().unwrap_or_default();
    ["bound", "lower-bound", "clairvoyant"]
        .iter()
        .any(|word| name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
}

/// Share of requests that waited for anything but `warm`; `None` without requests.
pub fn cold_share(run: &RunReport) -> Option<f64> {
    let all: u64 = run.cold_by_kind.iter().map(|(_, n)| n).sum();
    let warm: u64 = run.cold_by_kind.iter().filter(|(kind, _)| kind == "warm").map(|(_, n)| n).sum();
    some_if(all, (all - warm) as f64 / all.max(1) as f64)
}

/// Busy nanoseconds over reserved ones; `None` when nothing was reserved.
pub fn busy_share(run: &RunReport) -> Option<f64> {
    let busy: u64 = run.gpu.causes.iter().filter(|(cause, _)| cause == "busy").map(|(_, ns)| ns).sum();
    some_if(run.gpu.reserved_ns, busy as f64 / run.gpu.reserved_ns.max(1) as f64)
}

fn some_if(count: u64, value: f64) -> Option<f64> {
    (count > 0 && value.is_finite()).then_some(value)
}

const fn metric(
    key: &'static str,
    heading: &'static str,
    phrase: &'static str,
    unit: Unit,
    better: Better,
    value: fn(&RunReport) -> Option<f64>,
) -> Metric {
    Metric { key, heading, phrase, unit, better, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_completed_gives_no_latency() {
        let run = RunReport::default();
        for key in ["ttft_mean", "tpot_mean", "slo_both", "cold_share", "busy_share", "money_per_1000"] {
            assert_eq!((by_key(key).expect("a known key").value)(&run), None, "{key}");
        }
    }

    #[test]
    fn only_bounds_are_bounds() {
        let named = |name: &str| PolicyReport {
            name: name.into(),
            about: String::new(),
            parameters: Default::default(),
            runs: Vec::new(),
        };
        assert!(["bound", "a/lower-bound", "clairvoyant-2"].iter().all(|name| is_bound(&named(name))));
        assert!(["bounded-queue", "lru", "bound/lru"].iter().all(|name| !is_bound(&named(name))));
    }

    #[test]
    fn headline_keys_exist() {
        assert!(HEADLINE.iter().all(|key| by_key(key).is_some()));
    }
}
