//! A live run beside a simulated one, number by number.
//!
//! Several live runs of one trace show what the machine itself makes uncertain: the live value is their mean, and its
//! spread stands beside the error. Each live run may have a simulation of its own, which starts with what that host
//! measured of its machine and decided by: the simulated value is their mean too.

use crate::report::model::{Quantiles, RunReport};
use crate::report::units::Unit;

/// One number in both worlds.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Stable key, e.g. `ttft_mean`.
    pub key: String,
    /// In words.
    pub what: String,
    /// How it is written.
    pub unit: Unit,
    /// Mean of the live runs.
    pub live: f64,
    /// Smallest and largest live run.
    pub spread: (f64, f64),
    /// Mean of the simulations.
    pub simulated: f64,
}

impl Row {
    /// Simulated over live, less one; `None` where live is zero and simulated is not.
    pub fn error(&self) -> Option<f64> {
        match (self.live, self.simulated) {
            (live, simulated) if live == simulated => Some(0.0),
            (0.0, _) => None,
            (live, simulated) => Some(simulated / live - 1.0),
        }
    }

    /// Half the spread of the live runs over their mean: what no model can do better than.
    pub fn noise(&self) -> f64 {
        let half = (self.spread.1 - self.spread.0) / 2.0;
        if self.live == 0.0 { 0.0 } else { half / self.live }
    }
}

type Reader = fn(&Quantiles) -> f64;

const QUANTILES: [(&str, Reader); 5] =
    [("mean", |q| q.mean), ("p50", |q| q.p50), ("p90", |q| q.p90), ("p95", |q| q.p95), ("p99", |q| q.p99)];

/// Every number, live runs against simulations: one for all, or one for each. Without either there are none.
pub fn rows(live: &[RunReport], simulations: &[RunReport]) -> Vec<Row> {
    let mut rows = Vec::new();
    let Some(simulated) = simulations.first().filter(|_| !live.is_empty()) else { return rows };
    let mut add = |key: String, what: String, unit: Unit, value: &dyn Fn(&RunReport) -> f64| {
        let all: Vec<f64> = live.iter().map(value).collect();
        let spread = all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let simulated = simulations.iter().map(value).sum::<f64>() / simulations.len() as f64;
        rows.push(Row { key, what, unit, live: mean, spread, simulated });
    };
    add("completed".into(), "requests completed".into(), Unit::Count, &|r| r.requests.completed as f64);
    type Of = fn(&RunReport) -> &Quantiles;
    let times: [(&str, &str, Unit, Of); 3] = [
        ("ttft", "time to first token", Unit::Seconds, |r| &r.ttft_s),
        ("tpot", "time per output token", Unit::Millis, |r| &r.tpot_s),
        ("e2e", "end to end", Unit::Seconds, |r| &r.e2e_s),
    ];
    for (key, what, unit, of) in times {
        for (quantile, value) in QUANTILES {
            add(format!("{key}_{quantile}"), format!("{what}, {quantile}"), unit, &|r| value(of(r)));
        }
    }
    for (n, (kind, _)) in simulated.cold_by_kind.iter().enumerate() {
        let count = |r: &RunReport| r.cold_by_kind.get(n).map_or(0.0, |(_, count)| *count as f64);
        add(format!("cold_{kind}"), format!("requests that waited for: {kind}"), Unit::Count, &count);
    }
    devices(simulated, &mut add);
    rows
}

/// Adds a row: key, words, unit, and how a run gives the value.
type Add<'a> = dyn FnMut(String, String, Unit, &dyn Fn(&RunReport) -> f64) + 'a;

/// The part of the rows that needs the host's log.
fn devices(simulated: &RunReport, add: &mut Add<'_>) {
    add("adapter_loads".into(), "adapter loads".into(), Unit::Count, &|r| r.adapters.loads as f64);
    add("adapter_evictions".into(), "adapter evictions".into(), Unit::Count, &|r| {
        r.adapters.evictions as f64
    });
    for (n, link) in simulated.links.iter().enumerate() {
        let gb = |r: &RunReport| r.links.get(n).map_or(0.0, |l| l.bytes as f64 / 1e9);
        add(
            format!("gb_{}", link.link),
            format!("10⁹ bytes over {}", link.link.replace('_', " ")),
            Unit::Ratio,
            &gb,
        );
    }
    for (n, part) in simulated.memory.by_use.iter().enumerate() {
        let gb_s = |r: &RunReport| r.memory.by_use.get(n).map_or(0.0, |u| u.gb_seconds);
        let what = format!("memory held: {}, GB·s", part.name.replace('_', " "));
        add(format!("held_{}", part.name), what, Unit::Ratio, &gb_s);
    }
    add("reserved".into(), "device time reserved".into(), Unit::Seconds, &|r| r.gpu.reserved_ns as f64 / 1e9);
    for (n, of) in simulated.bills.iter().enumerate() {
        let total = |r: &RunReport| r.bills.get(n).map_or(0.0, |b| b.total_nano_usd as f64);
        add(format!("money_{}", of.tariff), format!("money under {}", of.tariff), Unit::NanoUsd, &total);
    }
}

/// Share of requests whose cold kind would have to change to make the counts equal, mean over the live runs; each is
/// compared with its own simulation, or with the only one.
pub fn cold_count_error(live: &[RunReport], simulations: &[RunReport]) -> Option<f64> {
    let all: u64 = simulations.first()?.cold_by_kind.iter().map(|(_, n)| n).sum();
    if live.is_empty() || all == 0 {
        return None;
    }
    let moved = |(n, run): (usize, &RunReport)| -> f64 {
        let simulated = simulations.get(n).unwrap_or(&simulations[0]);
        let pairs = run.cold_by_kind.iter().zip(&simulated.cold_by_kind);
        pairs.map(|((_, a), (_, b))| a.abs_diff(*b) as f64).sum::<f64>() / 2.0 / all as f64
    };
    Some(live.iter().enumerate().map(moved).sum::<f64>() / live.len() as f64)
}
