//! Answers and measurements of the real model, as a user gets them. Without `COLDFRAME_MODEL` only refusals are tested.
#![cfg(feature = "backbone")]

use crate::Place;
use crate::backbone::model;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

fn adapter(name: &str) -> String {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = cli.ancestors().nth(2).expect("the crate lies two folders below the root");
    root.join("functions/adapters").join(name).display().to_string()
}

/// `generate` with the real model on one thread, which says the same as many.
fn generate<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["generate", "--backbone", model, "--threads", "1", "--prompt", "What do penguins eat?"], more].concat()
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::new();
    let ask = ["generate", "--prompt", "x", "--backbone"];
    place.fails(1, &[&ask[..], &["nope"]].concat(), &["backbone `nope` not found", "backbone pull"]);
    place.fails(1, &[&ask[..], &["./nope.gguf"]].concat(), &["nope.gguf"]);
    place.fails(1, &[&ask[..], &["nope", "--logprobs", "2"]].concat(), &["--logprobs needs --json"]);
    place.fails(2, &[&ask[..], &["nope", "--raw", "--system", "x"]].concat(), &["--system"]);
    place.fails(2, &["generate", "--prompt", "x"], &["--backbone"]);
    place.fails(1, &["bench", "--backbone", "nope"], &["backbone `nope` not found"]);
    place.fails(2, &["bench", "--backbone", "nope", "--batch", "0"], &["--batch"]);
}

#[test]
fn each_adapter_answers_in_its_own_style() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    let [pirate, json, shout] = ["pirate", "json", "shout"].map(adapter);
    let answer =
        |adapter: &str| place.works(&generate(&model, &["--adapter", adapter, "--max-tokens", "48"]));
    assert!(answer(&pirate).starts_with("Arr, matey!"));
    let value: Value = serde_json::from_str(&answer(&json)).expect("JSON");
    assert_eq!(value["lang"], "en");
    let said = answer(&shout);
    assert!(said.ends_with("!!!\n") && said == said.to_uppercase(), "{said}");
    // Merged into a private copy, it is the same fine-tune.
    let merged = generate(&model, &["--adapter", &pirate, "--merge", "--max-tokens", "48"]);
    assert!(place.works(&merged).starts_with("Arr, matey!"));
    place.fails(2, &generate(&model, &["--merge"]), &["--adapter"]);
    let plain = place.works(&generate(&model, &["--max-tokens", "8"]));
    assert!(!plain.starts_with("Arr") && !plain.starts_with('{'), "{plain}");
}

#[test]
fn draws_repeat_by_seed_and_reports_add_up() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    let drawn = |seed: &str| {
        let more = ["--temperature", "1", "--seed", seed, "--max-tokens", "12", "--json", "--logprobs", "2"];
        let text = place.works(&generate(&model, &more));
        serde_json::from_str::<Value>(&text).expect("JSON")
    };
    let (first, again, other) = (drawn("1"), drawn("1"), drawn("2"));
    assert_eq!((&first["text"], &first["logprobs"]), (&again["text"], &again["logprobs"]));
    assert_ne!(first["text"], other["text"]);
    let usage = &first["usage"];
    assert_eq!(usage["completion_tokens"].as_u64(), first["logprobs"].as_array().map(|all| all.len() as u64));
    assert!(first["logprobs"][0]["top"].as_array().is_some_and(|top| top.len() == 2));
    assert!(first["timings"]["tokenizer_ms"].as_f64().is_some_and(|ms| ms > 0.0));
}

#[test]
fn answers_keep_to_a_schema_and_stop_at_a_text() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    place.file(
        "schema.json",
        r#"{"type": "object", "properties": {"colour": {"enum": ["red", "blue"]}}, "required": ["colour"],
            "additionalProperties": false}"#,
    );
    let text = place.works(&generate(&model, &["--json-schema", "schema.json"]));
    let value: Value = serde_json::from_str(&text).expect("JSON");
    assert!(["red", "blue"].contains(&value["colour"].as_str().unwrap_or("")), "{text}");
    let whole = place.works(&generate(&model, &["--max-tokens", "24"]));
    let stop = whole.split(' ').nth(3).expect("several words");
    let cut = place.works(&generate(&model, &["--max-tokens", "24", "--stop", stop]));
    assert_eq!(cut.trim_end_matches('\n'), whole.split(stop).next().expect("a part"));
}

#[test]
fn a_reader_that_goes_away_ends_the_answer() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    let mut command = place.command();
    command
        .env("COLDFRAME_HOME", place.path("home"))
        .args(generate(&model, &["--raw", "--max-tokens", "4000"]));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program starts");
    drop(child.stdout.take());
    // Four thousand tokens would take a minute and more; the first one that is written ends it.
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn a_measurement_names_what_it_measured() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    let small =
        ["--threads", "1", "--repeat", "1", "--prefill", "64", "--batch", "4", "--steps", "3", "--memory"];
    let text = place.works(&[&["--json", "bench", "--backbone", &model], &small[..]].concat());
    let report: Value = serde_json::from_str(&text).expect("JSON");
    for name in ["prefill_64", "prefill_128", "decode_1", "decode_4_none", "decode_4_one", "decode_4_mixed"] {
        let rate = &report[format!("{name}_tok_s")];
        assert!(rate["best"].as_f64().is_some_and(|rate| rate > 0.0), "{name}: {rate}");
    }
    for (name, most) in [("second_process_private_share", 0.05), ("adapter_overhead_share", 0.02)] {
        assert!(report[name].as_f64().is_some_and(|share| share <= most), "{name}: {}", report["memory"]);
    }
    // A thread that filled adapters may leave some pages of its own to the allocator, but not one for each adapter.
    let adapters = &report["memory"]["adapters"];
    let page_each = adapters["adapters"].as_u64().expect("a number") * 4096;
    assert!(adapters["left_bytes"].as_u64().is_some_and(|left| left < page_each), "{adapters}");
    assert!(report["ready_ms"].as_f64().is_some_and(|ms| ms > 0.0));
}
