//! Small valid files, changed at random: no panic, and whatever is accepted holds what it promises. The fuzz targets look
//! further; these run everywhere.

use crate::tiny::{Float, Tiny};
use candle_core::quantized::GgmlDType;
use coldframe_backbone::gguf;
use coldframe_backbone::model::{gguf_config, hf_config};
use coldframe_backbone::safetensors::{self, Limits};
use proptest::prelude::*;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

static TINY_GGUF: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Tiny { layers: 1, width: 32, heads: 1, kv_heads: 1, head_dim: 32, ffn: 32, vocab: 8, ..Tiny::default() }
        .write_gguf(&path, GgmlDType::Q4_0);
    fs::read(&path).expect("read")
});

static TINY_SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let tiny =
        Tiny { layers: 1, width: 8, heads: 1, kv_heads: 1, head_dim: 8, ffn: 8, vocab: 8, ..Tiny::default() };
    crate::tiny::safetensors(&tiny.tensors(), Float::F16)
});

/// Bytes changed at places near the front, where headers are, and an end cut off.
fn mutated(good: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    let front = good.len().min(2_500);
    let changes = prop::collection::vec((0..front, any::<u8>()), 0..8);
    (changes, prop_oneof![3 => Just(good.len()), 1 => 0..good.len()]).prop_map(move |(changes, length)| {
        let mut bytes = good.to_vec();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(length);
        bytes
    })
}

/// No two ranges overlap and all end within the file.
fn disjoint(mut ranges: Vec<std::ops::Range<usize>>, size: usize) {
    ranges.sort_by_key(|range| (range.start, range.end));
    assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert!(ranges.last().is_none_or(|range| range.end <= size));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is accepted holds what it promises.
    #[test]
    fn mutated_gguf(bytes in mutated(&TINY_GGUF)) {
        let path = Path::new("mutated.gguf");
        if let Ok(header) = gguf::parse(path, &bytes) {
            disjoint(header.tensors.iter().map(|tensor| tensor.range.clone()).collect(), bytes.len());
            for tensor in &header.tensors {
                let size = tensor.rows() * tensor.columns() / tensor.kind.block * tensor.kind.bytes;
                prop_assert_eq!(size, tensor.range.len());
            }
            if let Ok(config) = gguf_config::read(path, &header) {
                prop_assert!(config.heads.is_multiple_of(config.kv_heads) && config.rms_eps > 0.0);
            }
        }
    }

    #[test]
    fn mutated_safetensors(bytes in mutated(&TINY_SAFETENSORS)) {
        if let Ok(header) = safetensors::parse(Path::new("mutated"), &bytes, &Limits::MODEL) {
            disjoint(header.tensors.values().map(|tensor| tensor.range.clone()).collect(), bytes.len());
            let total: usize = header.tensors.values().map(|tensor| tensor.range.len()).sum();
            prop_assert_eq!(total, bytes.len() - header.data_start);
        }
    }

    #[test]
    fn mutated_config(at in 0_usize..600, byte in any::<u8>()) {
        let mut bytes = Tiny::default().config().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(config) = hf_config::read(Path::new("m/config.json"), &bytes, None) {
            prop_assert!(config.heads.is_multiple_of(config.kv_heads) && config.eos.iter().all(|&id| (id as usize) < config.vocab));
        }
    }
}
