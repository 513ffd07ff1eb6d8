//! Several reports side by side: one report that holds all their policies, and the changes against a baseline.
//!
//! Names that repeat get the file's name in front. Inputs that differ are told in a warning each and stand with every
//! policy, because a difference between two traces is no difference between two policies. It reads no file.

use super::metrics::{self, HEADLINE};
use super::model::{Inputs, PolicyReport, Report, SCHEMA, TraceSection};
use super::summary;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Name and version of the comparison's own JSON.
pub const COMPARISON_SCHEMA: &str = "coldframe.comparison/1";

/// Why reports could not be put together.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompareError {
    /// No report was given.
    #[error("no report to compare: give at least one file written by `coldframe replay … --out FILE.json`")]
    Empty,
    /// A report of another schema version.
    #[error("{name}: its schema is `{found}`, this coldframe compares `{wanted}`; replay its trace again")]
    Version {
        /// The report.
        name: String,
        /// The schema it names.
        found: String,
        /// The schema that is compared.
        wanted: &'static str,
    },
}

/// A comparison as data: where it came from, the changes, and the whole merged report.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Always [`COMPARISON_SCHEMA`].
    pub schema: &'static str,
    /// Policy the others are measured against.
    pub baseline: String,
    /// Every other policy's change on every headline metric.
    pub changes: Vec<ChangeRow>,
    /// All policies, as a report that `compare` reads again.
    pub report: Report,
}

/// One policy against the baseline on one metric.
#[derive(Clone, Debug, Serialize, PartialEq)]
pub struct ChangeRow {
    /// The policy.
    pub policy: String,
    /// Key of the metric, e.g. `ttft_mean`.
    pub metric: &'static str,
    /// Difference over the baseline's mean: −0.62 is 62 % less.
    pub relative: f64,
    /// Lower end of the 95 % interval; `null` with fewer than two seeds in common.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
    /// Seeds both ran.
    pub seeds: usize,
}

impl Comparison {
    /// Measures all policies against the named one; the first when `None` or unknown.
    pub fn new(report: Report, baseline: Option<&str>) -> Comparison {
        let base =
            report.policies.iter().find(|p| Some(p.name.as_str()) == baseline).or(report.policies.first());
        let mut changes = Vec::new();
        for (policy, base) in report.policies.iter().filter_map(|policy| Some((policy, base?))) {
            if policy.name == base.name {
                continue;
            }
            for metric in HEADLINE.iter().filter_map(|key| metrics::by_key(key)) {
                if let Some(found) = summary::change(policy, base, metric) {
                    changes.push(ChangeRow {
                        policy: policy.name.clone(),
                        metric: metric.key,
                        relative: found.relative,
                        low: found.interval.map(|(low, _)| low),
                        high: found.interval.map(|(_, high)| high),
                        seeds: found.pairs,
                    });
                }
            }
        }
        let baseline = base.map_or(String::new(), |policy| policy.name.clone());
        Comparison { schema: COMPARISON_SCHEMA, baseline, changes, report }
    }
}

/// Puts named reports (usually file stems) into one; a single report comes back as it is.
pub fn merge(mut reports: Vec<(String, Report)>) -> Result<Report, CompareError> {
    for (name, report) in &reports {
        if report.schema != SCHEMA {
            let found = report.schema.clone();
            return Err(CompareError::Version { name: name.clone(), found, wanted: SCHEMA });
        }
    }
    if reports.len() <= 1 {
        return reports.pop().map(|(_, report)| report).ok_or(CompareError::Empty);
    }
    distinct_names(&mut reports);
    let differences = differences(&reports);
    Ok(Report {
        schema: SCHEMA.to_owned(),
        tool: joined(&reports, |r| r.tool.clone()),
        title: title(&reports),
        trace: trace(&reports),
        inputs: inputs(&reports),
        policies: policies(&reports, &differences),
        warnings: warnings(&reports, &differences),
        limits: union(&reports, |r| &r.limits),
    })
}

/// Two files of one name from different folders become `name` and `name#2`.
fn distinct_names(reports: &mut [(String, Report)]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (name, _) in reports {
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        if *count > 1 {
            *name = format!("{name}#{count}");
        }
    }
}

/// An input that is not the same everywhere: what it is (plural), its key, and its value per report.
struct Difference {
    what: &'static str,
    key: &'static str,
    values: Vec<String>,
}

