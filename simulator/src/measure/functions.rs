//! Rows per function: requests, cold ones, TTFT, and the shares of a bill; and fairness over tenants.

use super::collect::PerFunction;
use crate::cost::apportion;
use crate::report::model::{FunctionRow, RunReport};
use coldframe_traces::FunctionInfo;
use std::collections::BTreeMap;

/// Functions listed in a report: the rest is counted.
const FUNCTIONS_LISTED: usize = 1000;

/// Fills a run's functions and fairness. The primary bill is split by use (solo compute time of the tokens served).
pub fn function_rows(
    all: &[PerFunction],
    infos: &[FunctionInfo],
    backbone: impl Fn(&FunctionInfo) -> String,
    out: &mut RunReport,
) {
    let called = || all.iter().enumerate().filter(|(_, f)| f.arrived > 0);
    let weights: Vec<u128> = called().map(|(_, f)| f.weight).collect();
    let money = apportion(out.bills.first().map_or(0, |b| b.total_nano_usd), &weights);
    let mean = |sum: u128, n: u64| if n == 0 { 0.0 } else { sum as f64 / n as f64 / 1e9 };
    let blank = FunctionInfo::default();
    let info = |n: usize| infos.get(n).unwrap_or(&blank);
    let mut rows: Vec<FunctionRow> = Vec::new();
    let mut tenants: BTreeMap<&str, (u128, u64)> = BTreeMap::new();
    for ((n, f), money_nano_usd) in called().zip(money) {
        let who = if info(n).tenant.is_empty() { &info(n).name } else { &info(n).tenant };
        let tenant = tenants.entry(who).or_default();
        *tenant = (tenant.0 + f.ttft_sum, tenant.1 + f.completed);
        rows.push(FunctionRow {
            name: info(n).name.clone(),
            tenant: info(n).tenant.clone(),
            backbone: backbone(info(n)),
            requests: f.arrived,
            cold: f.cold,
            ttft_mean_s: mean(f.ttft_sum, f.completed),
            ttft_max_s: f.ttft_max as f64 / 1e9,
            money_nano_usd,
        });
    }
    rows.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
    out.functions_left_out = rows.len().saturating_sub(FUNCTIONS_LISTED) as u64;
    rows.truncate(FUNCTIONS_LISTED);
    out.functions = rows;
    let means: Vec<f64> = tenants.values().filter(|t| t.1 > 0).map(|&(sum, n)| mean(sum, n)).collect();
    let (sum, squares) = means.iter().fold((0.0, 0.0), |(s, q), x| (s + x, q + x * x));
    // Rounding can take Jain's index a hair above one.
    out.fairness = if squares > 0.0 { (sum * sum / (means.len() as f64 * squares)).min(1.0) } else { 1.0 };
}
