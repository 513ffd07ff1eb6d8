//! Keeps the house in order: which crate may know which, and what no source file may hold.
//!
//! It reads the workspace and the lock file as they lie on disk. It judges no style that rustfmt or clippy already judge.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every crate of the workspace that may exist, and the crates of the workspace it may use.
const EDGES: [(&str, &[&str]); 7] = [
    ("coldframe-policy", &[]),
    ("coldframe-traces", &[]),
    ("coldframe-backbone", &[]),
    ("coldframe-sandbox", &[]),
    ("coldframe-simulator", &["coldframe-policy", "coldframe-traces"]),
    (
        "coldframe-host",
        &["coldframe-policy", "coldframe-backbone", "coldframe-sandbox", "coldframe-simulator"],
    ),
    (
        "coldframe",
        &[
            "coldframe-policy",
            "coldframe-traces",
            "coldframe-simulator",
            "coldframe-backbone",
            "coldframe-sandbox",
            "coldframe-host",
        ],
    ),
];

/// Heavy crates (by prefix) and the crates of the workspace that must not pull them in, directly or not.
const FENCES: [(&str, &[&str]); 3] = [
    ("tokio", &["coldframe-policy", "coldframe-traces", "coldframe-simulator"]),
    ("wasmtime", &["coldframe-policy", "coldframe-traces", "coldframe-simulator", "coldframe-backbone"]),
    ("candle", &["coldframe-policy", "coldframe-traces", "coldframe-simulator", "coldframe-sandbox"]),
];

/// Longest source file, lines: beyond it a file is two files.
const LINES_MAX: usize = 800;

/// Folders that hold nothing of ours.
const SKIPPED: [&str; 3] = ["target", ".git", "out"];

fn root() -> PathBuf {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    cli.ancestors().nth(2).expect("the crate lies two folders below the root").to_owned()
}

/// Files under `folder` whose name ends in one of `endings`, sorted, with their text.
fn files(folder: &Path, endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder") {
            let entry = entry.expect("a readable entry");
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && endings.iter().any(|ending| name.ends_with(ending)) {
                let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
                found.push((shown, std::fs::read_to_string(&path).expect("text")));
            }
        }
    }
    found.sort();
    found
}

fn assert_none(what: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{what}:\n  {}", faults.join("\n  "));
}

/// Direct dependencies of each crate of the workspace, of every kind.
fn direct_dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let edges = |package: &Value| list(&package["dependencies"]).iter().map(text).collect();
    list(&metadata["packages"]).iter().map(|package| (text(package), edges(package))).collect()
}

#[test]
fn crates_know_only_the_crates_they_may() {
    let mut faults = Vec::new();
    let allowed = BTreeMap::from(EDGES);
    for (name, dependencies) in direct_dependencies() {
        let Some(allowed) = allowed.get(name.as_str()) else {
            faults.push(format!("{name} is not in the table of this test: say what it may use"));
            continue;
        };
        for other in dependencies.iter().filter(|other| EDGES.iter().any(|(ours, _)| ours == other)) {
            if *other != name && !allowed.contains(&other.as_str()) {
                faults.push(format!("{name} must not know {other}"));
            }
        }
    }
    assert_none("crate edges (docs/architecture.md)", &faults);
}

#[test]
fn heavy_crates_stay_behind_their_fences() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("a lock file");
    let lock: toml::Value = toml::from_str(&lock).expect("TOML");
    let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().expect("packages") {
        let needs = package.get("dependencies").and_then(|needs| needs.as_array());
        // A dependency reads `name`, or `name version` where two versions are locked.
        let names = needs.into_iter().flatten().filter_map(|need| need.as_str()?.split(' ').next());
        edges.entry(package["name"].as_str().expect("a name")).or_default().extend(names);
    }
    let mut faults = Vec::new();
    for (heavy, fenced) in FENCES {
        for ours in fenced {
            for reached in reach(&edges, ours).into_iter().filter(|name| name.starts_with(heavy)) {
                faults.push(format!("{ours} must not pull in {reached}"));
            }
        }
    }
    assert_none("heavy crates", &faults);
}

/// The lock file knows every feature; what a build without one takes in, only cargo says.
#[test]
fn the_simulator_alone_builds_no_candle() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "coldframe", "--no-default-features", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}", "--offline", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("coldframe-simulator"), "{text}");
    let heavy = ["candle", "tokenizers", "ureq", "wasmtime", "tokio", "coldframe-backbone"];
    let found = text.lines().filter(|line| heavy.iter().any(|heavy| line.starts_with(heavy)));
    assert_none("a build without default features takes in", &found.map(str::to_owned).collect::<Vec<_>>());
}

fn reach<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from]);
    while let Some(name) = left.pop() {
        if seen.insert(name) {
            left.extend(edges.get(name).into_iter().flatten());
        }
    }
    seen
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let silent = |(path, text): (String, String)| (!text.starts_with("//!")).then_some(path);
    let faults: Vec<String> = files(&root(), &[".rs"]).into_iter().filter_map(silent).collect();
    assert_none("files that do not open with a `//!` line", &faults);
}

#[test]
fn no_source_file_is_too_long() {
    let long = |(path, text): (String, String)| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{path}: {lines} lines"))
    };
    let faults: Vec<String> = files(&root(), &[".rs"]).into_iter().filter_map(long).collect();
    assert_none(&format!("files of more than {LINES_MAX} lines"), &faults);
}

/// Lines of the tree that hold one of `words`.
fn lines_with(endings: &[&str], words: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for (path, text) in files(&root(), endings) {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                faults.push(format!("{path}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    faults
}

#[test]
fn nothing_is_left_for_later() {
    // Pieced together, so that this file does not hold what it looks for.
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("#[ig", "nore"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
    ];
    assert_none("leftover markers", &lines_with(&[".rs", ".toml", ".sh", ".md"], &words));
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let words = [concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];
    assert_none("paths of one machine", &lines_with(&[".rs", ".toml", ".sh", ".md", "run"], &words));
}
