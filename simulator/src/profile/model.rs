//! Backbones: shape and sizes at 16 bits, from which weights, KV and adapters take their bytes.

use serde::{Deserialize, Serialize};

/// One backbone model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelProfile {
    /// Canonical name, e.g. `llama-2-7b`.
    pub name: String,
    /// Other spellings that mean this model.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Models of the same shape, whose step times hold for this one too.
    #[serde(default)]
    pub same_shape: Vec<String>,
    /// Where the numbers come from.
    pub source: String,
    /// Transformer layers.
    pub layers: u32,
    /// Hidden width.
    pub hidden: u32,
    /// Weights, bytes.
    pub weight_bytes: u64,
    /// KV cache, bytes per token.
    pub kv_bytes_per_token: u64,
    /// LoRA adapter on q, k, v and o, bytes per unit of rank.
    pub adapter_bytes_per_rank: u64,
    /// Vocabulary, tokens.
    pub vocab: u32,
}

impl ModelProfile {
    /// Bytes of a q,k,v,o adapter of `rank`.
    pub fn adapter_bytes(&self, rank: u32) -> u64 {
        self.adapter_bytes_per_rank * u64::from(rank)
    }
}
