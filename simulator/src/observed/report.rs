//! A client's requests as a run of the report.

use super::{End, Observed};
use crate::measure::collect::{Collect, Limits};
use crate::measure::functions::function_rows;
use crate::report::check::{CAUSES, LINKS, MEMORY_USES};
use crate::report::model::{GpuTime, LinkReport, MemoryReport, MemoryUse, RunReport};
use coldframe_traces::FunctionInfo;

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
    let backbone = |info: &FunctionInfo| info.base_model.clone();
    let late = |r: &Observed| u32::try_from(r.sent_ns.saturating_sub(r.due_ns) / 1000).unwrap_or(u32::MAX);
    out.sent_late_us = all.iter().map(late).collect();
    function_rows(&collect.functions, client.functions, backbone, &mut out);
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