fn differences(reports: &[(String, Report)]) -> Vec<Difference> {
    type Reader = fn(&Report) -> String;
    let inputs: [(&str, &str, Reader); 7] = [
        ("traces", "input.trace", |r| match r.trace.sha256.chars().take(12).collect::<String>() {
            none if none.is_empty() => format!("{} ({} requests)", r.trace.name, r.trace.records),
            start => format!("{} (sha256 {start}…)", r.trace.name),
        }),
        ("mappings of the trace", "input.mapping", |r| or_none(r.trace.mapping.join(", "))),
        ("fleets", "input.fleet", |r| format!("{} ({} GPUs)", r.inputs.fleet, r.inputs.gpus)),
        ("limits", "input.limits", |r| {
            format!("TTFT {} s, TPOT {} s", r.inputs.slo_ttft_s, r.inputs.slo_tpot_s)
        }),
        ("primary tariffs", "input.tariff", |r| or_none(r.inputs.primary_tariff.clone())),
        ("profiles", "input.profiles", |r| {
            let named: Vec<String> =
                r.inputs.profiles.iter().map(|p| format!("{} {} [{}]", p.kind, p.name, p.source)).collect();
            or_none(named.join(", "))
        }),
        ("seeds", "input.seeds", |r| {
            let seeds: BTreeSet<u64> = r.policies.iter().flat_map(|p| &p.runs).map(|run| run.seed).collect();
            or_none(seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
        }),
    ];
    let read = |(what, key, value): (&'static str, &'static str, Reader)| {
        let values: Vec<String> = reports.iter().map(|(_, report)| value(report)).collect();
        let hashes_differ =
            key == "input.trace" && reports.iter().any(|(_, r)| r.trace.sha256 != reports[0].1.trace.sha256);
        let differ = hashes_differ || values.iter().any(|value| *value != values[0]);
        differ.then_some(Difference { what, key, values })
    };
    inputs.into_iter().filter_map(read).collect()
}

fn or_none(text: String) -> String {
    if text.is_empty() { "none".to_owned() } else { text }
}

fn warnings(reports: &[(String, Report)], differences: &[Difference]) -> Vec<String> {
    let mut found: Vec<String> = differences
        .iter()
        .map(|difference| {
            let told: Vec<String> = reports
                .iter()
                .zip(&difference.values)
                .map(|((name, _), value)| format!("{name}: {value}"))
                .collect();
            let consequence = match difference.key {
                "input.seeds" => "only seeds that two policies share are paired",
                "input.limits" => "shares of limits met do not compare",
                "input.tariff" => "money does not compare",
                _ => "differences between files are not differences between policies alone",
            };
            format!("The {} differ between files ({}); {consequence}.", difference.what, told.join("; "))
        })
        .collect();
    for (name, report) in reports {
        for warning in &report.warnings {
            if reports.iter().all(|(_, other)| other.warnings.contains(warning)) {
                if !found.contains(warning) {
                    found.push(warning.clone());
                }
            } else {
                found.push(format!("{name}: {warning}"));
            }
        }
    }
    found
}

fn policies(reports: &[(String, Report)], differences: &[Difference]) -> Vec<PolicyReport> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in reports.iter().flat_map(|(_, report)| &report.policies) {
        *counts.entry(&policy.name).or_insert(0) += 1;
    }
    let mut used = BTreeSet::new();
    let mut found = Vec::new();
    for (i, (file, report)) in reports.iter().enumerate() {
        for policy in &report.policies {
            let mut policy = policy.clone();
            if counts.get(policy.name.as_str()).is_some_and(|count| *count > 1) {
                policy.name = format!("{file}/{}", policy.name);
            }
            while !used.insert(policy.name.clone()) {
                policy.name.push('+');
            }
            for difference in differences {
                policy.parameters.insert(difference.key.to_owned(), difference.values[i].clone());
            }
            found.push(policy);
        }
    }
    found
}

fn title(reports: &[(String, Report)]) -> String {
    let titles: BTreeSet<&str> = reports.iter().map(|(_, report)| report.title.as_str()).collect();
    if titles.len() == 1 {
        return reports[0].1.title.clone();
    }
    let names: Vec<&str> = reports.iter().map(|(name, _)| name.as_str()).collect();
    format!("Comparison of {}", names.join(", "))
}

fn trace(reports: &[(String, Report)]) -> TraceSection {
    TraceSection {
        name: joined(reports, |r| r.trace.name.clone()),
        sha256: joined(reports, |r| r.trace.sha256.clone()),
        format: joined(reports, |r| r.trace.format.clone()),
        mapping: union(reports, |r| &r.trace.mapping),
        ..reports[0].1.trace.clone()
    }
}

