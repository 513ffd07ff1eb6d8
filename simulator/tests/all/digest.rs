//! Same seed, same events: on every thread, in every profile; and where two runs part, the first difference in words.
//!
//! The golden digests are text beside this file; a change of them is a change of results and needs a reason.

use crate::support::{self, trace};
use coldframe_policy::config::preset;
use coldframe_simulator::run::{Hooks, Outcome, run};
use coldframe_simulator::setup::Setup;
use coldframe_simulator::world::{LogEntry, code};
use coldframe_traces::Record;

const S: u64 = 1_000_000_000;
const GOLDEN: &str = include_str!("golden_digests.txt");

/// Sixty requests of six functions on two backbones: bursts, pauses, long and short ones; no chance involved.
fn records() -> Vec<Record> {
    let record = |n: u64| Record {
        arrival_ns: (n / 6) * (n / 6) * S + (n % 6) * n * S / 50,
        function: (n * n % 7 % 6) as u32,
        prompt_tokens: (20 + n * 37 % 700) as u32,
        output_tokens: (1 + n * 29 % 90) as u32,
        ..Record::default()
    };
    let mut all: Vec<Record> = (0..60).map(record).collect();
    all.sort_by_key(|r| r.arrival_ns);
    all
}

fn setup(name: &str, seed: u64, jitter_permille: u32) -> Setup {
    let mut setup = support::setup(preset(name).expect("a preset"));
    setup.models = vec![support::model(0), support::model(1)];
    (setup.workers, setup.seed, setup.jitter_permille) = (2, seed, jitter_permille);
    setup
}

fn play(name: &str, seed: u64, jitter_permille: u32) -> Outcome {
    let setup = setup(name, seed, jitter_permille);
    run(&setup, &[], &mut trace(&setup, &records()), Hooks::default()).expect("the trace replays")
}

/// The first entry in which two logs differ, in words; `None` when they are equal.
fn first_difference(a: &[LogEntry], b: &[LogEntry]) -> Option<String> {
    let words = |e: Option<&LogEntry>| match e {
        None => "the end".to_owned(),
        Some(e) => format!("{} {} {} at {} ns", code::name(e.code), e.x, e.y, e.at),
    };
    let at = (0..a.len().max(b.len())).find(|&n| a.get(n) != b.get(n))?;
    Some(format!("event {at}: {} against {}", words(a.get(at)), words(b.get(at))))
}

#[test]
fn the_first_difference_is_told_in_words() {
    let one = LogEntry { at: 5, code: 34, x: 1, y: 2 };
    let check = |a: &[LogEntry], b: &[LogEntry], want: Option<&str>| {
        assert_eq!(first_difference(a, b).as_deref(), want);
    };
    check(&[one], &[one], None);
    check(&[one], &[], Some("event 0: load 1 2 at 5 ns against the end"));
    let later = LogEntry { at: 6, code: 2, ..one };
    check(&[one, one], &[one, later], Some("event 1: load 1 2 at 5 ns against request-done 1 2 at 6 ns"));
}

#[test]
fn every_event_has_a_name() {
    let outcome = play("serverlesslora", 1, 0);
    assert!(outcome.log.iter().all(|e| code::name(e.code) != "unknown"));
    assert_eq!(outcome.log.len() as u64, outcome.report.events);
}

#[test]
fn same_seed_same_events_on_any_number_of_threads() {
    let alone = play("serverlesslora", 7, 50);
    for threads in [1, 2, 4] {
        let together: Vec<Outcome> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..threads).map(|_| scope.spawn(|| play("serverlesslora", 7, 50))).collect();
            all.into_iter().map(|t| t.join().expect("a run")).collect()
        });
        for other in together {
            assert_eq!(first_difference(&alone.log, &other.log), None);
            assert_eq!(alone.report, other.report);
        }
    }
}

#[test]
fn chance_comes_from_the_seed_alone() {
    let digest = |seed, jitter| play("serverlesslora", seed, jitter).report.event_digest;
    assert_ne!(digest(1, 50), digest(2, 50), "jitter draws from the seed");
    assert_eq!(digest(1, 0), digest(2, 0), "nothing else does");
}

#[test]
fn golden_digests() {
    let found: Vec<String> = GOLDEN
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(|name| {
            let report = play(name, 1, 0).report;
            format!("{name} {} {}", report.event_digest, report.events)
        })
        .collect();
    assert_eq!(found.join("\n"), GOLDEN.trim_end(), "results changed");
    assert_eq!(found.len(), 4);
}
