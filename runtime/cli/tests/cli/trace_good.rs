//! Traces looked at, converted, cut, composed and generated; records survive every format of ours.

use crate::{Place, sample};
use serde_json::Value;

/// Rows of a CSV trace, without its notes.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

#[test]
fn records_survive_every_format() {
    let place = Place::new();
    let trace = sample();
    place.good(&["trace", "convert", &trace, "-o", "a.csv"]);
    place.good(&["trace", "convert", "a.csv", "-o", "b.jsonl.zst"]);
    place.good(&["trace", "convert", "b.jsonl.zst", "-o", "c.parquet"]);
    place.good(&["trace", "convert", "c.parquet", "-o", "d.csv.gz"]);
    place.good(&["trace", "convert", "d.csv.gz", "-o", "e.csv"]);
    let (first, last) = (place.text("a.csv"), place.text("e.csv"));
    assert!(rows(&first).len() > 1000);
    assert_eq!(rows(&first), rows(&last));
    assert_eq!(rows(&place.good(&["trace", "convert", "c.parquet"])), rows(&first));
    // A replay sees the same trace in each.
    let digest = |file: &str| {
        let json = place.good(&["replay", "--trace", file, "--policy", "vllm", "--json", "-q"]);
        let report: Value = serde_json::from_str(&json).expect("JSON");
        report["policies"][0]["runs"][0]["event_digest"].clone()
    };
    assert_eq!(digest("a.csv"), digest("c.parquet"));
}

#[test]
fn info_tells_and_draws() {
    let place = Place::new();
    let text = place.good(&["trace", "info", &sample(), "--html", "info.html"]);
    assert!(text.contains("CoV") && text.contains("sha256"), "{text}");
    let page = place.text("info.html");
    assert!(!page.contains("src=\"http") && !page.contains("href=\"http"));
    let json: Value =
        serde_json::from_str(&place.good(&["trace", "info", &sample(), "--json"])).expect("JSON");
    assert_eq!(json["file"], "demo-bursty.csv.gz");
}

#[test]
fn sample_compose_generate() {
    let place = Place::new();
    let trace = sample();
    let all = rows(&place.good(&["trace", "convert", &trace])).len();
    let count = |args: &[&str]| {
        let mut typed = vec!["trace"];
        typed.extend(args);
        rows(&place.good(&typed)).len()
    };
    let cut = count(&["sample", &trace, "--until", "10m"]);
    assert!(cut > 1 && cut < all, "{cut} of {all}");
    let thin = count(&["sample", &trace, "--thin", "0.5"]);
    assert!(thin > all / 3 && thin < 2 * all / 3, "{thin} of {all}");
    assert_eq!(count(&["sample", &trace, "--repeat", "2"]), 2 * all - 1);
    assert_eq!(count(&["sample", &trace, "--compress", "2"]), all);
    let composed = place.good(&[
        "trace",
        "compose",
        &trace,
        "--functions",
        "5",
        "--zipf",
        "1.0",
        "--lengths-law",
        "gsm8k",
    ]);
    assert_eq!(rows(&composed).len(), all);
    assert!(composed.contains("demo-bursty.csv.gz sha256"));
    assert!(place.good(&["trace", "generate", "--list"]).contains("paper-bursty"));
    for name in ["demo-zipf", "paper-normal"] {
        let typed = ["trace", "generate", name, "--seed", "2"];
        assert_eq!(place.good(&typed), place.good(&typed), "{name} differs between runs");
    }
    let made = ["trace", "generate", "zipf", "--functions", "5", "--span", "10m", "-o", "z.parquet"];
    place.good(&made);
    assert!(place.good(&["trace", "info", "z.parquet"]).contains("functions"));
}

#[test]
fn invocations_are_replayed_by_keep_alive() {
    let place = Place::new();
    place.file("calls.csv", "arrival_s,function,duration_s\n0,f,1\n10,f,1\n1000,f,1\n");
    let text = place.good(&["replay-invocations", "--trace", "calls.csv", "--keep-alive", "0,60,forever"]);
    assert!(text.contains("forever"), "{text}");
    let json = place.good(&["replay-invocations", "--trace", "calls.csv", "--keep-alive", "0,60", "--json"]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(2));
}

#[test]
fn the_paper_command_writes_every_case() {
    let place = Place::new();
    let text = place.good(&["paper", "--seeds", "1", "--out", "paper", "--", "--repeat", "1"]);
    assert!(text.contains("serverlesslora") && text.contains("bursty windows, engine"), "{text}");
    let made = std::fs::read_dir(place.path("paper")).expect("written").count();
    assert_eq!(made, 12, "three classes, two regimes, a report and a page each");
}
