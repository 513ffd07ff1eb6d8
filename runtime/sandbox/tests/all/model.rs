//! The model as a guest reaches it: streams, several at once, the tokenizer, a caller who is slow or goes.

use crate::bed::{Bed, Caller, call, code, grants, invoke, limits, load};
use crate::guests::{LITERAL, Script, script};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[tokio::test]
async fn tokens_reach_the_caller_as_the_guest_forwards_them() {
    let function = load(script(), limits(), grants()).await;
    let (end, got) = call(&function, &Script::new().on(3, 0).on(36, 0).0, &Bed::new()).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    assert_eq!(got.text(), "word0 word1 word2 word3 word4 word5 word6 word7 ");
    assert_eq!((end.usage.tokens, end.usage.output_bytes), (8, got.bytes.len() as u64));
}

#[tokio::test]
async fn finish_gathers_a_whole_text() {
    let function = load(script(), limits(), grants()).await;
    // Result of `finish`: discriminant, then the text's place and length.
    let (end, got) = call(&function, &Script::new().on(3, 0).on(31, 0).op(35, &[]).0, &Bed::new()).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    assert_eq!(got.text(), "word0 word1 word2 word3 word4 word5 word6 word7 ");
    let twice = Script::new().on(3, 0).on(31, 0).on(31, 0).op(34, &[]);
    assert_eq!(call(&function, &twice.0, &Bed::new()).await.1.text(), "over");
}

#[tokio::test]
async fn several_generations_run_at_once_and_any_is_waited_for() {
    let function = load(script(), limits(), grants()).await;
    let bed = Arc::new(Bed { tokens: 3, pause: Duration::from_millis(1), ..Bed::default() });
    let start = Script::new().on(3, 0).on(3, 1).on(3, 2).on(7, 3).on(36, 0).on(36, 1).on(36, 2);
    let (end, got) = call(&function, &start.0, &bed).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    // What waiting took from a generation was kept for its own `next`.
    assert_eq!(got.text(), "word0 word1 word2 ".repeat(3));
}

#[tokio::test]
async fn waiting_for_nothing_or_for_one_twice_is_refused() {
    let function = load(script(), limits(), grants()).await;
    let (_, got) = call(&function, &Script::new().on(7, 0).op(34, &[]).0, &Bed::new()).await;
    assert_eq!(got.text(), "invalid");
}

#[tokio::test]
async fn a_cancelled_generation_ends_and_says_so() {
    let function = load(script(), limits(), grants()).await;
    let script_of = Script::new().on(3, 0).on(4, 0).on(5, 0).on(36, 0);
    let (end, got) = call(&function, &script_of.0, &Bed::new()).await;
    assert_eq!((code(&end), got.text().as_str(), end.usage.tokens), ("ok", "", 1));
}

#[tokio::test]
async fn text_becomes_tokens_and_text_again() {
    let function = load(script(), limits(), grants()).await;
    let (end, got) = call(&function, &Script::new().with(22, "token").op(35, &[]).0, &Bed::new()).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    // Five ids of four bytes; the guest writes the first five bytes of them.
    assert_eq!(got.bytes, [b't', 0, 0, 0, b'o']);
    let back = Script::new().literal(&[b'h', 0, 0, 0, b'i', 0, 0, 0]).op(37, &[LITERAL, 2]).op(35, &[]);
    assert_eq!(call(&function, &back.0, &Bed::new()).await.1.text(), "hi");
    let unknown = Script::new().literal(&[0xff; 4]).op(37, &[LITERAL, 1]).op(34, &[]);
    assert_eq!(call(&function, &unknown.0, &Bed::new()).await.1.text(), "invalid");
}

#[tokio::test]
async fn a_slow_caller_slows_its_own_call() {
    let function = load(script(), limits(), grants()).await;
    let caller = Caller { pause: Duration::from_millis(5), ..Caller::default() };
    let script_of = Script::new().on(3, 0).on(36, 0);
    let end = function.call(invoke(&script_of.0), Bed::new(), Box::new(caller.clone())).await;
    assert_eq!(code(&end), "ok");
    assert_eq!(caller.got.lock().expect("unpoisoned").text().matches("word").count(), 8);
}

#[tokio::test]
async fn a_caller_who_goes_is_told_to_the_guest() {
    let function = load(script(), limits(), grants()).await;
    let caller = Caller { goes_after: Some(12), ..Caller::default() };
    let script_of = Script::new().on(3, 0).on(36, 0);
    let end = function.call(invoke(&script_of.0), Bed::new(), Box::new(caller.clone())).await;
    // The guest saw `closed`, stopped streaming and ended well.
    assert_eq!(code(&end), "ok");
    assert_eq!(caller.got.lock().expect("unpoisoned").text(), "word0 word1 ");
    assert!(end.usage.tokens < 8);
}

#[tokio::test]
async fn a_dropped_call_takes_its_generations_along() {
    let function = load(script(), limits(), grants()).await;
    let bed = Arc::new(Bed { tokens: 8, pause: Duration::from_secs(3600), ..Bed::default() });
    let script_of = Script::new().on(3, 0).on(3, 1).on(4, 0);
    for _ in 0..20 {
        let call = function.call(invoke(&script_of.0), bed.clone(), Box::new(Caller::default()));
        let stopped = tokio::time::timeout(Duration::from_millis(5), call).await;
        assert!(stopped.is_err(), "the call should wait for a token");
        assert_eq!(bed.alive.load(Ordering::SeqCst), 0);
    }
    // The instance that was left inside a host call is gone; the function still answers.
    assert_eq!(call(&function, &Script::new().say("hello").0, &Bed::new()).await.1.text(), "hello");
}

#[tokio::test]
async fn a_reply_may_set_status_and_headers_on_invoke_only_and_once() {
    let function = load(script(), limits(), grants()).await;
    let (end, got) = call(&function, &Script::new().op(19, &[201, 0, 0]).say("made").0, &Bed::new()).await;
    assert_eq!((code(&end), got.status, got.text().as_str()), ("ok", Some(201), "made"));
    for bad in [
        Script::new().op(19, &[99, 0, 0]).op(34, &[]),
        Script::new().op(19, &[200, 0, 0]).op(19, &[200, 0, 0]).op(34, &[]),
        Script::new().say("x").op(19, &[200, 0, 0]).op(34, &[]),
    ] {
        let (_, got) = call(&function, &bad.0, &Bed::new()).await;
        assert!(got.text().ends_with("invalid"), "{}", got.text());
    }
    let chat = coldframe_sandbox::Request {
        route: coldframe_sandbox::Route::Chat,
        ..invoke(&Script::new().op(19, &[200, 0, 0]).op(34, &[]).0)
    };
    let caller = Caller::default();
    function.call(chat, Bed::new(), Box::new(caller.clone())).await;
    assert_eq!(caller.got.lock().expect("unpoisoned").text(), "unsupported");
}
