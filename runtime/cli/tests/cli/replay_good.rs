//! Replays that work: the table, the report, the page, the rows, the timeline, and what does not change them.

use crate::{Place, sample};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;
use std::fs::File;

const FOUR: [&str; 4] = ["vllm", "serverlessllm", "instainfer", "serverlesslora"];

#[test]
fn four_policies_table_report_page() {
    let place = Place::new();
    let trace = sample();
    let table = place.good(&["replay", "--trace", &trace, "--out", "new/r.json", "--html", "page.html"]);
    for policy in FOUR {
        assert!(table.contains(policy), "{policy} is not in the table:\n{table}");
    }
    assert_eq!(place.names(), ["new", "page.html"]);
    let page = place.text("page.html");
    for loads in ["src=\"http", "href=\"http", "src='http", "href='http", "url(http", "@import", "<link"] {
        assert!(!page.contains(loads), "the page loads something: {loads}");
    }
    assert!(FOUR.iter().all(|policy| page.contains(policy)));
    let compared = place.good(&["compare", "new/r.json", "--baseline", "vllm"]);
    assert!(FOUR.iter().all(|policy| compared.contains(policy)), "{compared}");
    let csv = place.good(&["compare", "new/r.json", "--csv"]);
    assert!(csv.starts_with("policy,metric,unit,seeds,mean,low,high\n") && csv.contains("vllm,ttft_mean,"));
    let json: Value = serde_json::from_str(&place.good(&["compare", "new/r.json", "--json"])).expect("JSON");
    assert_eq!(json["schema"], "coldframe.comparison/1");
    place.good(&["compare", "new/r.json", "new/r.json", "--out", "both.json", "--html", "both.html"]);
    assert!(place.good(&["compare", "both.json"]).contains("r/vllm"));
}

#[test]
fn json_on_stdout_is_a_report() {
    let place = Place::new();
    let printed = place.good(&["replay", "--trace", &sample(), "--policy", "vllm", "--json", "--quiet"]);
    place.file("printed.json", &printed);
    assert_eq!(place.json("printed.json")["schema"], "coldframe.report/1");
    assert!(place.good(&["compare", "printed.json"]).contains("vllm"));
}

#[test]
fn threads_change_nothing_but_speed() {
    let place = Place::new();
    let trace = sample();
    for (jobs, name) in [("1", "a.json"), ("2", "b.json")] {
        let args = ["replay", "--trace", &trace, "--policy", "vllm,serverlesslora", "--seeds", "2"];
        let mut all = args.to_vec();
        all.extend(["--jitter", "100", "--out", name, "--jobs", jobs]);
        place.good(&all);
    }
    let stripped = |name: &str| {
        let mut report = place.json(name);
        // The command names its own output and threads.
        report["inputs"]["command"] = Value::Null;
        for policy in report["policies"].as_array_mut().expect("policies") {
            for run in policy["runs"].as_array_mut().expect("runs") {
                assert!(run["speed"].is_object());
                run["speed"] = Value::Null;
            }
        }
        report
    };
    assert_eq!(stripped("a.json"), stripped("b.json"));
}

#[test]
fn one_row_per_request() {
    let place = Place::new();
    let trace = sample();
    let args = ["replay", "--trace", &trace, "--policy", "serverlesslora", "--out", "r.json"];
    let with = |more: &[&str]| {
        let mut all = args.to_vec();
        all.extend(more);
        place.good(&all);
    };
    with(&["--requests", "rows.csv", "--timeline", "t.json"]);
    let arrived = place.json("r.json")["policies"][0]["runs"][0]["requests"]["arrived"].as_u64();
    let rows = place.text("rows.csv");
    let documented = "policy,seed,id,function,adapter,base_model,gpu,outcome,cold_kind,arrival_ns";
    assert!(rows.starts_with(documented), "{:?}", rows.lines().next());
    assert_eq!(Some(rows.lines().count() as u64 - 1), arrived);
    assert!(!place.json("t.json")["traceEvents"].as_array().expect("events").is_empty());
    with(&["--requests", "rows.parquet"]);
    let file = File::open(place.path("rows.parquet")).expect("written");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    assert_eq!(u64::try_from(reader.metadata().file_metadata().num_rows()).ok(), arrived);
}

