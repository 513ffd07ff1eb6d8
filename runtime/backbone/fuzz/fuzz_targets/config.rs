//! `config.json` of Hugging Face models: no panic, and the sizes of what is accepted are sane.
#![no_main]

use coldframe_backbone::model::hf_config;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = hf_config::read(Path::new("fuzz/config.json"), bytes, None) else { return };
    assert!(config.heads.is_multiple_of(config.kv_heads) && config.head_dim.is_multiple_of(2));
    assert!(config.eos.iter().all(|&id| (id as usize) < config.vocab));
});
