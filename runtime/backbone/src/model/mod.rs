//! What a model is, whatever file it came from: sizes, variants, constants.
//!
//! [`ModelConfig`] is read from GGUF metadata ([`gguf_config`]) or from a Hugging Face `config.json` ([`hf_config`]).
//! It holds no weights.

pub mod gguf_config;
pub mod hf_config;

use crate::error::{Error, Result};
use crate::site::{Module, Site};
use std::path::Path;

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

    /// Refuses sizes that no model has, before anything is computed from them.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with the field.
    pub fn check(&self, path: &Path) -> Result<()> {
        // Arbitrary, several times the largest models of these families.
        let bounds = [
            ("layers", self.layers, 1_024),
            ("width", self.width, 1 << 17),
            ("feed-forward width", self.ffn, 1 << 20),
            ("heads", self.heads, 4_096),
            ("key and value heads", self.kv_heads, 4_096),
            ("head width", self.head_dim, 4_096),
            ("vocabulary", self.vocab, 1 << 22),
            ("context", self.context, 1 << 26),
        ];
        for (field, size, limit) in bounds {
            if size == 0 || size > limit {
                return Err(Error::corrupt(path, field, format!("{size} is not between 1 and {limit}")));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            let problem = format!("{} do not divide the {} query heads", self.kv_heads, self.heads);
            return Err(Error::corrupt(path, "key and value heads", problem));
        }
        if !self.head_dim.is_multiple_of(2) {
            let problem = format!("{} is odd, RoPE turns pairs", self.head_dim);
            return Err(Error::corrupt(path, "head width", problem));
        }
        self.check_constants(path)
    }

    fn check_constants(&self, path: &Path) -> Result<()> {
        let local = self.local_rope.as_ref().map_or(1.0, |rope| rope.theta);
        let positive = [
            ("norm epsilon", f64::from(self.rms_eps)),
            ("RoPE base", self.rope.theta),
            ("local RoPE base", local),
            ("attention scale", f64::from(self.attention_scale)),
            ("RoPE scaling", self.rope.scaling.least()),
        ];
        for (field, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::corrupt(path, field, format!("{value} is not finite and above zero")));
            }
        }
        Ok(())
    }
}

impl RopeScaling {
    /// The least of the constants that have to be above zero; NaN where one is not finite.
    fn least(&self) -> f64 {
        let values: &[f64] = match self {
            Self::None => &[1.0],
            Self::Linear { factor } => &[*factor],
            // The two bounds divide by their difference.
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                &[*factor, *low_freq_factor, high_freq_factor - low_freq_factor, *original_context as f64]
            }
            Self::Yarn { factor, beta_fast, beta_slow, original_context, attention_factor } => {
                &[*factor, *beta_fast, *beta_slow, *original_context as f64, *attention_factor]
            }
            Self::Factors(factors) => {
                let least = factors.iter().copied().fold(1.0, f32::min);
                let finite = factors.iter().all(|factor| factor.is_finite());
                return if finite { least.into() } else { f64::NAN };
            }
        };
        if values.iter().all(|value| value.is_finite()) {
            values.iter().copied().fold(f64::INFINITY, f64::min)
        } else {
            f64::NAN
        }
    }
}
