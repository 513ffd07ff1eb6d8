//! safetensors headers: no panic, and the tensors of what is accepted tile the file.
#![no_main]

use coldframe_backbone::safetensors::{Limits, parse};
use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = parse(Path::new("fuzz.safetensors"), bytes, &Limits::ADAPTER) else { return };
    let total: usize = header.tensors.values().map(|tensor| tensor.range.len()).sum();
    assert_eq!(total, bytes.len() - header.data_start);
});
