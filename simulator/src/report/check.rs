//! The invariants of a report: what must add up, in words where it does not.
//!
//! Replay runs it on what it wrote, tests run it on samples. It leaves out whether the numbers are plausible.

use super::model::{Bill, PolicyReport, Report, RunReport, SCHEMA};
use std::collections::BTreeSet;

/// Order of the cold-start stages.
pub const STAGES: [&str; 7] = ["queue", "container", "runtime", "backbone", "adapter", "kernel", "prefill"];
/// Order of the causes of reserved GPU time.
pub const CAUSES: [&str; 8] = [
    "busy",
    "loading",
    "idle_base",
    "duplicate_weights",
    "idle_adapters",
    "idle_kernels",
    "unused_kv",
    "idle_free",
];
/// Order of the uses of device memory.
pub const MEMORY_USES: [&str; 7] =
    ["base", "duplicates", "adapters", "kernels", "kv_used", "kv_unused", "free"];
/// Order of the links.
pub const LINKS: [&str; 4] = ["remote", "disk", "host_to_device", "device_to_host"];

/// Every invariant the report violates, one sentence each; empty for a sound report.
pub fn check(report: &Report) -> Vec<String> {
    let mut found = Found::default();
    if report.schema != SCHEMA {
        found.push(format!("the schema is `{}`, not `{SCHEMA}`", report.schema));
    }
    let mut names = BTreeSet::new();
    for policy in &report.policies {
        found.at = format!("policy `{}`", policy.name);
        if !names.insert(&policy.name) {
            found.push("its name occurs twice".to_owned());
        }
        seeds_differ(&mut found, policy);
        for run in &policy.runs {
            found.at = format!("policy `{}`, seed {}", policy.name, run.seed);
            check_run(&mut found, run);
            if run.bills.first().is_some_and(|bill| bill.tariff != report.inputs.primary_tariff) {
                found.push("its first bill is not the primary tariff's".to_owned());
            }
        }
    }
    found.at.clear();
    let value = serde_json::to_value(report).expect("a report is plain data");
    not_finite(&mut found, "report", &value);
    found.all
}

#[derive(Default)]
struct Found {
    at: String,
    all: Vec<String>,
}

impl Found {
    fn push(&mut self, what: String) {
        self.all.push(if self.at.is_empty() { what } else { format!("{}: {what}", self.at) });
    }

    fn equal(&mut self, what: &str, sum: u128, of: &str, total: u128) {
        if sum != total {
            self.push(format!("{what} add up to {sum}, {of} is {total}"));
        }
    }

    fn names<'a>(&mut self, what: &str, found: impl Iterator<Item = &'a str>, wanted: &[&str]) {
        let found: Vec<&str> = found.collect();
        if found != wanted {
            self.push(format!("{what} are [{}], not [{}]", found.join(", "), wanted.join(", ")));
        }
    }
}

fn seeds_differ(found: &mut Found, policy: &PolicyReport) {
    let distinct: BTreeSet<u64> = policy.runs.iter().map(|run| run.seed).collect();
    if distinct.len() != policy.runs.len() {
        found.push("two runs have the same seed".to_owned());
    }
}

fn check_run(found: &mut Found, run: &RunReport) {
    check_requests(found, run);
    check_latency(found, run);
    found.names("the causes of GPU time", run.gpu.causes.iter().map(|(name, _)| name.as_str()), &CAUSES);
    found.equal("the causes of GPU time", sum(&run.gpu.causes), "reserved_ns", run.gpu.reserved_ns.into());
    check_memory(found, run);
    found.names("the links", run.links.iter().map(|link| link.link.as_str()), &LINKS);
    for bill in &run.bills {
        let what = format!("the lines of the bill `{}`", bill.tariff);
        found.equal(&what, sum(&bill.lines), "its total", bill.total_nano_usd.into());
    }
    check_functions(found, run);
    for (name, share) in [
        ("slo.ttft", run.slo.ttft),
        ("slo.tpot", run.slo.tpot),
        ("slo.both", run.slo.both),
        ("fairness", run.fairness),
    ] {
        if !(0.0..=1.0).contains(&share) {
            found.push(format!("{name} is {share}, outside 0..=1"));
        }
    }
}

fn check_requests(found: &mut Found, run: &RunReport) {
    let r = &run.requests;
    let ends = [r.completed, r.refused, r.timed_out, r.running, r.queued].map(u128::from);
    found.equal("the ends of requests", ends.iter().sum(), "arrived", r.arrived.into());
    if run.ttft_s.count < r.completed {
        found.push(format!(
            "TTFT was observed {} times, {} requests completed",
            run.ttft_s.count, r.completed
        ));
    }
    let kinds = sum(&run.cold_by_kind);
    if kinds > r.arrived.into() {
        found.push(format!("cold_by_kind counts {kinds} requests, {} arrived", r.arrived));
    }
}

