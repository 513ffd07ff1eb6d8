//! WASI for guests whose toolchain imports it: there is nothing to find, and `wasi:http` answers `/invoke`.

use crate::bed::{Bed, Caller, call, code, grants, invoke, limits, load};
use crate::guests::component_of;
use coldframe_sandbox::{Grants, Limits, Request, Route, World};

const IO: &str = "package wasi:io@0.2.0;
interface error { resource error; }
interface streams {
    use error.{error};
    variant stream-error { last-operation-failed(error), closed }
    resource output-stream { blocking-write-and-flush: func(contents: list<u8>) -> result<_, stream-error>; }
}
interface poll { resource pollable { block: func(); } }";
const CLI: &str = "package wasi:cli@0.2.0;
interface environment {
    get-environment: func() -> list<tuple<string, string>>;
    get-arguments: func() -> list<string>;
    initial-cwd: func() -> option<string>;
}
interface stdout { use wasi:io/streams@0.2.0.{output-stream}; get-stdout: func() -> output-stream; }
interface exit { exit: func(status: result); }";
const FILES: &str = "package wasi:filesystem@0.2.0;
interface types { resource descriptor; }
interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }";
const CLOCKS: &str = "package wasi:clocks@0.2.0;
interface monotonic-clock {
    use wasi:io/poll@0.2.0.{pollable};
    now: func() -> u64;
    subscribe-duration: func(when: u64) -> pollable;
}";
const RANDOM: &str = "package wasi:random@0.2.0;
interface random { get-random-u64: func() -> u64; }";
const WORLD: &str = "package test:guest;
world guest {
    import wasi:cli/environment@0.2.0;
    import wasi:cli/stdout@0.2.0;
    import wasi:cli/exit@0.2.0;
    import wasi:filesystem/preopens@0.2.0;
    import wasi:clocks/monotonic-clock@0.2.0;
    import wasi:random/random@0.2.0;
    import coldframe:function/reply@0.1.0;
    export coldframe:function/handler@0.1.0;
    export coldframe:function/token-hook@0.1.0;
}";

