//! Capabilities: shut unless granted, and only as wide as they say.

use crate::bed::{Bed, call, code, grants, limits, load};
use crate::guests::{LITERAL, Script, script};
use coldframe_sandbox::Grants;

#[tokio::test]
async fn what_is_not_granted_ends_the_call_by_name() {
    let function = load(script(), limits(), Grants::default()).await;
    let tries = [
        ("state", Script::new().with(15, "key")),
        ("state", Script::new().with(23, "key")),
        ("clock", Script::new().op(13, &[])),
        ("random", Script::new().op(14, &[4])),
        ("http", Script::new().with(21, "https://example.com/")),
    ];
    for (name, script_of) in tries {
        let (end, _) = call(&function, &script_of.0, &Bed::new()).await;
        assert_eq!(code(&end), "not_granted");
        let text = end.result.expect_err("ended").to_string();
        assert!(text.contains(&format!("coldframe:function/{name}@0.1.0")), "{text}");
    }
    let names = function.checked().not_granted(&Grants::default());
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(function.checked().not_granted(&grants()), ["coldframe:function/http@0.1.0"]);
    assert_eq!(function.checked().capabilities(), ["state", "clock", "random", "http"]);
}

#[tokio::test]
async fn a_store_is_kept_between_calls_and_by_key() {
    let function = load(script(), limits(), grants()).await;
    let bed = Bed::new();
    let set = Script::new().literal(b"keyvalue").op(16, &[LITERAL, 3, LITERAL + 3, 5]);
    assert_eq!(code(&call(&function, &set.0, &bed).await.0), "ok");
    assert_eq!(
        bed.state.lock().expect("unpoisoned").get("key").map(Vec::as_slice),
        Some(b"value".as_slice())
    );
    let empty = Script::new().op(15, &[LITERAL, 0]).op(34, &[]);
    assert_eq!(call(&function, &empty.0, &bed).await.1.text(), "invalid");
    assert_eq!(code(&call(&function, &Script::new().with(24, "key").0, &bed).await.0), "ok");
    assert!(bed.state.lock().expect("unpoisoned").is_empty());
}

#[tokio::test]
async fn randomness_comes_in_bounded_pieces() {
    let function = load(script(), limits(), grants()).await;
    assert_eq!(code(&call(&function, &Script::new().op(14, &[1 << 16]).0, &Bed::new()).await.0), "ok");
    assert_eq!(
        code(&call(&function, &Script::new().op(14, &[(1 << 16) + 1]).0, &Bed::new()).await.0),
        "trap"
    );
    // Its bytes are charged before they are made.
    assert_eq!(
        code(&call(&function, &Script::new().op(14, &[u32::MAX]).0, &Bed::new()).await.0),
        "out_of_fuel"
    );
}

#[tokio::test]
async fn a_log_line_is_one_line_without_control_characters() {
    let function = load(script(), limits(), Grants::default()).await;
    let bed = Bed::new();
    let script_of = Script::new().log("two\nlines\u{1b}[31m red\u{202e}").log("tab\there");
    call(&function, &script_of.0, &bed).await;
    assert_eq!(bed.log(), ["two\\nlines\\u{1b}[31m red\\u{202e}", "tab\there"]);
}