fn check_latency(found: &mut Found, run: &RunReport) {
    found.names("the stages", run.stages.iter().map(|stage| stage.stage.as_str()), &STAGES);
    let stages: f64 = run.stages.iter().map(|stage| stage.mean_s).sum();
    let mean = run.ttft_s.mean;
    if (stages - mean).abs() > 1e-6 * mean.abs().max(1.0) {
        found.push(format!("the stage means add up to {stages} s, the mean TTFT is {mean} s"));
    }
    for (name, q) in [("ttft_s", &run.ttft_s), ("tpot_s", &run.tpot_s), ("e2e_s", &run.e2e_s)] {
        let ladder = [q.p50, q.p90, q.p95, q.p99, q.max];
        // Quantiles come from histogram bins, so the largest bin may lie 0.4 % above the exact maximum.
        if ladder.windows(2).any(|pair| pair[0] > pair[1] * 1.004) {
            found.push(format!("the quantiles of {name} fall: {ladder:?}"));
        }
    }
    for (name, curve) in [("ttft_cdf", &run.ttft_cdf), ("e2e_cdf", &run.e2e_cdf)] {
        if curve.windows(2).any(|pair| pair[0].0 > pair[1].0 || pair[0].1 > pair[1].1) {
            found.push(format!("{name} does not ascend"));
        }
        if curve.iter().any(|(_, share)| !(0.0..=1.0).contains(share)) {
            found.push(format!("{name} has shares outside 0..=1"));
        }
        if curve.len() > 200 {
            found.push(format!("{name} has {} points, at most 200 are meant", curve.len()));
        }
    }
}

fn check_memory(found: &mut Found, run: &RunReport) {
    let memory = &run.memory;
    found.names("the uses of memory", memory.by_use.iter().map(|u| u.name.as_str()), &MEMORY_USES);
    if memory.over_time.iter().any(|row| row.len() != memory.by_use.len()) {
        found.push("a row of memory over time has another number of columns than there are uses".to_owned());
    }
    if memory.over_time.len() > 300 {
        found.push(format!("memory over time has {} points, at most 300 are meant", memory.over_time.len()));
    }
    if let Some(u) = memory.by_use.iter().find(|u| u.mean_bytes > u.peak_bytes) {
        found.push(format!("memory use `{}`: mean {} above peak {}", u.name, u.mean_bytes, u.peak_bytes));
    }
}

fn check_functions(found: &mut Found, run: &RunReport) {
    let money: u128 = run.functions.iter().map(|f| u128::from(f.money_nano_usd)).sum();
    let requests: u128 = run.functions.iter().map(|f| u128::from(f.requests)).sum();
    let bill = u128::from(run.bills.first().map_or(0, |bill: &Bill| bill.total_nano_usd));
    let arrived = u128::from(run.requests.arrived);
    if run.functions_left_out == 0 {
        found.equal("the functions' money shares", money, "the primary bill", bill);
        found.equal("the functions' requests", requests, "arrived", arrived);
    } else if money > bill || requests > arrived {
        found.push("the listed functions have more money or requests than the whole run".to_owned());
    }
    if run.functions.windows(2).any(|pair| pair[0].requests < pair[1].requests) {
        found.push("functions are not ordered by requests".to_owned());
    }
    if let Some(f) = run.functions.iter().find(|f| f.cold > f.requests) {
        found.push(format!("function `{}`: {} cold of {} requests", f.name, f.cold, f.requests));
    }
}

fn sum(parts: &[(String, u64)]) -> u128 {
    parts.iter().map(|(_, value)| u128::from(*value)).sum()
}

/// The model has no optional values, so `null` in its JSON is a float that is not finite.
fn not_finite(found: &mut Found, path: &str, value: &serde_json::Value) {
    match value {
        serde_json::Value::Null => found.push(format!("{path} is not a finite number")),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| not_finite(found, &format!("{path}[{i}]"), item));
        }
        serde_json::Value::Object(fields) => {
            fields.iter().for_each(|(key, item)| not_finite(found, &format!("{path}.{key}"), item));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn samples_are_sound() {
        for report in
            [sample::report(4, 3), sample::report(1, 1), sample::report(16, 2), sample::nothing_completed()]
        {
            assert_eq!(check(&report), Vec::<String>::new());
        }
    }

    #[test]
    fn each_break_is_told() {
        fn broken(change: impl FnOnce(&mut RunReport), expected: &str) {
            let mut report = sample::report(1, 1);
            change(&mut report.policies[0].runs[0]);
            let found = check(&report);
            assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:?}");
        }
        broken(|run| run.gpu.causes[2].1 += 1, "causes of GPU time add up");
        broken(|run| run.bills[1].lines[0].1 += 1, "lines of the bill");
        broken(|run| run.functions[0].money_nano_usd -= 1, "money shares add up");
        broken(|run| run.requests.queued += 1, "ends of requests add up");
        broken(|run| run.stages[0].mean_s += 1e-3, "stage means add up");
        broken(|run| run.ttft_s.p99 = f64::NAN, "policies[0].runs[0].ttft_s.p99 is not a finite");
        broken(|run| run.ttft_cdf.reverse(), "ttft_cdf does not ascend");
        broken(|run| run.slo.both = 1.2, "slo.both is 1.2");
        broken(|run| run.memory.over_time[0].truncate(2), "columns");
        broken(|run| run.stages.swap(0, 1), "the stages are [container, queue");
    }

    #[test]
    fn names_and_seeds_are_unique() {
        let mut report = sample::report(2, 2);
        report.policies[1].name = report.policies[0].name.clone();
        report.policies[1].runs[1].seed = report.policies[1].runs[0].seed;
        let found = check(&report);
        assert!(
            found.iter().any(|l| l.contains("occurs twice")) && found.iter().any(|l| l.contains("same seed"))
        );
    }
}
