//! Token hooks: what they say, and what becomes of those that do more than they may.

use crate::bed::{Bed, call, code, grants, limits, load};
use crate::guests::{hook, script};
use coldframe_sandbox::services::{Failure, TokenHook, Verdict};
use coldframe_sandbox::{Function, Limits, World};
use std::sync::atomic::{AtomicBool, Ordering};

async fn hooked(context: &str) -> (Function, Box<dyn TokenHook>) {
    let function = load(hook(), limits(), grants()).await;
    let begun = function.hook(context, Bed::new()).expect("the component has a hook");
    let begun = begun.unwrap_or_else(|failure| panic!("{failure}"));
    (function, begun)
}

#[tokio::test]
async fn a_hook_says_what_becomes_of_the_next_token() {
    let expected = [
        ("", Verdict::GoOn),
        ("b", Verdict::Bias(vec![(3, 1.0), (5, -1.0)])),
        ("o", Verdict::Only(vec![3, 5])),
        ("f", Verdict::Forbid(vec![3, 5])),
    ];
    for (context, expected) in expected {
        let (_, mut hook) = hooked(context).await;
        for previous in [None, Some(7)] {
            assert_eq!(hook.before_token(previous, "text").expect("a verdict"), expected);
        }
    }
}

#[tokio::test]
async fn a_hook_ends_a_generation() {
    let function = load(hook(), limits(), grants()).await;
    assert_eq!(function.checked().world, World::FunctionWithHook);
    let (end, got) = call(&function, b"e", &Bed::new()).await;
    assert_eq!((code(&end), got.text().as_str()), ("ok", "word0 word1 word2 "));
}

#[tokio::test]
async fn each_generation_has_a_hook_of_its_own() {
    let (function, mut first) = hooked("e").await;
    for _ in 0..3 {
        assert_eq!(first.before_token(None, "").expect("a verdict"), Verdict::GoOn);
    }
    assert_eq!(first.before_token(None, "").expect("a verdict"), Verdict::End);
    let mut second =
        function.hook("e", Bed::new()).expect("a hook").unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(second.before_token(None, "").expect("a verdict"), Verdict::GoOn);
}

#[tokio::test]
async fn a_hook_that_does_more_than_it_may_ends_its_generation_by_name() {
    let expected = [("l", "hook_fuel"), ("t", "hook_trap"), ("m", "memory"), ("c", "not_granted")];
    for (context, expected) in expected {
        let (_, mut hook) = hooked(context).await;
        let failure = hook.before_token(None, "text").expect_err("it fails");
        assert_eq!(failure.code, expected, "{failure}");
        // An instance that trapped is not entered again.
        assert_eq!(hook.before_token(None, "text").expect_err("it fails"), failure);
        let function = load(crate::guests::hook(), limits(), grants()).await;
        let (end, _) = call(&function, context.as_bytes(), &Bed::new()).await;
        assert_eq!(code(&end), expected, "{end:?}");
    }
    let (_, mut clock) = hooked("c").await;
    let failure = clock.before_token(None, "text").expect_err("it fails");
    assert!(failure.message.contains("coldframe:function/clock@0.1.0"), "{failure}");
}

async fn failure_with(hook_fuel: u64, context: &str) -> Failure {
    let function = load(hook(), Limits { hook_fuel, ..limits() }, grants()).await;
    let mut begun = function.hook(context, Bed::new()).expect("a hook").expect("it begins");
    begun.before_token(None, "").expect_err("it never returns")
}

#[tokio::test]
async fn a_hook_that_computes_and_spends_little_fuel_is_ended_too() {
    let failure = failure_with(u64::MAX / 200, "p").await;
    assert_eq!(failure.code, "hook_deadline", "{failure}");
}

#[tokio::test]
async fn a_hook_is_not_ended_for_waiting_for_a_core() {
    // Some 16 ms of work, where forty threads want the cores: hundreds of milliseconds of the clock on most machines.
    let over = AtomicBool::new(false);
    let spin = || {
        while !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    };
    let failure = std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(spin);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let hook = scope.spawn(move || runtime.block_on(failure_with(20_000_000, "l")));
        let failure = hook.join();
        over.store(true, Ordering::Relaxed);
        failure.expect("the hook's thread ends")
    });
    assert_eq!(failure.code, "hook_fuel", "{failure}");
}

#[tokio::test]
async fn a_hook_never_runs_out_over_many_tokens() {
    let (_, mut hook) = hooked("o").await;
    for token in 0..20_000 {
        hook.before_token(Some(token), "some text that is copied in").expect("a verdict");
    }
}

#[tokio::test]
async fn a_hook_writes_to_its_functions_log() {
    let function = load(hook(), limits(), grants()).await;
    let bed = Bed::new();
    let (end, _) = call(&function, b"s", &bed).await;
    assert_eq!(code(&end), "ok");
    assert_eq!(bed.log().len(), 8, "one line before each token");
    assert!(end.usage.log_bytes > 0);
}

#[tokio::test]
async fn a_component_without_a_hook_has_none() {
    let function = load(script(), limits(), grants()).await;
    assert!(function.hook("", Bed::new()).is_none());
}
