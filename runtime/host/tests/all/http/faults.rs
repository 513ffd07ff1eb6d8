//! What goes wrong behind the edge: statuses, words, no secret, no neighbour harmed.

use super::scripted::{app, chat, post};
use std::sync::atomic::Ordering;

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn faults_have_their_status_and_keep_their_causes_to_the_log() {
    let (app, _) = app();
    for (prompt, status, code) in [
        ("overload", 429, "queue_full"),
        ("start", 503, "function_start_failed"),
        ("deadline", 504, "deadline"),
        ("bug", 500, "internal_error"),
        ("break", 502, "trap"),
    ] {
        let got = post(&app, CHAT, &chat("pirate", prompt)).await;
        assert_eq!((got.status, got.code().as_str()), (status, code), "{prompt}");
        assert!(!got.text.contains("canary"), "{}", got.text);
        assert_eq!(got.headers.contains_key("retry-after"), matches!(status, 429 | 503), "{prompt}");
    }
    assert_eq!(post(&app, CHAT, &chat("pirate", "overload")).await.header("retry-after"), "2", "rounded up");
    assert_eq!(post(&app, CHAT, &chat("pirate", "break")).await.header("x-should-retry"), "false");
}

#[tokio::test]
async fn a_panic_is_a_500_and_a_count() {
    let (app, seen) = app();
    let got = post(&app, CHAT, &chat("pirate", "panic")).await;
    assert_eq!((got.status, got.code().as_str()), (500, "internal_error"));
    assert_eq!(seen.panics.load(Ordering::SeqCst), 1);
    assert_eq!(post(&app, CHAT, &chat("pirate", "hi")).await.status, 200);
}
