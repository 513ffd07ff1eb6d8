//! `adapter_config.json` of PEFT adapters: no panic.
#![no_main]

use coldframe_backbone::adapter::{Limits, check_config};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = check_config(bytes, &Limits::default());
});
