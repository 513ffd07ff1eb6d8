//! Nothing of one call is seen by the next, whichever function it is of: memory, tables, globals, handles.

use crate::bed::{Bed, call, code, grants, limits, load, small};
use crate::guests::{Script, component, script};
use coldframe_sandbox::SandboxOptions;

#[tokio::test]
async fn a_slot_is_clean_when_it_is_used_again() {
    // Two places only, so that each call gets what another has just soiled.
    let sandbox = small(SandboxOptions { calls: 2, ..SandboxOptions::default() });
    let soiling = sandbox.load(script(), limits(), grants()).await.expect("it loads");
    let reading = sandbox.load(script(), limits(), grants()).await.expect("it loads");
    for _ in 0..300 {
        let (end, _) = call(&soiling, &Script::new().op(28, &[]).0, &Bed::new()).await;
        assert_eq!(code(&end), "ok");
        let (_, got) = call(&reading, &Script::new().op(29, &[]).0, &Bed::new()).await;
        assert_eq!(got.text(), "clean");
    }
    // The inspection itself can tell.
    let (_, got) = call(&reading, &Script::new().op(28, &[]).op(29, &[]).0, &Bed::new()).await;
    assert_eq!(got.text(), "dirty");
}

/// A guest whose start function soils its memory and then traps, and has no data segments: a slot that was never whole.
const HALFWAY: &str = r#"(module
  (memory (export "memory") 2)
  (func $start
    (memory.fill (i32.const 0) (i32.const 0xa5) (i32.const 131072))
    unreachable)
  (start $start)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
  (func (export "coldframe:function/handler@0.1.0#handle") (param i32) (result i32) (i32.const 0)))"#;

#[tokio::test]
async fn a_slot_is_clean_after_an_instance_that_failed_halfway() {
    let sandbox = small(SandboxOptions { calls: 1, hooks: 1, ..SandboxOptions::default() });
    let halfway = component(HALFWAY, "function");
    let failing = sandbox.load(&halfway, limits(), grants()).await.expect("it loads");
    let reading = sandbox.load(script(), limits(), grants()).await.expect("it loads");
    for _ in 0..100 {
        let (end, _) = call(&failing, b"", &Bed::new()).await;
        assert_eq!(code(&end), "trap");
        let (end, got) = call(&reading, &Script::new().op(29, &[]).0, &Bed::new()).await;
        assert_eq!((code(&end), got.text().as_str()), ("ok", "clean"));
    }
}

#[tokio::test]
async fn a_call_ended_by_a_limit_leaves_a_clean_slot() {
    let sandbox = small(SandboxOptions { calls: 1, hooks: 1, ..SandboxOptions::default() });
    let function = sandbox.load(script(), limits(), grants()).await.expect("it loads");
    for deed in [8, 10, 12] {
        let (end, _) = call(&function, &Script::new().op(28, &[]).op(deed, &[]).0, &Bed::new()).await;
        assert_ne!(code(&end), "ok");
        let (_, got) = call(&function, &Script::new().op(29, &[]).0, &Bed::new()).await;
        assert_eq!(got.text(), "clean");
    }
}

#[tokio::test]
async fn handles_are_a_calls_own() {
    let function = load(script(), limits(), grants()).await;
    let bed = Bed::new();
    let (end, _) = call(&function, &Script::new().on(3, 0).0, &bed).await;
    assert_eq!(code(&end), "ok");
    // Whatever number a guest makes up, no generation of another call or function answers to it.
    for forged in [0, 1, 2, 3, 4, 100, u32::MAX] {
        let (end, _) = call(&function, &Script::new().op(26, &[forged]).0, &bed).await;
        assert_eq!(code(&end), "trap", "handle {forged}");
    }
    // Nor after it was dropped.
    let (end, _) = call(&function, &Script::new().on(3, 0).on(6, 0).on(4, 0).0, &bed).await;
    assert_eq!(code(&end), "trap");
}
