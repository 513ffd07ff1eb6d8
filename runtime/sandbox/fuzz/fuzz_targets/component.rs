//! Arbitrary bytes as a component: the check answers, and never panics.
#![no_main]

use coldframe_sandbox::{ModuleLimits, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(checked) = check(bytes, &ModuleLimits::default()) else { return };
    assert_eq!(checked.bytes, bytes.len());
    assert!(checked.imports.is_sorted());
});
