//! A profile of one machine: replayed with, compared with itself, asked what if; and, with `COLDFRAME_MODEL`, measured.
#![cfg(all(feature = "backbone", feature = "host"))]

use crate::backbone::model;
use crate::{Place, sample};
use serde_json::Value;

/// A machine made up for these tests; no number of it was measured.
const MACHINE: &str = r#"
[gpu]
name = "box"
about = "made up"
source = "made up"
memory_bytes = 1_000_000_000
memory_bytes_per_s = 10_000_000_000
host_link_bytes_per_s = 5_000_000_000
power_w = 0

[model]
name = "tiny"
source = "made up"
layers = 10
hidden = 64
vocab = 1000
weight_bytes = 100_000_000
kv_bytes_per_token = 20_000
adapter_bytes_per_rank = 500_000

[step]
source = "made up"
host_ps = 100_000_000
adapter_layer_ps = 10_000_000
adapter_token_ps = 1_000_000

[[step.row]]
name = "calibrated,box,tiny"
gpu = "box"
model = "tiny"
prefill_floor_ps = 2_000_000_000
prefill_a_ps = 1_000_000_000
prefill_b_ps = 100_000_000
prefill_c_ps = 1_000
decode_a_ps = 5_000_000_000
decode_b_ps = 200_000_000
decode_c_ps = 100_000

[cold-start]
name = "box"
about = "made up"
source = "made up"
container_ns = 1_000_000
runtime_ns = 5_000_000
runtime_bytes = 0
backbone_fixed_ns = 20_000_000
adapter_fixed_ns = 30_000_000
adapter_fast_ns = 30_000_000
adapter_disk_ns = 30_000_000
adapter_activate_ns = 10_000_000
kernel_ns = 3_000_000
kernel_restore_ns = 3_000_000
kernel_bytes = 1_000_000
remote_bytes_per_s = 1_000_000_000
disk_bytes_per_s = 1_000_000_000
default_loader_bytes_per_s = 1_000_000_000
fast_loader_bytes_per_s = 1_000_000_000
host_bytes_per_s = 5_000_000_000

[fleet]
name = "box"
about = "made up"
source = "made up"
workers = 1
gpus_per_worker = 1
gpu = "box"
host_memory_bytes = 4_000_000_000
vcpus = 2

[tariff]
name = "box"
about = "made up"
source = "made up"
seen = "never"
gpu_basis = "reserved"
bill_startup = true
bill_idle = true
life = "exact"
vcpu_nano_usd_per_s = 0
memory_nano_usd_per_gb_s = 0
request_nano_usd = 0

[tariff.gpu_nano_usd_per_s]
box = 20_000
"#;

/// Calls of four functions, some together, some far apart.
fn calls(place: &Place) {
    let rows = (0..60u32).map(|n| {
        let (at, f) = (f64::from(n) * 0.7 + f64::from(n % 5) * 0.05, n * 3 % 4);
        format!("{at:.2},f{f},f{f},elsewhere,{},{}\n", 10 + n % 40, 4 + n % 6)
    });
    place.trace("calls.csv", &rows.collect::<String>());
    place.file("box.toml", MACHINE);
}

const SIM: [&str; 8] =
    ["replay", "--trace", "calls.csv", "--sort", "--profile", "box.toml", "--policy", "coldframe"];