#[test]
fn a_shown_policy_can_be_changed_and_replayed() {
    let place = Place::new();
    let shown = place.good(&["policies", "show", "serverlesslora"]);
    place.file("mine.toml", shown.replace("name = \"serverlesslora\"", "name = \"mine\""));
    let table = place.good(&["replay", "--trace", &sample(), "--policy", "serverlesslora,mine.toml"]);
    assert!(table.contains("mine"), "{table}");
    for name in place.good(&["policies", "list"]).lines().filter_map(|l| l.split(' ').next()) {
        assert!(place.good(&["policies", "show", name]).contains(&format!("name = \"{name}\"")));
    }
    place.trace("t.csv", "0,f,a,llama-2-7b,10,10\n");
    let json = place.good(&[
        "replay",
        "--trace",
        "t.csv",
        "--policy",
        "vllm",
        "--set",
        "engine.max_sequences=7",
        "--json",
    ]);
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["policies"][0]["parameters"]["engine.max_sequences"], "7");
}

#[test]
fn odd_but_right_input_works() {
    let place = Place::new();
    place.trace("t.csv", "0,f,a,llama-2-7b,10,10\n");
    place.trace("huge.csv", "0,f,a,llama-2-7b,99999999,10\n");
    place.trace("late.csv", "9999999999,f,a,llama-2-7b,10,10\n");
    for args in [
        &["--trace", "t.csv", "--rank", "0"][..],
        &["--trace", "t.csv", "--jobs", "0"],
        &["--trace", "t.csv", "--vcpus", "0"],
        &["--trace", "t.csv", "--host-memory-gb", "0.001"],
        &["--trace", "huge.csv"],
        &["--trace", "late.csv"],
        &["--trace", "paper-bursty", "--policy", "vllm"],
    ] {
        let mut all = vec!["replay"];
        all.extend(args);
        place.good(&all);
    }
}

#[test]
fn a_fleet_too_small_for_every_backbone_is_told() {
    let place = Place::new();
    let ran = place.run(&["replay", "--trace", &sample(), "--policy", "vllm", "--workers", "1"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("requests to llama-2-13b are refused"), "{}", ran.stderr);
}

#[test]
fn a_preset_without_the_public_data_says_so() {
    let place = Place::new();
    let ran = place.run(&["replay", "--trace", "paper-bursty", "--policy", "vllm", "--out", "r.json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("fitted laws"), "{}", ran.stderr);
    assert!(place.json("r.json")["warnings"].to_string().contains("fitted laws"));
}

#[test]
fn an_empty_data_variable_is_one_that_is_not_set() {
    let place = Place::new();
    for (value, code) in [("", 0), ("gone", 1)] {
        let mut command = place.command();
        command.env("COLDFRAME_DATA", value).args(["replay", "--trace", "paper-bursty", "--policy", "vllm"]);
        let out = command.output().expect("starts");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{value:?}: {said}");
        assert!(code == 0 || said.contains("gone is no folder"), "{said}");
    }
}

#[test]
fn help_and_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.good(&["completions", shell]).contains("replay-invocations"), "{shell}");
    }
    for command in [
        "",
        "replay",
        "compare",
        "trace",
        "trace info",
        "trace convert",
        "trace sample",
        "trace compose",
        "trace generate",
        "trace formats",
        "policies",
        "policies list",
        "policies show",
        "profiles",
        "profiles list",
        "profiles show",
        "paper",
        "validate",
        "validate timeline",
        "validate ground-truth",
        "replay-invocations",
        "bench-replay",
        "completions",
    ] {
        let mut args: Vec<&str> = command.split_whitespace().collect();
        args.push("--help");
        assert!(place.good(&args).contains("Usage"), "{command}");
    }
    for args in
        [&["profiles", "list"][..], &["policies", "list"], &["trace", "formats"], &["validate", "timeline"]]
    {
        place.good(args);
        let mut json = args.to_vec();
        json.push("--json");
        serde_json::from_str::<Value>(&place.good(&json)).expect("JSON");
    }
}
