//! `coldframe fidelity-table`: several comparisons in one table, and the worst of each number; the last line is one JSON
//! object.

use crate::ui::{Ui, print};
use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Promised numbers in the order of the table; whether more is better.
const KEYS: [(&str, bool); 7] = [
    ("decisions_equal", true),
    ("ttft_mean_err", false),
    ("ttft_p50_err", false),
    ("ttft_p95_err", false),
    ("tpot_err", false),
    ("cold_count_err", false),
    ("money_err", false),
];

/// Beside the mean share of equal fates: where they agree least, and what live runs share among themselves, which is what a
/// simulation of them can.
const FATES: [(&str, &str); 3] = [
    ("decisions_equal_least", "least equal"),
    ("decisions_equal_live", "equal live"),
    ("decisions_equal_live_least", "least live"),
];

/// Put several comparisons into one table
#[derive(Args)]
pub struct TableArgs {
    /// What `coldframe fidelity --out` wrote
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
}

/// Reads and tells.
pub fn run(args: TableArgs, _ui: &Ui) -> Result<()> {
    let all = args.files.iter().map(|path| Ok((name(path), read(path)?))).collect::<Result<Vec<_>>>()?;
    print(&table(&all))?;
    print(&format!("{}\n", Value::Object(worst(&all))))
}

/// The comparison's name: the file's own, or that of its folder where it has the usual one.
fn name(path: &Path) -> String {
    let own = path.file_stem().filter(|stem| *stem != "fidelity");
    let folder = path.parent().and_then(Path::file_name).unwrap_or(path.as_os_str());
    own.unwrap_or(folder).to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    ensure!(
        value["summary"].is_object(),
        "{} is no comparison: give files that `coldframe fidelity --out` wrote",
        path.display()
    );
    Ok(value)
}

fn table(all: &[(String, Value)]) -> String {
    let mut out = format!("{:28}", "");
    for (key, _) in KEYS {
        out += &format!(" {:>15}", key);
    }
    for (_, heading) in FATES {
        out += &format!(" {heading:>11}");
    }
    out += &format!(" {:>11} {:>11}\n", "noise mean", "noise p95");
    for (name, value) in all {
        let shown = |key: &str| {
            value["summary"][key].as_f64().map_or("–".to_owned(), |v| format!("{:.1} %", v * 100.0))
        };
        out += &format!("{name:28}");
        for (key, _) in KEYS {
            out += &format!(" {:>15}", shown(key));
        }
        for (key, _) in FATES {
            out += &format!(" {:>11}", shown(key));
        }
        for key in ["ttft_mean", "ttft_p95"] {
            out += &format!(" {:>9.1} %", noise(value, key) * 100.0);
        }
        out.push('\n');
    }
    out
}

/// Half the spread of the live runs over their mean.
fn noise(value: &Value, key: &str) -> f64 {
    let rows = value["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().find(|row| row["key"] == key).and_then(|row| row["noise"].as_f64()).unwrap_or(f64::NAN)
}

/// The worst of each number; what some comparison does not have is left out.
fn worst(all: &[(String, Value)]) -> Map<String, Value> {
    let mut found = Map::new();
    for (key, more) in KEYS {
        let values: Option<Vec<f64>> = all.iter().map(|(_, value)| value["summary"][key].as_f64()).collect();
        let pick = if more { f64::min } else { f64::max };
        if let Some(value) = values.and_then(|values| values.into_iter().reduce(pick)) {
            found.insert(key.to_owned(), json!((value * 1e4).round() / 1e4));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{name, table, worst};
    use serde_json::json;
    use std::path::Path;

    #[test]
    fn comparisons_have_names() {
        assert_eq!(name(Path::new("a/bursty-vllm/fidelity.json")), "bursty-vllm");
        assert_eq!(name(Path::new("a/normal-vllm.json")), "normal-vllm");
    }

    #[test]
    fn the_worst_of_each_is_told_and_what_one_lacks_is_not() {
        let a = json!({"summary": {"decisions_equal": 0.99, "decisions_equal_live": 0.977, "decisions_equal_least": 0.931, "ttft_mean_err": 0.02, "tpot_err": 0.1},
            "rows": [{"key": "ttft_mean", "noise": 0.013}]});
        let b = json!({"summary": {"decisions_equal": 1.0, "ttft_mean_err": 0.07}, "rows": []});
        let all = [("a".to_owned(), a), ("b".to_owned(), b)];
        let found = worst(&all);
        assert_eq!(serde_json::Value::Object(found), json!({"decisions_equal": 0.99, "ttft_mean_err": 0.07}));
        let text = table(&all);
        assert!(
            text.contains("7.0 %")
                && text.contains("1.3 %")
                && text.contains("97.7 %")
                && text.contains("93.1 %")
                && text.lines().count() == 3,
            "{text}"
        );
    }
}