#[test]
fn one_file_stands_for_the_whole_machine() {
    let place = Place::new();
    calls(&place);
    place.good(&[&SIM[..], &["--out", "r.json"]].concat());
    let report = place.json("r.json");
    let used: Vec<&str> = report["inputs"]["profiles"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert_eq!(used, ["box", "tiny", "calibrated,box,tiny", "box", "box"]);
    let run = &report["policies"][0]["runs"][0];
    assert_eq!(run["requests"]["completed"], 60);
    assert!(run["bills"][0]["total_nano_usd"].as_u64().is_some_and(|nano| nano > 0));
    place.good(&[
        "replay",
        "--trace",
        &sample(),
        "--gpu",
        "box.toml",
        "--model",
        "box.toml",
        "--step",
        "box.toml",
        "--cold-start",
        "box.toml",
        "--workers",
        "1",
        "--policy",
        "coldframe",
        "--adapters",
        "3",
        "--tariff",
        "box.toml",
    ]);
    place.bad(2, &[&SIM[..], &["--gpu", "l40s"]].concat(), &["--gpu"]);
    let small = [&SIM[..], &["--gpu-memory-gb", "0.05"]].concat();
    place.bad(1, &small, &["no GPU of this fleet can hold tiny"]);
}

#[test]
fn the_simulator_agrees_with_itself() {
    let place = Place::new();
    calls(&place);
    place.good(&[&SIM[..], &["--out", "r.json"]].concat());
    let fidelity = [&["fidelity"], &SIM[1..], &["--live-report", "r.json"]].concat();
    place.good(&[&fidelity[..], &["--sim-log", "log.jsonl"]].concat());
    let more = ["--host-log", "log.jsonl", "--html", "f.html", "--json"];
    let found: Value = serde_json::from_str(&place.good(&[&fidelity[..], &more].concat())).expect("JSON");
    for (key, value) in found["summary"].as_object().expect("an object") {
        let wanted = if key.starts_with("decisions") { 1.0 } else { 0.0 };
        assert_eq!(value.as_f64(), Some(wanted), "{key}");
    }
    assert_eq!(found["summary"].as_object().map(serde_json::Map::len), Some(9), "{}", found["summary"]);
    assert_eq!(found["first_difference"], Value::Null);
    assert_eq!(found["host_log_decided_again"][0]["parted"], Value::Null);
    assert!(place.text("f.html").contains("100.0 % of them common in order"));
    place.bad(1, &[&["fidelity"], &SIM[1..]].concat(), &["--live"]);
    place.bad(
        1,
        &[&fidelity[..], &["--host-log", "log.jsonl", "--host-log", "log.jsonl"]].concat(),
        &["one for each"],
    );
}

#[test]
fn a_live_runs_sender_and_its_minutes_are_simulated_too() {
    let place = Place::new();
    calls(&place);
    place.good(&[&SIM[..], &["--out", "r.json"]].concat());
    let fidelity = [&["fidelity"], &SIM[1..], &["--live-report", "late.json", "--json"]].concat();
    let ttft = |found: &str| {
        let found: Value = serde_json::from_str(found).expect("JSON");
        let rows = found["rows"].as_array().expect("rows").clone();
        let row = rows.into_iter().find(|row| row["key"] == "ttft_mean").expect("a row");
        (row["live"].as_f64().expect("live"), row["simulated"].as_f64().expect("simulated"))
    };
    let mut report = place.json("r.json");
    let calls = report["policies"][0]["runs"][0]["requests"]["arrived"].as_u64().expect("calls");
    let late = vec![7000; usize::try_from(calls).expect("few")];
    report["policies"][0]["runs"][0]["sent_late_us"] = Value::from(late);
    place.file("late.json", report.to_string());
    let (live, simulated) = ttft(&place.good(&[&fidelity[..], &["--requests", "rows.csv"]].concat()));
    assert!((simulated - live - 0.007).abs() < 1e-6, "{live} {simulated}: all of it comes 7 ms later");
    assert_eq!(place.text("rows.csv").lines().count() as u64, calls + 1, "a row a simulated call");
    place.good(&[&fidelity[..], &["--sim-log", "log.jsonl"]].concat());
    let logged = ["--host-log", "log.jsonl", "--requests", "logged.csv"];
    place.good(&[&fidelity[..], &logged].concat());
    let functions = |name: &str| {
        let text = place.text(name);
        let mut rows: Vec<String> = text
            .lines()
            .skip(1)
            .map(|row| row.split(',').skip(2).take(2).collect::<Vec<_>>().join(","))
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(
        functions("logged.csv"),
        functions("rows.csv"),
        "each call by its number and its function's name"
    );
    // The second run's minutes are slow ones.
    let slow = place.text("box.toml").replace("prefill_b_ps = 100_000_000", "prefill_b_ps = 300_000_000");
    place.file("slow.toml", &slow);
    let two = [&fidelity[..], &["--live-report", "r.json", "--run-profile", "box.toml"]].concat();
    place.bad(1, &two, &["1 profiles of runs for 2 live runs"]);
    let (_, both) = ttft(&place.good(&[&two[..], &["--run-profile", "slow.toml"]].concat()));
    let (_, same) = ttft(&place.good(&[&two[..], &["--run-profile", "box.toml"]].concat()));
    assert!((same - live - 0.0035).abs() < 1e-6, "{live} {same}: one of the two is late");
    assert!(both > same, "{both} {same}");
}

#[test]
fn a_log_answers_what_if() {
    let place = Place::new();
    calls(&place);
    place.good(&[&SIM[..], &["--out", "r.json"]].concat());
    place.good(&[&["fidelity"], &SIM[1..], &["--live-report", "r.json", "--sim-log", "log.jsonl"]].concat());
    let ask = ["whatif", "log.jsonl", "--profile", "box.toml", "--out", "w.json", "--trace-out", "t.csv"];
    place.good(&[&ask[..], &["--policy", "coldframe,serverlesslora"]].concat());
    let (run, asked) = (place.json("r.json"), place.json("w.json"));
    let total = |report: &Value| report["policies"][0]["runs"][0]["bills"][0]["total_nano_usd"].clone();
    assert_eq!(total(&asked), total(&run), "the policy that ran costs what it cost");
    assert_eq!(asked["policies"].as_array().map(Vec::len), Some(2));
    assert_eq!(asked["policies"][1]["runs"][0]["functions"].as_array().map(Vec::len), Some(4));
    assert!(place.text("t.csv").lines().count() > 60);
    place.good(&[&ask[..], &["--policy", "coldframe", "--", "--set", "keep_alive.adapter_s=1"]].concat());
    place.file("empty.jsonl", "");
    place.bad(1, &["whatif", "empty.jsonl", "--profile", "box.toml"], &["the log is empty"]);
}

#[test]
fn this_machine_can_be_measured() {
    let place = Place::new();
    place.bad(2, &["calibrate", "--backbone", "x"], &["--out"]);
    place.bad(2, &["calibrate", "--backbone", "x", "--out", "p.toml", "--refit"], &["--points"]);
    let both =
        ["calibrate", "--backbone", "x", "--out", "p.toml", "--points", "p.jsonl", "--refit", "--rank", "8"];
    place.bad(2, &both, &["--refit", "--rank"]);
    let none = ["calibrate", "--backbone", "x", "--out", "p.toml", "--refit", "--points", "none.jsonl"];
    place.fails(1, &none, &["none.jsonl", "one run at least"]);
    place.fails(1, &["calibrate", "--backbone", "./none.gguf", "--out", "p.toml"], &["none.gguf"]);
    let Some(model) = model() else { return };
    calls(&place);
    let model = model.display().to_string();
    let files = ["--out", "p.toml", "--html", "p.html", "--points", "p.jsonl"];
    let options = [&["--quick", "--price-per-hour", "0.1"], &files[..]].concat();
    let found =
        place.works(&[&["--json", "calibrate", "--backbone", &model, "--batch", "4"], &options[..]].concat());
    let found: Value = serde_json::from_str(&found).expect("JSON");
    assert!(found["fits"].as_array().is_some_and(|fits| fits.len() == 7), "{found}");
    assert!(place.text("p.html").contains("Prefill"));
    // Refused before anything is measured: nothing is said of it.
    let other = [&["calibrate", "--backbone", &model, "--batch", "2"], &options[..]].concat();
    place.fails(1, &other, &["p.jsonl", "batch", "4", "2"]);
    assert!(!place.at_home(&other).stderr.contains("bandwidths"));
    assert_eq!(place.text("p.jsonl").lines().count(), 1);
    let again = ["calibrate", "--backbone", &model, "--points", "p.jsonl", "--refit", "--out", "again.toml"];
    place.works(&again);
    assert_eq!(place.text("again.toml"), place.text("p.toml"), "of the same run");
    place.good(&["replay", "--trace", "calls.csv", "--sort", "--profile", "p.toml", "--policy", "coldframe"]);
}
