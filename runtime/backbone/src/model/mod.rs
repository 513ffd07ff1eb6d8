//! What a model is, whatever file it came from: sizes, variants, constants.
//!
//! [`ModelConfig`] is read from GGUF metadata ([`gguf_config`]) or from a Hugging Face `config.json` ([`hf_config`]).
//! It holds no weights.

pub mod gguf_config;
pub mod hf_config;

use crate::site::{Module, Site};

/// The model families this crate runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2, TinyLlama, …
    Llama,
    /// Mistral (Llama with an optional sliding window).
    Mistral,
    /// Qwen2 and Qwen2.5 (bias on q, k, v).
    Qwen2,
    /// Qwen3 (RMS norm over each query and key head).
    Qwen3,
    /// Gemma 3, text part (sandwich norms, GELU, local and global layers).
    Gemma3,
}

/// The feed-forward's gate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// GELU, tanh form.
    GeluTanh,
}

/// How positions turn into angles.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the geometric frequencies.
    pub theta: f64,
    /// Change of the frequencies for longer contexts.
    pub scaling: RopeScaling,
}

/// Changes of RoPE's frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's smooth change between short and long wavelengths.
    Llama3 {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Bound of the long wavelengths, in original contexts.
        low_freq_factor: f64,
        /// Bound of the short wavelengths, in original contexts.
        high_freq_factor: f64,
        /// Context the model was first trained with, tokens.
        original_context: usize,
    },
    /// YaRN.
    Yarn {
        /// Divisor of the long wavelengths.
        factor: f64,
        /// Fast bound, rotations.
        beta_fast: f64,
        /// Slow bound, rotations.
        beta_slow: f64,
        /// Context the model was first trained with, tokens.
        original_context: usize,
        /// Factor on cos and sin.
        attention_factor: f64,
    },
    /// A divisor per frequency, from the file (`rope_freqs.weight` of a GGUF).
    Factors(Vec<f32>),
}

/// Sizes and constants of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub family: Family,
    /// A name for people: `SmolLM2 135M Instruct`.
    pub name: String,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the feed-forward.
    pub ffn: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Tokens in the vocabulary (rows of the embedding).
    pub vocab: usize,
    /// Longest sequence, tokens.
    pub context: usize,
    /// Epsilon of the RMS norms.
    pub rms_eps: f32,
    /// RoPE of every layer, or of the global layers where `local_rope` is given.
    pub rope: Rope,
    /// RoPE of the sliding-window layers (Gemma 3).
    pub local_rope: Option<Rope>,
    /// Sliding window, tokens, and which layers have it.
    pub window: Option<Window>,
    /// Factor on q·k, usually `1 / sqrt(head_dim)`.
    pub attention_scale: f32,
    /// Whether the head is the embedding.
    pub tied: bool,
    /// Factor on the embedding's rows (Gemma: `sqrt(width)`), else 1.
    pub embed_scale: f32,
    /// Gate function.
    pub activation: Activation,
    /// Beginning-of-sequence token, if the model names one.
    pub bos: Option<u32>,
    /// Tokens that end a generation.
    pub eos: Vec<u32>,
}

/// A sliding attention window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Positions a row sees, itself included.
    pub tokens: usize,
    /// Every n-th layer is global (Gemma 3: 6); 0 means that every layer slides.
    pub global_every: usize,
}

impl ModelConfig {
    /// Rows and columns `(out, in)` of the matrix at a site.
    pub fn shape(&self, site: Site) -> (usize, usize) {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        match site {
            Site::Embed | Site::Head => (self.vocab, self.width),
            Site::Block(_, Module::Q) => (q, self.width),
            Site::Block(_, Module::K | Module::V) => (kv, self.width),
            Site::Block(_, Module::O) => (self.width, q),
            Site::Block(_, Module::Gate | Module::Up) => (self.ffn, self.width),
            Site::Block(_, Module::Down) => (self.width, self.ffn),
        }
    }

    /// The window of a layer, tokens; `None` sees everything.
    pub fn window_of(&self, layer: usize) -> Option<usize> {
        let window = self.window?;
        let global = window.global_every > 0 && (layer + 1).is_multiple_of(window.global_every);
        (!global).then_some(window.tokens)
    }

    /// The RoPE of a layer.
    pub fn rope_of(&self, layer: usize) -> &Rope {
        match (&self.local_rope, self.window_of(layer)) {
            (Some(local), Some(_)) => local,
            _ => &self.rope,
        }
    }
}
