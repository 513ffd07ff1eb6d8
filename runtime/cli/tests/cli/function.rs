//! Functions as their authors meet them: made, built, checked, run on the real model. Without `COLDFRAME_MODEL` nothing is
//! run; what a language's tools cannot build here is said and skipped.
#![cfg(feature = "sandbox")]

use crate::Place;
use crate::backbone::model;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Examples with code, each with a committed component.
const WITH_CODE: [&str; 5] = ["json-extract", "guardrail", "router", "tool-loop", "budget-hog"];

fn root() -> PathBuf {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    cli.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}

fn example(name: &str) -> String {
    root().join("functions").join(name).display().to_string()
}

/// `function run` of a folder on the real model, on one thread.
fn ask<'a>(model: &'a str, folder: &'a str, prompt: &'a str) -> Vec<&'a str> {
    vec!["function", "run", folder, "--backbone", model, "--threads", "1", "--prompt", prompt]
}

#[test]
fn a_new_function_is_whole_and_never_written_over() {
    let place = Place::new();
    let adapter = example("adapters/pirate");
    for (lang, source) in
        [("rust", "src/lib.rs"), ("js", "handler.js"), ("py", "handler.py"), ("c", "handler.c")]
    {
        let name = format!("hello-{lang}");
        place.works(&["function", "new", &name, "--lang", lang, "--adapter", &adapter]);
        let manifest = place.text(&format!("{name}/coldframe.toml"));
        assert!(
            manifest.contains("name = \"pirate\"") && manifest.contains(&format!("lang = \"{lang}\"")),
            "{manifest}"
        );
        assert!(place.text(&format!("{name}/{source}")).contains(&name));
        place.fails(1, &["function", "check", &name], &["function build"]);
        place.fails(1, &["function", "new", &name, "--lang", lang], &["is there already"]);
    }
    place.works(&["function", "new", "plain", "--no-code", "--adapter", &adapter]);
    let said = place.works(&["function", "check", "plain"]);
    assert!(said.contains("the built-in handler"), "{said}");
    place.fails(1, &["function", "new", "No Name", "--lang", "c"], &["is no name"]);
    place.fails(2, &["function", "new", "a", "--lang", "cobol"], &["cobol"]);
    place.fails(1, &["function", "new", "b", "--lang", "c", "--adapter", "nowhere"], &["nowhere"]);
}

#[test]
fn what_is_wrong_with_a_manifest_is_said_with_its_line() {
    let place = Place::new();
    place.fails(1, &["function", "check", "."], &["coldframe.toml", "function new"]);
    place.file("coldframe.toml", "name = \"a\"\nbackbone = \"b\"\nadapterz = []\n");
    place.fails(1, &["function", "check", "."], &["line 3", "unknown field `adapterz`"]);
    let gone = "name = \"a\"\nbackbone = \"b\"\n[[adapters]]\nname = \"x\"\npath = \"gone\"\n";
    place.file("coldframe.toml", gone);
    place.fails(1, &["function", "check", "."], &["adapter `x`", "is not there"]);
    place.file("coldframe.toml", "name = \"a\"\nbackbone = \"b\"\nmodule = \"m.wasm\"\n");
    place.file("m.wasm", b"\0asm\x01\0\0\0");
    place.fails(1, &["function", "check", "."], &["refused"]);
}

#[test]
fn every_example_keeps_to_its_manifest() {
    let place = Place::new();
    for name in WITH_CODE.into_iter().chain(["chat"]) {
        let report = place.works(&["function", "check", &example(name), "--json"]);
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["problems"], Value::Array(Vec::new()), "{name}");
        assert_eq!(report["warnings"], Value::Array(Vec::new()), "{name}");
        assert_eq!(report["name"], name);
    }
}

#[test]
fn committed_components_are_those_of_the_digest_file() {
    let place = Place::new();
    let sums = std::fs::read_to_string(root().join("functions/SHA256SUMS")).expect("digests");
    assert_eq!(sums.lines().count(), WITH_CODE.len());
    for line in sums.lines() {
        let (digest, path) = line.split_once("  ").expect("a digest and a path");
        let name = path.split('/').next().expect("a folder");
        let report = place.works(&["function", "check", &example(name), "--json"]);
        let report: Value = serde_json::from_str(&report).expect("JSON");
        assert_eq!(report["component"]["sha256"], digest, "{path}: run scripts/build-functions.sh --commit");
        assert!(report["component"]["bytes"].as_u64().expect("bytes") < 300_000, "{path}");
    }
}

/// A manifest that grants less than the code imports is refused by the import's name.
#[test]
fn an_import_that_is_not_granted_is_named() {
    let place = Place::new();
    let module = root().join("functions/guardrail/guardrail.wasm").display().to_string();
    place.file("coldframe.toml", format!("name = \"a\"\nbackbone = \"b\"\nmodule = \"{module}\"\n"));
    place.fails(1, &["function", "check", "."], &["coldframe:function/state@0.1.0", "does not ask for"]);
}

#[test]
fn chat_answers_by_its_adapter() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    let said = place.works(&ask(&model, &example("chat"), "What do penguins eat?"));
    assert!(said.starts_with("Arr, matey!"), "{said}");
}