fn inputs(reports: &[(String, Report)]) -> Inputs {
    let mut profiles = Vec::new();
    for profile in reports.iter().flat_map(|(_, report)| &report.inputs.profiles) {
        if !profiles.contains(profile) {
            profiles.push(profile.clone());
        }
    }
    Inputs {
        fleet: joined(reports, |r| r.inputs.fleet.clone()),
        primary_tariff: joined(reports, |r| r.inputs.primary_tariff.clone()),
        command: joined(reports, |r| r.inputs.command.clone()),
        profiles,
        ..reports[0].1.inputs.clone()
    }
}

/// The distinct values in order, joined by `; `.
fn joined(reports: &[(String, Report)], value: impl Fn(&Report) -> String) -> String {
    let mut distinct: Vec<String> = Vec::new();
    for (_, report) in reports {
        let value = value(report);
        if !value.is_empty() && !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct.join("; ")
}

/// All lines in order, each once.
fn union(reports: &[(String, Report)], lines: impl Fn(&Report) -> &Vec<String>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in reports.iter().flat_map(|(_, report)| lines(report)) {
        if !found.contains(line) {
            found.push(line.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{check, html, json, sample, table};
    use super::*;

    fn named(names: &[&str]) -> Vec<(String, Report)> {
        names.iter().map(|name| ((*name).to_owned(), sample::report(2, 2))).collect()
    }

    fn names(report: &Report) -> Vec<&str> {
        report.policies.iter().map(|policy| policy.name.as_str()).collect()
    }

    #[test]
    fn repeated_policies_get_their_file() {
        let merged = merge(named(&["a", "b"])).expect("same schema");
        assert_eq!(
            names(&merged),
            ["a/serverlesslora", "a/serverless-llm", "b/serverlesslora", "b/serverless-llm"]
        );
        assert_eq!(merged.warnings, sample::report(2, 2).warnings, "equal inputs, nothing to warn of");
        assert_eq!(check::check(&merged), Vec::<String>::new());
        let twins = merge(named(&["a", "a"])).expect("same schema");
        assert_eq!(names(&twins)[2], "a#2/serverlesslora");
    }

    #[test]
    fn one_report_comes_back_unchanged() {
        assert_eq!(merge(named(&["a"])), Ok(sample::report(2, 2)));
        assert_eq!(merge(Vec::new()), Err(CompareError::Empty));
    }

    #[test]
    fn other_versions_are_refused() {
        let mut reports = named(&["a", "b"]);
        reports[1].1.schema = "coldframe.report/9".into();
        let told = merge(reports).expect_err("another version").to_string();
        assert!(told.contains("b: its schema is `coldframe.report/9`"), "{told}");
    }

    #[test]
    fn every_differing_input_is_told() {
        fn told(change: impl FnOnce(&mut Report), words: &str) {
            let mut reports = named(&["a", "b"]);
            change(&mut reports[1].1);
            let merged = merge(reports).expect("same schema");
            assert!(merged.warnings[0].contains(words), "{words}: {:?}", merged.warnings);
            assert!(merged.policies.iter().all(|p| p.parameters.keys().any(|key| key.starts_with("input."))));
        }
        told(|r| r.trace.sha256 = "ff".into(), "traces differ");
        // A hash that differs late must not look equal.
        told(|r| r.trace.sha256.replace_range(60.., "0000"), "traces differ");
        told(|r| r.trace.mapping.clear(), "mappings of the trace differ");
        told(|r| r.inputs.gpus = 8, "fleets differ");
        told(|r| r.inputs.slo_ttft_s = 9.0, "limits differ");
        told(|r| r.inputs.primary_tariff = "other".into(), "primary tariffs differ");
        told(|r| r.inputs.profiles[0].source = "measured".into(), "profiles differ");
        told(|r| r.policies.iter_mut().for_each(|p| p.runs.truncate(1)), "seeds differ");
    }

    #[test]
    fn a_comparison_renders_and_reads_back() {
        let merged = merge(named(&["a", "b"])).expect("same schema");
        let back = json::parse(std::path::Path::new("m.json"), json::to_string(&merged).as_bytes());
        assert_eq!(back.expect("our own text"), merged);
        assert!(html::render(&merged).contains("b/serverless-llm"));
        assert!(table::render(&merged, &table::TableOptions::default()).contains("a/serverlesslora"));
        let comparison = Comparison::new(merged, Some("b/serverless-llm"));
        assert_eq!(comparison.baseline, "b/serverless-llm");
        assert_eq!(comparison.changes.len(), 3 * HEADLINE.len());
        let value: serde_json::Value = serde_json::from_str(&json::pretty(&comparison)).expect("JSON");
        assert_eq!(value["schema"], COMPARISON_SCHEMA);
    }
}
