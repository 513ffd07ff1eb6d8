//! Ctrl-C and readers that go away early.
#![cfg(unix)]

use crate::{Place, sample};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts a command, waits until its unfinished file is there, interrupts it: exit 130 and nothing left.
fn interrupted(args: &[&str], partial: &str) {
    let place = Place::new();
    let mut child =
        place.command().args(args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let started = Instant::now();
    while !place.path(partial).exists() {
        assert!(started.elapsed() < Duration::from_secs(30), "{args:?} did not start writing");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(200));
    let sent =
        Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("a shell");
    assert!(sent.success());
    let status = child.wait().expect("ends");
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    let mut data = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut data).expect("UTF-8");
    assert_eq!(status.code(), Some(130), "{args:?}: {said}");
    assert!(said.contains("interrupted"), "{said}");
    assert_eq!(data, "");
    assert_eq!(place.names(), Vec::<String>::new(), "{args:?} left a file");
}

#[test]
fn an_interrupted_replay_leaves_nothing() {
    let trace = sample();
    let replay = ["replay", "--trace", &trace, "--repeat", "100000", "--policy", "serverlesslora"];
    let mut all = replay.to_vec();
    all.extend(["--out", "r.json", "--html", "p.html", "--requests", "rows.csv", "--timeline", "t.json"]);
    interrupted(&all, "rows.csv.partial");
}

#[test]
fn an_interrupted_conversion_leaves_nothing() {
    let trace = sample();
    let sample = ["trace", "sample", &trace, "--repeat", "1000000", "-o", "long.csv"];
    interrupted(&sample, "long.csv.partial");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let place = Place::new();
    let trace = sample();
    for args in [
        &["trace", "convert", &trace][..],
        &["trace", "generate", "zipf", "--span", "1d", "--rate", "5"],
        &["replay", "--trace", &trace, "--policy", "vllm", "--json"],
        &["profiles", "list", "--json"],
        &["trace", "info", &trace],
        &["trace", "formats"],
        &["trace", "generate", "--list"],
        &["completions", "bash"],
    ] {
        let mut child =
            place.command().args(args).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let mut first = String::new();
        let mut out = BufReader::with_capacity(64, child.stdout.take().expect("piped"));
        out.read_line(&mut first).expect("a line");
        drop(out);
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
        let code = child.wait().expect("ends").code();
        assert!(code == Some(0) && !said.contains("panicked"), "{args:?}: {code:?} {said}");
    }
}

#[test]
fn a_closed_stdout_does_not_panic() {
    let place = Place::new();
    let trace = sample();
    for args in [
        &["trace", "info", &trace][..],
        &["trace", "formats"],
        &["trace", "generate", "--list"],
        &["policies", "list"],
    ] {
        // The reading end is gone before the first byte is written.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = place.command().args(args).stdout(writer).stderr(Stdio::piped()).spawn().expect("starts");
        let out = out.wait_with_output().expect("ends");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(0) && !said.contains("panicked"), "{args:?}: {said}");
    }
}