/// Imports that every guest here may use, a memory, and a place for what the host lowers.
const HEAD: &str = r#"(module
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
  (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
  (import "wasi:cli/environment@0.2.0" "initial-cwd" (func $cwd (param i32)))
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $print (param i32 i32 i32 i32)))
  (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
  (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $after (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
  (import "coldframe:function/reply@0.1.0" "write-bytes" (func $write (param i32 i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 900) "one\1b[2Jline\nand another")
  (global $bump (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (global.set $bump (i32.and (i32.add (global.get $bump) (i32.const 15)) (i32.const -8)))
    (global.set $bump (i32.add (global.get $bump) (local.get $size)))
    (i32.sub (global.get $bump) (local.get $size)))
  (func (export "coldframe:function/token-hook@0.1.0#begin") (param i32 i32))
  (func (export "coldframe:function/token-hook@0.1.0#before-token") (param i32 i32 i32 i32) (result i32)
    HOOK (i32.const 700))
  (func (export "coldframe:function/handler@0.1.0#handle") (param i32) (result i32)
    BODY (i32.const 768)))"#;

fn guest(body: &str, hook: &str) -> Vec<u8> {
    let text = HEAD.replace("BODY", body).replace("HOOK", hook);
    component_of(&text, &[IO, CLI, FILES, CLOCKS, RANDOM, WORLD], "guest")
}

/// Writes what the environment, arguments, directories, clock and random numbers are: counts at 516, 524, 532, then the rest.
const LOOK: &str = "
    (call $environment (i32.const 512)) (call $arguments (i32.const 520)) (call $directories (i32.const 528))
    (call $cwd (i32.const 548))
    (i64.store (i32.const 568) (call $now)) (i64.store (i32.const 576) (call $random))
    (i32.store (i32.const 512) (i32.const 0)) (i32.store (i32.const 520) (i32.const 0)) (i32.store (i32.const 528) (i32.const 0))
    (call $write (i32.const 512) (i32.const 72) (i32.const 640))";

#[tokio::test]
async fn there_is_nothing_to_find() {
    let function = load(&guest(LOOK, ""), limits(), Grants::default()).await;
    assert!(std::env::vars_os().count() > 0, "the host has an environment to hide");
    let (end, got) = call(&function, b"", &Bed::new()).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    // No variables, arguments, directories or folder, and a clock that stands.
    assert!(got.bytes[..64].iter().all(|byte| *byte == 0), "{:?}", got.bytes);
    assert!(end.usage.host_calls >= 6, "calls of WASI are counted");
    // Random numbers repeat unless granted.
    let (_, again) = call(&function, b"", &Bed::new()).await;
    assert_eq!(got.bytes, again.bytes);
    let granted = function.with(limits(), grants());
    let (first, second) =
        (call(&granted, b"", &Bed::new()).await.1, call(&granted, b"", &Bed::new()).await.1);
    assert_ne!(first.bytes[64..], second.bytes[64..]);
}

#[tokio::test]
async fn a_granted_clock_is_coarse() {
    let spin = "(loop $more
        (br_if $more (i64.lt_u (call $now) (i64.const 5000000))))
        (i64.store (i32.const 512) (call $now)) (call $write (i32.const 512) (i32.const 8) (i32.const 640))";
    let function = load(&guest(spin, ""), Limits { fuel: u64::MAX, ..limits() }, grants()).await;
    let (end, got) = call(&function, b"", &Bed::new()).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    let now = u64::from_le_bytes(got.bytes.try_into().expect("eight bytes"));
    assert!(now >= 5_000_000 && now % 1_000_000 == 0, "{now}");
}

#[tokio::test]
async fn standard_output_goes_to_the_log() {
    let print = "(call $print (call $stdout) (i32.const 900) (i32.const 23) (i32.const 640))";
    let function = load(&guest(print, ""), limits(), Grants::default()).await;
    let bed = Bed::new();
    let (end, _) = call(&function, b"", &bed).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    assert_eq!(bed.log(), ["one\\u{1b}[2Jline", "and another"]);
}

#[tokio::test]
async fn an_exit_and_a_flood_of_wasi_calls_end_the_call_only() {
    let function = load(&guest("(call $exit (i32.const 1))", ""), limits(), Grants::default()).await;
    assert_eq!(code(&call(&function, b"", &Bed::new()).await.0), "trap");
    let flood = guest("(loop $more (drop (call $now)) (br $more))", "");
    let function = load(&flood, Limits { fuel: 50_000_000, ..limits() }, Grants::default()).await;
    let (end, _) = call(&function, b"", &Bed::new()).await;
    assert_eq!(code(&end), "out_of_fuel", "{end:?}");
    let function =
        function.with(Limits { fuel: u64::MAX, host_calls: 10_000, ..limits() }, Grants::default());
    assert_eq!(code(&call(&function, b"", &Bed::new()).await.0), "host_calls");
}

#[tokio::test]
async fn waiting_ends_at_the_deadline_and_hooks_cannot_wait() {
    let wait = "(call $block (call $after (i64.const 3600000000000)))";
    let limits = Limits { wall: std::time::Duration::from_millis(50), ..limits() };
    let function = load(&guest(wait, wait), limits, Grants::default()).await;
    assert_eq!(function.checked().world, World::FunctionWithHook);
    assert_eq!(code(&call(&function, b"", &Bed::new()).await.0), "deadline");
    let failed = tokio::task::spawn_blocking(move || {
        let mut hook =
            function.hook("", Bed::new()).expect("a hook").unwrap_or_else(|failure| panic!("{failure}"));
        hook.before_token(None, "").expect_err("it cannot wait")
    });
    let failure = failed.await.expect("no panic");
    assert!(failure.code == "hook_trap" && failure.message.contains("cannot wait"), "{failure}");
}

const HTTP: &str = "package wasi:http@0.2.0;
interface types {
    use wasi:io/streams@0.2.0.{output-stream};
    record DNS-error-payload { rcode: option<string>, info-code: option<u16> }
    record TLS-alert-received-payload { alert-id: option<u8>, alert-message: option<string> }
    record field-size-payload { field-name: option<string>, field-size: option<u32> }
    variant error-code {
        DNS-timeout, DNS-error(DNS-error-payload), destination-not-found, destination-unavailable, destination-IP-prohibited,
        destination-IP-unroutable, connection-refused, connection-terminated, connection-timeout, connection-read-timeout,
        connection-write-timeout, connection-limit-reached, TLS-protocol-error, TLS-certificate-error,
        TLS-alert-received(TLS-alert-received-payload), HTTP-request-denied, HTTP-request-length-required,
        HTTP-request-body-size(option<u64>), HTTP-request-method-invalid, HTTP-request-URI-invalid, HTTP-request-URI-too-long,
        HTTP-request-header-section-size(option<u32>), HTTP-request-header-size(option<field-size-payload>),
        HTTP-request-trailer-section-size(option<u32>), HTTP-request-trailer-size(field-size-payload), HTTP-response-incomplete,
        HTTP-response-header-section-size(option<u32>), HTTP-response-header-size(field-size-payload),
        HTTP-response-body-size(option<u64>), HTTP-response-trailer-section-size(option<u32>),
        HTTP-response-trailer-size(field-size-payload), HTTP-response-transfer-coding(option<string>),
        HTTP-response-content-coding(option<string>), HTTP-response-timeout, HTTP-upgrade-failed, HTTP-protocol-error,
        loop-detected, configuration-error, internal-error(option<string>)
    }
    resource fields { constructor(); }
    type trailers = fields;
    resource incoming-request { path-with-query: func() -> option<string>; }
    resource outgoing-response { constructor(headers: fields); body: func() -> result<outgoing-body>; }
    resource outgoing-body {
        write: func() -> result<output-stream>;
        finish: static func(this: outgoing-body, trailers: option<trailers>) -> result<_, error-code>;
    }
    resource response-outparam {
        set: static func(param: response-outparam, response: result<outgoing-response, error-code>);
    }
}
interface incoming-handler {
    use types.{incoming-request, response-outparam};
    handle: func(request: incoming-request, response-out: response-outparam);
}";
const PROXY: &str = "package test:guest; world guest { export wasi:http/incoming-handler@0.2.0; }";

/// A component of `wasi:http` that answers with the path it was asked for, over and over `times`.
pub fn web_guest(times: u32) -> Vec<u8> {
    let text = format!(
        r#"(module
  (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.path-with-query" (func $path (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $open (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]response-outparam.set" (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush" (func $print (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $close (param i32)))
  (memory (export "memory") 2)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
  (func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
    (local $response i32) (local $body i32) (local $stream i32) (local $left i32)
    (call $path (local.get $request) (i32.const 256))
    (local.set $response (call $response (call $fields)))
    (call $body (local.get $response) (i32.const 512))
    (local.set $body (i32.load (i32.const 516)))
    (call $set (local.get $out) (i32.const 0) (local.get $response)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $open (local.get $body) (i32.const 512))
    (local.set $stream (i32.load (i32.const 516)))
    (local.set $left (i32.const {times}))
    (loop $more
      (call $print (local.get $stream) (i32.load (i32.const 260)) (i32.load (i32.const 264)) (i32.const 512))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left)))
    (call $close (local.get $stream))
    (call $finish (local.get $body) (i32.const 0) (i32.const 0) (i32.const 512))))"#
    );
    component_of(&text, &[IO, HTTP, PROXY], "guest")
}

#[tokio::test]
async fn a_component_of_wasi_http_answers_invoke() {
    let function = load(&web_guest(3), limits(), Grants::default()).await;
    assert_eq!(function.checked().world, World::Http);
    let caller = Caller::default();
    let request = Request { path: "/a?b=c".to_owned(), ..invoke(b"") };
    let end = function.call(request.clone(), Bed::new(), Box::new(caller.clone())).await;
    assert_eq!(code(&end), "ok", "{end:?}");
    let got = std::mem::take(&mut *caller.got.lock().expect("unpoisoned"));
    assert_eq!((got.status, got.text().as_str()), (Some(200), "/a?b=c/a?b=c/a?b=c"));
    assert_eq!(end.usage.output_bytes, 18);
    let chat = Request { route: Route::Chat, ..request };
    assert_eq!(code(&function.call(chat, Bed::new(), Box::new(Caller::default())).await), "unsupported");
}

#[tokio::test]
async fn its_output_is_held_to_the_limit_and_a_caller_who_goes_ends_it() {
    let limits = Limits { output_bytes: 1_000, ..limits() };
    let function = load(&web_guest(100_000), limits.clone(), Grants::default()).await;
    let (end, got) = call(&function, b"", &Bed::new()).await;
    assert_eq!(code(&end), "output");
    assert!(got.bytes.len() <= 1_000);
    let function = function.with(Limits { output_bytes: 1 << 20, ..limits }, Grants::default());
    let caller = Caller { goes_after: Some(10), ..Caller::default() };
    let end = function.call(invoke(b""), Bed::new(), Box::new(caller)).await;
    assert_eq!(code(&end), "closed");
}