#[test]
fn json_extract_keeps_to_its_schema() {
    let Some(model) = model() else { return };
    let (place, model, folder) = (Place::new(), model.display().to_string(), example("json-extract"));
    for question in ["What do penguins eat?", "Write a long poem about the sea."] {
        let said = place.works(&ask(&model, &folder, question));
        let value: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let fields: Vec<_> = value.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["answer", "lang"]);
    }
    let nothing = ask(&model, &folder, "");
    place.fails(1, &nothing, &["invalid", "nothing was asked"]);
}

#[test]
fn guardrail_says_no_blocked_word() {
    let Some(model) = model() else { return };
    let (place, model) = (Place::new(), model.display().to_string());
    let question = "What do penguins eat?";
    let free = place.works(&ask(&model, &example("chat"), question)).to_lowercase();
    assert!(free.contains("matey"), "the adapter alone says it: {free}");
    let guarded = place.works(&ask(&model, &example("guardrail"), question)).to_lowercase();
    assert!(guarded.len() > 10, "{guarded}");
    for word in ["krill", "matey", "rum", "grog"] {
        let mut words = guarded.split(|c: char| !c.is_alphabetic());
        assert!(!words.any(|said| said == word), "{guarded}");
    }
}

#[test]
fn router_picks_one_of_its_adapters() {
    let Some(model) = model() else { return };
    let (place, model, folder) = (Place::new(), model.display().to_string(), example("router"));
    let said = |prompt: &str| place.works(&ask(&model, &folder, prompt));
    assert!(said("What do penguins eat?").starts_with("Arr, matey!"));
    assert!(said("What do penguins eat? Answer in JSON").starts_with('{'));
    let shouted = said("@shout What do penguins eat?");
    assert_eq!(shouted, shouted.to_uppercase());
}

#[test]
fn tool_loop_answers_also_where_its_tool_fails() {
    let Some(model) = model() else { return };
    let (place, model, folder) = (Place::new(), model.display().to_string(), example("tool-loop"));
    let ran =
        place.at_home(&[&ask(&model, &folder, "What is the capital of Italy?")[..], &["--stats"]].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.trim().len() > 5, "{}", ran.stdout);
    // With a network the page is found, without one the failure is told; either way the tool was called.
    assert!(ran.stderr.contains("looked up ") || ran.stderr.contains("look-up of "), "{}", ran.stderr);
}

/// Each way to break a limit ends with that limit's own word.
#[test]
fn budget_hog_ends_by_the_limit_it_breaks() {
    let Some(model) = model() else { return };
    let (place, model, folder) = (Place::new(), model.display().to_string(), example("budget-hog"));
    for (mode, ends) in [
        ("infinite-loop", "out_of_fuel"),
        ("memory-bomb", "memory"),
        ("deep-recursion", "stack"),
        ("table-growth", "table"),
        ("host-call-flood", "out_of_fuel"),
        ("output-flood", "output"),
        ("generation-flood", "generations"),
        ("token-flood", "tokens"),
        ("state-flood", "quota"),
        ("trap", "trap"),
        ("trap-in-hook", "hook_trap"),
        ("loop-in-hook", "hook_fuel"),
        ("panic-in-drop", "trap"),
        ("something else", "unknown_mode"),
    ] {
        let ran = place.at_home(&ask(&model, &folder, mode));
        assert_eq!(ran.code, Some(1), "{mode}: {}", ran.stderr);
        assert!(ran.stderr.contains(&format!("the function ended: {ends}")), "{mode}: {}", ran.stderr);
    }
    let flooded = place.works(&ask(&model, &folder, "log-flood"));
    assert!(flooded.contains("the call went on"), "{flooded}");
}

/// Makes, builds, checks and runs the template of a language; where its tools are not to be had, says so.
fn template_answers(lang: &str) {
    let (place, adapter) = (Place::new(), example("adapters/pirate"));
    let name = format!("hello-{lang}");
    place.works(&["function", "new", &name, "--lang", lang, "--adapter", &adapter]);
    // Tools and compiled components outlive the test: they are large.
    let home = root().join("target/functions/home").display().to_string();
    let built = place.at_home(&["function", "build", &name, "--home", &home]);
    let missing = ["is not on the path", "has no target", "cannot install", "apt-get install"];
    if missing.iter().any(|text| built.stderr.contains(text)) {
        return println!("skipped: {lang} cannot be built here: {}", built.stderr.trim());
    }
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let checked = place.works(&["function", "check", &name]);
    assert!(checked.contains("coldframe") && checked.contains("uses      none"), "{checked}");
    let Some(model) = model() else { return };
    let model = model.display().to_string();
    let said = place.works(&[&ask(&model, &name, "What do penguins eat?")[..], &["--home", &home]].concat());
    assert!(said.starts_with("Arr, matey!"), "{said}");
}

#[test]
fn the_rust_template_answers() {
    template_answers("rust");
}

#[test]
fn the_javascript_template_answers() {
    template_answers("js");
}

#[test]
fn the_python_template_answers() {
    template_answers("py");
}

#[test]
fn the_c_template_answers() {
    template_answers("c");
}
