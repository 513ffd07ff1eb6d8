//! A client's requests as a run of the report.

use super::{End, Observed};
use crate::measure::collect::{Collect, Limits};
use crate::report::check::{CAUSES, LINKS, MEMORY_USES};
use crate::report::model::{FunctionRow, GpuTime, LinkReport, MemoryReport, MemoryUse, RunReport};
use coldframe_traces::FunctionInfo;
use std::collections::BTreeMap;

/// What the sender of the requests knows beside them.
pub struct Client<'a> {
    /// Limits that count as met.
    pub limits: Limits,
    /// Functions of the trace, by number.
    pub functions: &'a [FunctionInfo],
    /// Seed of the run.
    pub seed: u64,
    /// Requests due before this are the warm-up: sent, but in no number here.
    pub from_ns: u64,
}

/// The run. Device time, memory, links and bills are empty: a client does not see them.
pub fn report(client: &Client<'_>, all: &[Observed]) -> RunReport {
    let counted: Vec<&Observed> = all.iter().filter(|r| r.due_ns >= client.from_ns).collect();
    let first = counted.iter().map(|r| r.due_ns).min().unwrap_or(0);
    let last = counted.iter().map(|r| r.end_ns.max(r.due_ns)).max().unwrap_or(0);
    let mut collect = Collect::new(client.limits);
    let mut hits = (0, 0);
    for request in &counted {
        collect.arrived(request.function);
        match request.finished() {
            Some(finished) => {
                let missed = finished.cold_ns[3] > 0;
                hits = (hits.0 + u64::from(!missed), hits.1 + u64::from(missed));
                // Nothing is billed here, so tokens stand for shares.
                let weight = u64::from(finished.prompt_tokens) + u64::from(finished.output_tokens);
                collect.finished(&finished, weight);
            }
            None if request.end == End::TimedOut => collect.counts.timed_out += 1,
            None => collect.counts.refused += 1,
        }
    }
    let mut out = RunReport { seed: client.seed, simulated_s: (last - first) as f64 / 1e9, ..empty() };
    collect.report(last - first, &mut out);
    (out.adapters.hits, out.adapters.misses) = hits;
    functions(client, &collect, &mut out);
    out
}

/// A run in which nothing is known of the devices, with every part in its order.
fn empty() -> RunReport {
    let zero = |name: &&str| ((*name).to_owned(), 0);
    let use_ = |name: &&str| MemoryUse { name: (*name).to_owned(), ..MemoryUse::default() };
    let link = |name: &&str| LinkReport { link: (*name).to_owned(), ..LinkReport::default() };
    RunReport {
        gpu: GpuTime { reserved_ns: 0, causes: CAUSES.iter().map(zero).collect() },
        memory: MemoryReport { by_use: MEMORY_USES.iter().map(use_).collect(), ..MemoryReport::default() },
        links: LINKS.iter().map(link).collect(),
        ..RunReport::default()
    }
}

fn functions(client: &Client<'_>, collect: &Collect, out: &mut RunReport) {
    let blank = FunctionInfo::default();
    let mut tenants: BTreeMap<&str, (u128, u64)> = BTreeMap::new();
    for (n, f) in collect.functions.iter().enumerate().filter(|(_, f)| f.arrived > 0) {
        let info = client.functions.get(n).unwrap_or(&blank);
        let who = if info.tenant.is_empty() { &info.name } else { &info.tenant };
        let tenant = tenants.entry(who).or_default();
        *tenant = (tenant.0 + f.ttft_sum, tenant.1 + f.completed);
        out.functions.push(FunctionRow {
            name: info.name.clone(),
            tenant: info.tenant.clone(),
            backbone: info.base_model.clone(),
            requests: f.arrived,
            cold: f.cold,
            ttft_mean_s: f.ttft_sum as f64 / f.completed.max(1) as f64 / 1e9,
            ttft_max_s: f.ttft_max as f64 / 1e9,
            money_nano_usd: 0,
        });
    }
    out.functions.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.name.cmp(&b.name)));
    const LISTED: usize = 1000;
    out.functions_left_out = out.functions.len().saturating_sub(LISTED) as u64;
    out.functions.truncate(LISTED);
    let means = tenants.values().filter(|t| t.1 > 0).map(|t| t.0 as f64 / t.1 as f64);
    let (n, sum, squares) = means.fold((0.0, 0.0, 0.0), |(n, s, q), x| (n + 1.0, s + x, q + x * x));
    // Rounding can take Jain's index a hair above one.
    out.fairness = if squares > 0.0 { (sum * sum / (n * squares)).min(1.0) } else { 1.0 };
}
