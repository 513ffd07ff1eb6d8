//! Every limit of a call: a guest that runs into it is ended by name and in time.

use crate::bed::{Bed, Caller, call, code, grants, invoke, limits, load, small};
use crate::guests::{LITERAL, Script, script};
use coldframe_sandbox::{Limits, SandboxOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

async fn ends(expected: &str, limits: Limits, script_of: Script) -> coldframe_sandbox::CallEnd {
    let function = load(script(), limits, grants()).await;
    let bed = Bed::new();
    let (end, _) = call(&function, &script_of.0, &bed).await;
    assert_eq!(code(&end), expected, "{end:?}");
    assert_eq!(bed.alive.load(std::sync::atomic::Ordering::SeqCst), 0, "a generation outlived its call");
    end
}

#[tokio::test]
async fn an_endless_loop_runs_out_of_fuel_at_the_same_place_each_time() {
    let first = ends("out_of_fuel", limits(), Script::new().op(8, &[])).await;
    let second = ends("out_of_fuel", limits(), Script::new().op(8, &[])).await;
    assert_eq!(first.usage.fuel, limits().fuel);
    assert_eq!(first.usage.fuel, second.usage.fuel);
    assert!(first.usage.cpu_ns > 0);
}

#[tokio::test]
async fn an_endless_loop_with_fuel_enough_ends_at_its_deadline() {
    let limits = Limits { fuel: u64::MAX, wall: Duration::from_millis(60), ..limits() };
    let start = Instant::now();
    ends("deadline", limits, Script::new().op(8, &[])).await;
    // A machine under load is late; that it ends at all, and not by fuel, is the point.
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn the_requests_own_deadline_is_nearer() {
    let function = load(script(), Limits { fuel: u64::MAX, ..limits() }, grants()).await;
    let request = coldframe_sandbox::Request { deadline_ms: 30, ..invoke(&Script::new().op(8, &[]).0) };
    let end = function.call(request, Bed::new(), Box::new(Caller::default())).await;
    assert_eq!(code(&end), "deadline");
}

#[tokio::test]
async fn waiting_counts_towards_the_deadline() {
    let function = load(script(), Limits { wall: Duration::from_millis(50), ..limits() }, grants()).await;
    let bed = Arc::new(Bed { tokens: 8, pause: Duration::from_secs(3600), ..Bed::default() });
    let (end, _) = call(&function, &Script::new().on(3, 0).on(4, 0).0, &bed).await;
    assert_eq!(code(&end), "deadline");
    assert_eq!(bed.alive.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn memory_is_held_to_its_limit() {
    let limits = Limits { memory_bytes: 4 << 20, ..limits() };
    let end = ends("memory", limits.clone(), Script::new().op(9, &[32]).op(9, &[60_000])).await;
    assert!(end.usage.memory_bytes_max <= 4 << 20 && end.usage.memory_bytes_max >= 34 * 65_536);
    // Within the limit it grows.
    ends("ok", limits, Script::new().op(9, &[32])).await;
}

#[tokio::test]
async fn tables_recursion_and_traps_end_by_name() {
    ends("table", limits(), Script::new().op(11, &[1_000_000])).await;
    ends("stack", limits(), Script::new().op(10, &[])).await;
    ends("trap", limits(), Script::new().op(12, &[])).await;
}

#[tokio::test]
async fn a_flood_of_host_calls_is_charged() {
    // Each log call costs 1,000 and its byte: a hundred thousand units are worth less than a hundred calls.
    let flood = Script::new().log("x").op(17, &[]);
    let limits = Limits { fuel: 100_000, ..limits() };
    let end = ends("out_of_fuel", limits, flood).await;
    assert!(end.usage.host_calls > 50 && end.usage.host_calls < 100, "{}", end.usage.host_calls);
}

#[tokio::test]
async fn host_calls_have_a_number() {
    let flood = Script::new().log("x").op(17, &[]);
    let end = ends("host_calls", Limits { host_calls: 50, ..limits() }, flood).await;
    assert_eq!(end.usage.host_calls, 51);
}

#[tokio::test]
async fn a_flood_of_log_is_cut_and_does_not_end_the_call() {
    let function = load(script(), Limits { log_bytes: 100, ..limits() }, grants()).await;
    let bed = Bed::new();
    let many = (0..40).fold(Script::new(), |script, _| script.log("a line of log"));
    let (end, _) = call(&function, &many.0, &bed).await;
    assert_eq!(code(&end), "ok");
    assert_eq!(end.usage.log_bytes, 100);
    let log = bed.log();
    assert!(log.len() < 12 && log.last().expect("a line").ends_with("is not kept"), "{log:?}");
}

#[tokio::test]
async fn output_is_held_to_its_limit_before_it_goes_out() {
    let function = load(script(), Limits { output_bytes: 1_000, ..limits() }, grants()).await;
    let (end, got) = call(&function, &Script::new().say("hundred").op(17, &[]).0, &Bed::new()).await;
    assert_eq!(code(&end), "output");
    assert_eq!(end.usage.output_bytes, got.bytes.len() as u64);
    assert!(got.bytes.len() <= 1_000);
}

#[tokio::test]
async fn tokens_are_a_budget_of_all_generations() {
    let function = load(script(), Limits { tokens: 10, ..limits() }, grants()).await;
    let bed = Bed::new();
    // Eight tokens of the first, and the second may have two more.
    let both = Script::new().on(3, 0).on(36, 0).on(3, 1).on(36, 1);
    let (end, got) = call(&function, &both.0, &bed).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    assert_eq!(*bed.budgets.lock().expect("unpoisoned"), [10, 2]);
    assert_eq!((end.usage.tokens, end.usage.generations), (10, 2));
    assert_eq!(got.text().matches("word").count(), 10);
    // A third has none left.
    let (end, _) = call(&function, &both.clone().on(3, 2).0, &bed).await;
    assert_eq!(code(&end), "tokens");
}

#[tokio::test]
async fn generations_that_run_side_by_side_share_the_budget() {
    let function = load(script(), Limits { tokens: 10, ..limits() }, grants()).await;
    let both = Script::new().on(3, 0).on(3, 1).on(36, 0).on(36, 1);
    let (end, got) = call(&function, &both.0, &Bed::new()).await;
    assert_eq!(code(&end), "tokens");
    assert_eq!(got.text().matches("word").count(), 10);
}

#[tokio::test]
async fn generations_at_once_are_held_to_their_limit() {
    // Ten thousand in a loop: the handles are lost, the generations are not.
    ends("generations", Limits { generations: 4, ..limits() }, Script::new().on(3, 0).op(17, &[])).await;
    // One that is dropped or over makes room.
    let dropped = Script::new().on(3, 0).on(6, 0).on(3, 0).on(36, 0).on(3, 0);
    ends("ok", Limits { generations: 1, ..limits() }, dropped).await;
}

#[tokio::test]
async fn values_of_the_store_are_held_to_their_limit() {
    let limits = Limits { state_value_bytes: 64, ..limits() };
    ends("ok", limits.clone(), Script::new().literal(b"key").op(16, &[LITERAL, 3, 16_384, 64])).await;
    ends("state", limits, Script::new().literal(b"key").op(16, &[LITERAL, 3, 16_384, 65])).await;
}

#[tokio::test]
async fn a_failure_of_the_guests_own_reaches_the_caller() {
    let function = load(script(), limits(), grants()).await;
    let (end, _) = call(&function, &Script::new().op(25, &[]).0, &Bed::new()).await;
    assert_eq!(code(&end), "asked");
    assert_eq!(end.result.expect_err("failed").to_string(), "asked: asked for");
}

#[tokio::test]
async fn pointers_out_of_bounds_trap() {
    for (place, len) in [(u32::MAX, u32::MAX), (0, u32::MAX), (u32::MAX - 10, 20), (131_072, 1), (0, 1 << 30)]
    {
        ends("trap", limits(), Script::new().op(2, &[place, len])).await;
    }
}

#[tokio::test]
async fn a_full_pool_makes_calls_wait_and_then_refuses_them() {
    let options =
        SandboxOptions { calls: 2, instance_wait: Duration::from_millis(20), ..SandboxOptions::default() };
    let sandbox = small(options);
    let limits = Limits { wall: Duration::from_millis(400), ..limits() };
    let function = sandbox.load(script(), limits, grants()).await.expect("it loads");
    let slow = Arc::new(Bed { tokens: 8, pause: Duration::from_secs(3600), ..Bed::default() });
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let (function, slow) = (function.clone(), slow.clone());
            tokio::spawn(async move { call(&function, &Script::new().on(3, 0).on(4, 0).0, &slow).await.0 })
        })
        .collect();
    let mut busy = 0;
    for ended in calls {
        let end = ended.await.expect("no panic");
        match code(&end) {
            "busy" => {
                assert!(end.result.expect_err("busy").is_retryable());
                busy += 1;
            }
            other => assert_eq!(other, "deadline"),
        }
    }
    assert_eq!(busy, 10);
    // The pool is whole again.
    assert_eq!(code(&call(&function, &Script::new().say("hello").0, &Bed::new()).await.0), "ok");
}

#[tokio::test]
async fn limits_over_what_the_sandbox_was_made_for_are_refused() {
    let asked = Limits { memory_bytes: usize::MAX, ..limits() };
    let error = crate::bed::sandbox().load(script(), asked, grants()).await.expect_err("refused");
    assert_eq!(error.code(), "invalid_limits");
}
