//! The places of a model that an adapter can change.
//!
//! One list of names for every format: PEFT paths, GGUF names and kernels all speak of the same [`Site`].

use std::fmt;

/// A linear layer inside a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Module {
    /// Attention query projection, `[heads * head_dim, width]`.
    Q,
    /// Attention key projection, `[kv_heads * head_dim, width]`.
    K,
    /// Attention value projection, `[kv_heads * head_dim, width]`.
    V,
    /// Attention output projection, `[width, heads * head_dim]`.
    O,
    /// Gate of the feed-forward, `[ffn, width]`.
    Gate,
    /// Up projection of the feed-forward, `[ffn, width]`.
    Up,
    /// Down projection of the feed-forward, `[width, ffn]`.
    Down,
}

impl Module {
    /// All modules of a block, in the order they run.
    pub const ALL: [Self; 7] = [Self::Q, Self::K, Self::V, Self::O, Self::Gate, Self::Up, Self::Down];

    /// Its place in [`Module::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its path under `model.layers.N.` in Hugging Face models.
    pub fn hf_path(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// Its name under `blk.N.` in GGUF models.
    pub fn gguf_name(self) -> &'static str {
        match self {
            Self::Q => "attn_q",
            Self::K => "attn_k",
            Self::V => "attn_v",
            Self::O => "attn_output",
            Self::Gate => "ffn_gate",
            Self::Up => "ffn_up",
            Self::Down => "ffn_down",
        }
    }
}

/// A matrix of the model that an adapter can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Site {
    /// A linear layer of block `.0`.
    Block(u32, Module),
    /// The token embedding, `[vocab, width]`.
    Embed,
    /// The language-model head, `[vocab, width]`.
    Head,
}

impl Site {
    /// Its full path in a Hugging Face model, without `.weight`.
    pub fn hf_path(self) -> String {
        match self {
            Self::Block(layer, module) => format!("model.layers.{layer}.{}", module.hf_path()),
            Self::Embed => "model.embed_tokens".to_owned(),
            Self::Head => "lm_head".to_owned(),
        }
    }

    /// Its name in a GGUF model, without `.weight`.
    pub fn gguf_name(self) -> String {
        match self {
            Self::Block(layer, module) => format!("blk.{layer}.{}", module.gguf_name()),
            Self::Embed => "token_embd".to_owned(),
            Self::Head => "output".to_owned(),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hf_path())
    }
}
