//! The check before anything is compiled: what is refused, and why.

use crate::bed::sandbox;
use crate::guests::{bare, component_of, hook, script};
use coldframe_sandbox::{Error, ModuleLimits, World, check};
use std::fmt::Write;

fn refused(bytes: &[u8]) -> Error {
    check(bytes, &ModuleLimits::default()).expect_err("refused")
}

#[test]
fn a_component_is_told_for_what_it_is() {
    let checked = check(script(), &ModuleLimits::default()).expect("a function");
    assert_eq!((checked.world, checked.bytes), (World::Function, script().len()));
    assert!(checked.imports.iter().any(|import| import == "coldframe:function/model@0.1.0"));
    assert_eq!(checked.digest.len(), 64);
    assert_eq!(check(hook(), &ModuleLimits::default()).expect("a function").world, World::FunctionWithHook);
    let smallest = check(bare(), &ModuleLimits::default()).expect("a function");
    assert!(smallest.capabilities().is_empty(), "{:?}", smallest.imports);
}

#[test]
fn what_is_no_component_is_refused() {
    for bytes in [&b""[..], b"\0asm", b"PK\x03\x04", b"\x80\x04\x95", &[0; 1000]] {
        assert_eq!(refused(bytes).code(), "invalid_module");
    }
    let core = wat::parse_str("(module)").expect("text");
    assert!(refused(&core).to_string().contains("core module"));
    let nothing = wat::parse_str("(component)").expect("text");
    assert!(matches!(refused(&nothing), Error::NoHandler));
}

#[test]
fn a_truncated_component_is_refused_wherever_it_is_cut() {
    for len in (0..script().len()).step_by(37) {
        assert!(check(&script()[..len], &ModuleLimits::default()).is_err(), "cut at {len}");
    }
}

#[test]
fn an_unknown_import_is_refused_by_name() {
    let wit = "package evil:things@1.0.0; interface host { run: func(); }
        world guest { import host; export coldframe:function/handler@0.1.0; }";
    let text = r#"(module (import "evil:things/host@1.0.0" "run" (func $run)) (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "coldframe:function/handler@0.1.0#handle") (param i32) (result i32) call $run (i32.const 0)))"#;
    let error = refused(&component_of(text, &[wit], "guest"));
    assert!(matches!(&error, Error::UnknownImport(name) if name == "evil:things/host@1.0.0"), "{error}");
}

#[tokio::test]
async fn an_import_of_a_known_name_with_another_type_is_refused_by_name() {
    let text = r#"(component
        (import "coldframe:function/clock@0.1.0" (instance (export "now-ms" (func (result string)))))
        (import "coldframe:function/log@0.1.0" (instance (export "steal" (func)))))"#;
    let bytes = wat::parse_str(text).expect("text");
    assert!(matches!(refused(&bytes), Error::NoHandler));
    let wit = "package test:guest; world guest { import wasi:clocks/steal@0.2.0; export coldframe:function/handler@0.1.0; }";
    let steal = "package wasi:clocks@0.2.0; interface steal { run: func(); }";
    let text = r#"(module (import "wasi:clocks/steal@0.2.0" "run" (func $run)) (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 0))
        (func (export "coldframe:function/handler@0.1.0#handle") (param i32) (result i32) call $run (i32.const 0)))"#;
    let bytes = component_of(text, &[steal, wit], "guest");
    let error =
        sandbox().load(&bytes, crate::bed::limits(), crate::bed::grants()).await.expect_err("refused");
    assert!(error.to_string().contains("wasi:clocks/steal"), "{error}");
}

#[test]
fn bombs_are_refused_before_they_are_compiled() {
    let mut exports = String::from("(component (core module (func $f)");
    for number in 0..50_000 {
        write!(exports, r#"(export "e{number}" (func $f))"#).expect("a string");
    }
    exports.push_str("))");
    let bytes = wat::parse_str(&exports).expect("text");
    let error = refused(&bytes);
    assert!(matches!(error, Error::TooLarge { what: "exports in one module", found: 50_000, .. }), "{error}");

    let statements =
        format!("(component (core module (func {})))", "i64.const 1000000 drop ".repeat(300_000));
    let error = refused(&wat::parse_str(&statements).expect("text"));
    assert!(matches!(error, Error::TooLarge { what: "bytes in one function", .. }), "{error}");

    let nested = format!("{}{}", "(component ".repeat(20), ")".repeat(20));
    let error = refused(&wat::parse_str(&nested).expect("text"));
    assert!(matches!(error, Error::TooLarge { what: "levels of components in components", .. }), "{error}");

    let small = ModuleLimits { bytes: 100, ..ModuleLimits::default() };
    assert_eq!(check(script(), &small).expect_err("refused").code(), "module_too_large");
}

#[test]
fn threads_and_wide_memories_are_refused() {
    for module in ["(memory 1 1 shared)", "(memory i64 1)"] {
        let text = format!("(component (core module {module}))");
        let error = refused(&wat::parse_str(&text).expect("text"));
        assert_eq!(error.code(), "invalid_module", "{module}: {error}");
    }
}
