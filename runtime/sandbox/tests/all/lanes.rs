//! Guests that compute on and on: the rest of their call runs in the background, with the same ends, and coming and going leaves
//! nothing behind.

use crate::bed::{Bed, Caller, call, code, grants, invoke, limits, small};
use crate::guests::{Script, script};
use coldframe_sandbox::services::{Failure, Later, Reply};
use coldframe_sandbox::{Background, Function, Limits, Priority, SandboxOptions};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A function of a sandbox whose guests may compute next to nothing on their callers' threads.
async fn function(threads: usize, limits: Limits) -> Function {
    let background = Background {
        free: Duration::ZERO,
        burst: Duration::from_micros(1),
        share_percent: 1,
        threads,
        priority: Priority::Nice(1),
    };
    let sandbox = small(SandboxOptions { background, ..SandboxOptions::default() });
    sandbox.load(script(), limits, grants()).await.expect("it loads")
}

/// A caller that notes on which thread it is written to.
#[derive(Clone, Default)]
struct Threads(Arc<Mutex<Vec<String>>>);

impl Reply for Threads {
    fn start(&mut self, _status: u16, _headers: Vec<(String, String)>) -> Result<(), Failure> {
        Ok(())
    }
    fn write(&mut self, _bytes: Vec<u8>) -> Later<'_, Result<(), Failure>> {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        self.0.lock().expect("unpoisoned").push(name);
        Box::pin(async { Ok(()) })
    }
    fn finish(&mut self, _reason: &str) {}
}

/// Ends that a guest reaches by computing.
async fn ends_are_the_same(threads: usize) {
    let limits = Limits { fuel: 30_000_000, ..limits() };
    let function = function(threads, limits.clone()).await;
    let bed = Bed::new();
    for (expected, script) in [
        ("out_of_fuel", Script::new().op(8, &[])),
        ("stack", Script::new().op(10, &[])),
        ("trap", Script::new().op(12, &[])),
        ("generations", Script::new().on(3, 0).op(17, &[])),
        ("ok", Script::new().say("x")),
    ] {
        let (end, _) = call(&function, &script.0, &bed).await;
        assert_eq!(code(&end), expected, "{end:?}");
        assert!(end.usage.cpu_ns > 0);
        if expected == "out_of_fuel" {
            assert_eq!(end.usage.fuel, limits.fuel);
        }
    }
    assert_eq!(bed.alive.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_guest_ends_alike_with_and_without_a_background() {
    ends_are_the_same(0).await;
    ends_are_the_same(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_ends_alike_under_threads_of_its_caller() {
    ends_are_the_same(2).await;
}

#[tokio::test]
async fn work_over_the_share_runs_in_the_background_only() {
    for (threads, expected) in [(1, true), (0, false)] {
        let function = function(threads, limits()).await;
        // The first call uses the share up, the second begins without any.
        let (end, _) = call(&function, &Script::new().op(8, &[]).0, &Bed::new()).await;
        assert_eq!(code(&end), "out_of_fuel");
        let caller = Threads::default();
        let script = Script::new().say("x");
        let end = function.call(invoke(&script.0), Bed::new(), Box::new(caller.clone())).await;
        assert_eq!(code(&end), "ok");
        let names = caller.0.lock().expect("unpoisoned");
        assert!(!names.is_empty());
        assert!(names.iter().all(|name| name.starts_with("sandbox-behind") == expected), "{names:?}");
    }
}

#[tokio::test]
async fn waiting_from_the_background_is_done_by_the_callers_clock() {
    // Timers that host calls start there are the caller's: the background has none, and would panic.
    let function = function(1, limits()).await;
    let bed = Arc::new(Bed { tokens: 6, pause: Duration::from_millis(2), ..Bed::default() });
    let streams = Script::new().op(9, &[1]).on(3, 0).on(36, 0);
    for _ in 0..3 {
        let (end, got) = call(&function, &streams.0, &bed).await;
        assert_eq!(code(&end), "ok", "{end:?}");
        assert_eq!(got.text().matches("word").count(), 6);
    }
}

#[tokio::test]
async fn a_deadline_ends_a_guest_in_the_background() {
    let limits = Limits { fuel: u64::MAX, wall: Duration::from_millis(60), ..limits() };
    let function = function(1, limits).await;
    let (end, _) = call(&function, &Script::new().op(8, &[]).0, &Bed::new()).await;
    assert_eq!(code(&end), "deadline");
    assert!(end.usage.fuel > 0 && end.usage.cpu_ns > 0);
}

#[tokio::test]
async fn a_dropped_call_ends_its_guest_and_its_generations_in_the_background() {
    let function = function(1, Limits { fuel: u64::MAX, ..limits() }).await;
    let bed = Bed::new();
    let endless = Script::new().on(3, 0).op(8, &[]);
    let calling = function.call(invoke(&endless.0), bed.clone(), Box::new(Caller::default()));
    assert!(tokio::time::timeout(Duration::from_millis(50), calling).await.is_err());
    // It ends with its slice; only a machine that stands still takes longer than this.
    for _ in 0..2_000 {
        if bed.alive.load(Ordering::SeqCst) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(bed.alive.load(Ordering::SeqCst), 0, "the generation outlived its call");
}
