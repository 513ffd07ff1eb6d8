//! GGUF headers and the configuration they hold: no panic, and what is accepted lies within the file.
#![no_main]

use coldframe_backbone::gguf;
use coldframe_backbone::model::gguf_config;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz.gguf");
    let Ok(header) = gguf::parse(path, bytes) else { return };
    for tensor in &header.tensors {
        assert!(tensor.range.start >= header.data_start && tensor.range.end <= bytes.len());
        assert!(header.tensor(&tensor.name) == Some(tensor));
    }
    let _ = gguf_config::read(path, &header);
});
