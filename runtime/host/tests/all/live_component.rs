//! Sandboxed code at work: a component on the engine, end to end.

use crate::calls::{Heard, call, chat, listen};
use crate::live::{function, open, options};
use crate::tiny::Tiny;
use coldframe_host::call::{Call, CallError, CallEvent, Finish, ToolChoice, Work};
use coldframe_host::live::resident::load_code;
use coldframe_host::live::single::Single;
use coldframe_host::live::{Ending, Resident};
use coldframe_host::records::Settings;
use coldframe_sandbox::{Sandbox, SandboxOptions};
use serde_json::{Map, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Deeds of the guest `script` (see `runtime/sandbox/guests`): make a generation, forward it, log, trap, loop for ever.
const GENERATE: [u8; 2] = [3, 0];
const STREAM: [u8; 2] = [36, 0];
const TRAP: [u8; 1] = [12];
const LOOP: [u8; 1] = [8];

fn runtime() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A guest of the sandbox's own as a component.
fn guest(name: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let wit = runtime().join("../functions/wit");
    let (package, _) = resolve.push_dir(wit).expect("the interface can be read");
    let text = runtime().join("sandbox/guests").join(format!("{name}.wat"));
    let mut module = wat::parse_file(text).expect("WebAssembly text");
    let world = resolve.select_world(&[package], Some(world)).expect("a world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    let encoder = ComponentEncoder::default().validate(true).module(&module).expect("a core module");
    { encoder }.encode().expect("a component")
}

/// A function of this guest with the adapter `a`, greedy by default, at most `tokens` a call.
async fn single(tiny: &Tiny, guest: &[u8], tokens: u64) -> Single {
    let mut defaults = Map::new();
    defaults.insert("temperature".to_owned(), json!(0.0));
    defaults.insert("logit_bias".to_owned(), json!({ "2": -100.0 }));
    let fuel = Some(50_000_000);
    let settings = Settings { token_budget: Some(tokens), defaults, fuel, ..Settings::default() };
    let sandbox = Sandbox::new(SandboxOptions { calls: 4, hooks: 4, ..SandboxOptions::default() }).unwrap();
    let (code, took) = load_code(&sandbox, guest, &settings).await.unwrap();
    assert!(!took.is_zero() && code.bytes() > 0);
    let model = open(options(tiny));
    let plain = function(tiny, &model, &["a"]);
    let resident = Resident { code: Some(code), settings, ..(*plain.resident).clone() };
    Single::of(model, Arc::new(resident))
}

/// A chat whose body tells the guest what to do.
fn asked(body: &[u8]) -> Call {
    Call { body: bytes::Bytes::copy_from_slice(body), ..chat("not looked at", 1) }
}

/// What the built-in handler says to the empty chat that the guests generate from.
async fn plain(tiny: &Tiny, single: &Single, tokens: u32) -> String {
    let plain = function(tiny, &single.model, &["a"]);
    let (messages, tool_choice) = (json!([]), ToolChoice::Auto);
    let mut ask = call(Work::Chat { messages, tools: None, tool_choice, extra: Map::new() }, tokens);
    (ask.params.ignore_eos, ask.params.logit_bias) = (false, [(2, -100.0)].into());
    listen(plain.start(ask).0).await.text().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_streams_what_the_engine_says() {
    let tiny = Tiny::new();
    let single = single(&tiny, &guest("script", "function"), 24).await;
    let (mut answer, outcome) = single.start(asked(&[GENERATE, STREAM].concat()));
    let (mut heard, mut pieces) = (Heard::default(), 0);
    while let Some(event) = answer.events.recv().await {
        pieces += usize::from(matches!(event, Ok(CallEvent::Text { .. })));
        heard.enter(event);
    }
    assert_eq!(heard.error, None);
    assert_eq!(heard.text(), plain(&tiny, &single, 24).await);
    assert_eq!(heard.finishes[&0], Finish::Stop);
    assert!(pieces >= 20, "token by token, not at once: {pieces} pieces");
    let usage = heard.usage.unwrap();
    assert_eq!(usage.completion_tokens, 24);
    assert!(usage.fuel > 24_000 && usage.sandbox_ns > 0 && usage.guest_bytes >= 2 << 16, "{usage:?}");
    let (phases, _) = heard.first.unwrap();
    assert!(!phases.handler.is_zero() && !phases.prefill.is_zero(), "{phases:?}");
    assert_eq!(outcome.await.unwrap().ending, Ending::Finished);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_components_hook_has_its_say_in_each_token() {
    let tiny = Tiny::new();
    let single = single(&tiny, &guest("hook", "function-with-hook"), 10).await;
    let free = listen(single.start(asked(b"")).0).await;
    assert_eq!(free.text(), plain(&tiny, &single, 10).await);
    let only = listen(single.start(asked(b"o")).0).await;
    assert!(only.text().chars().all(|letter| letter == '\0'), "token 5 is the byte 0, 3 is no text");
    assert_eq!(only.usage.unwrap().completion_tokens, 10);
    let ended = listen(single.start(asked(b"e")).0).await;
    assert_eq!(ended.usage.unwrap().completion_tokens, 3);
    assert!(free.text().starts_with(ended.text()));
    let traps = listen(single.start(asked(b"t")).0).await;
    assert!(matches!(traps.error, Some(CallError::Function { code, .. }) if code == "hook_trap"));
    assert!(single.standings.yields(&asked(b"").names, Instant::now()), "a hook's trap counts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_that_breaks_a_limit_ends_with_its_name() {
    let tiny = Tiny::new();
    let single = single(&tiny, &guest("script", "function"), 8).await;
    for (body, expected) in [(&TRAP[..], "trap"), (&LOOP[..], "out_of_fuel")] {
        let call = asked(body);
        let names = call.names.clone();
        assert_eq!(single.standings.yields(&names, Instant::now()), expected != "trap", "from the first on");
        let (answer, outcome) = single.start(call);
        match listen(answer).await.error {
            Some(CallError::Function { code, .. }) => assert_eq!(code, expected),
            other => panic!("{expected}: {other:?}"),
        }
        let outcome = outcome.await.unwrap();
        assert!(outcome.usage.guest_bytes > 0 && matches!(outcome.ending, Ending::Failed(_)));
    }
    let after = listen(single.start(asked(&[GENERATE, STREAM].concat())).0).await;
    assert_eq!(after.text(), plain(&tiny, &single, 8).await, "the next call is as good as any");
    let names = asked(b"").names;
    let told = single.logs.of(&names).tail(0, 10);
    let told: Vec<_> = told.iter().filter(|line| line.message.contains("leave of the engine")).collect();
    assert!(told.len() == 1 && told[0].message.starts_with("`trap`"), "told once: {told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_goes_ends_the_component() {
    let tiny = Tiny::new();
    let single = single(&tiny, &guest("script", "function"), 3000).await;
    let (mut answer, outcome) = single.start(asked(&[GENERATE, STREAM].concat()));
    while !matches!(answer.events.recv().await, Some(Ok(CallEvent::Text { .. }))) {}
    drop(answer);
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.ending, Ending::Dropped);
    assert!(outcome.usage.sandbox_ns > 0, "code that was cut off used the CPU too: {:?}", outcome.usage);
    assert!(outcome.usage.completion_tokens > 0 && outcome.usage.completion_tokens < 3000);
    let now = single.model.engine.snapshot();
    assert_eq!((now.running, now.waiting, now.held, now.pages.used), (0, 0, 0, 0));
}
