//! Model configuration from GGUF metadata.
//!
//! Keys as llama.cpp writes and reads them; where llama.cpp has a default, it is the default here. What would change the
//! forward pass and is not built (experts, partial rotary, soft caps) is refused by name, never ignored.

use super::{Activation, Family, ModelConfig, Rope, RopeScaling, Window};
use crate::error::{Error, Result};
use crate::gguf::{Header, Value};
use std::path::Path;

/// Tokens that end a turn, by their text, where the file marks them as control tokens: GGUF names one or two ids only,
/// and llama.cpp adds these the same way.
const END_TEXTS: [&str; 9] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "</s>",
];

/// Reads the sizes and constants of a GGUF model. `path` is for messages.
///
/// # Errors
/// [`Error::Unsupported`] for architectures and options that are not built, [`Error::Corrupt`] for missing or absurd
/// values.
pub fn read(path: &Path, header: &Header) -> Result<ModelConfig> {
    let arch = header.text("general.architecture").unwrap_or_default();
    let family = match arch {
        "llama" => Family::Llama,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        "gemma3" => Family::Gemma3,
        other => {
            let what = format!("architecture {other:?}; this build runs llama, qwen2, qwen3 and gemma3");
            return Err(Error::Unsupported { path: path.to_owned(), what });
        }
    };
    Keys { path, header, arch, family }.config()
}

/// The metadata of one architecture.
struct Keys<'a> {
    path: &'a Path,
    header: &'a Header,
    arch: &'a str,
    family: Family,
}

impl Keys<'_> {
    fn config(&self) -> Result<ModelConfig> {
        self.refuse_foreign_options()?;
        let (width, heads) = (self.size("embedding_length")?, self.heads()?);
        let (layers, head_dim) = (self.size("block_count")?, self.head_dim(width, heads)?);
        let window = self.window()?;
        let vocab = self.vocab()?;
        let gemma = self.family == Family::Gemma3;
        let config = ModelConfig {
            family: if self.family == Family::Llama && window.is_some() {
                Family::Mistral
            } else {
                self.family
            },
            name: self.header.text("general.name").unwrap_or("unnamed").to_owned(),
            layers,
            width,
            ffn: self.uniform("feed_forward_length")?,
            heads,
            kv_heads: self.kv_heads(heads)?,
            head_dim,
            vocab,
            context: self.size("context_length")?,
            rms_eps: self.required_float("attention.layer_norm_rms_epsilon")? as f32,
            rope: self.rope(head_dim)?,
            local_rope: gemma.then(|| self.local_rope()).transpose()?,
            window,
            attention_scale: self.attention_scale(layers, width, heads, head_dim),
            tied: self.header.tensor("output.weight").is_none(),
            embed_scale: if gemma { (width as f32).sqrt() } else { 1.0 },
            activation: if gemma { Activation::GeluTanh } else { Activation::Silu },
            bos: self.token("tokenizer.ggml.bos_token_id", vocab)?,
            eos: self.ends(vocab)?,
        };
        config.check(self.path)?;
        Ok(config)
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.header.get(&self.key(name))
    }

    fn corrupt<T>(&self, name: &str, problem: impl Into<String>) -> Result<T> {
        Err(Error::corrupt(self.path, self.key(name), problem))
    }

    fn unsupported<T>(&self, what: String) -> Result<T> {
        Err(Error::Unsupported { path: self.path.to_owned(), what })
    }

    fn size(&self, name: &str) -> Result<usize> {
        match self.get(name).map(Value::as_unsigned) {
            Some(Some(value)) => Ok(value as usize),
            Some(None) => self.corrupt(name, "it is no whole number"),
            None => self.corrupt(name, "it is missing"),
        }
    }

    fn float(&self, name: &str) -> Result<Option<f64>> {
        match self.get(name).map(Value::as_float) {
            Some(Some(value)) if value.is_finite() => Ok(Some(value)),
            Some(_) => self.corrupt(name, "it is no finite number"),
            None => Ok(None),
        }
    }

    fn required_float(&self, name: &str) -> Result<f64> {
        self.float(name)?.map_or_else(|| self.corrupt(name, "it is missing"), Ok)
    }

    /// A size that some models give for each layer; only one size for all is built.
    fn uniform(&self, name: &str) -> Result<usize> {
        let Some(Value::Integers(values)) = self.get(name) else { return self.size(name) };
        match values[..] {
            [first, ref rest @ ..] if first > 0 && rest.iter().all(|&value| value == first) => {
                Ok(first as usize)
            }
            _ => self.unsupported(format!("{} differs between layers", self.key(name))),
        }
    }

    fn heads(&self) -> Result<usize> {
        self.uniform("attention.head_count")
    }

    fn kv_heads(&self, heads: usize) -> Result<usize> {
        match self.get("attention.head_count_kv") {
            Some(_) => self.uniform("attention.head_count_kv"),
            None => Ok(heads),
        }
    }

    fn head_dim(&self, width: usize, heads: usize) -> Result<usize> {
        let head_dim = match self.get("attention.key_length") {
            Some(_) => self.size("attention.key_length")?,
            None => width.checked_div(heads).unwrap_or(0),
        };
        for name in ["attention.value_length", "rope.dimension_count"] {
            if self.get(name).is_some() && self.size(name)? != head_dim {
                return self
                    .unsupported(format!("{} differs from the head's width {head_dim}", self.key(name)));
            }
        }
        Ok(head_dim)
    }

    fn vocab(&self) -> Result<usize> {
        match self.header.tensor("token_embd.weight") {
            Some(tensor) => Ok(tensor.rows()),
            None => Err(Error::corrupt(self.path, "token_embd.weight", "the tensor is missing")),
        }
    }

    fn refuse_foreign_options(&self) -> Result<()> {
        for name in [
            "expert_count",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "attention.clamp_kqv",
            "logit_scale",
        ] {
            let set = self.get(name).and_then(Value::as_float).is_some_and(|value| value != 0.0);
            if set {
                return self
                    .unsupported(format!("{} is set, which this build does not compute", self.key(name)));
            }
        }
        Ok(())
    }

    fn rope(&self, head_dim: usize) -> Result<Rope> {
        let default = if self.family == Family::Gemma3 { 1e6 } else { 1e4 };
        let theta = self.float("rope.freq_base")?.unwrap_or(default);
        let scaling = match self.header.tensor("rope_freqs.weight") {
            Some(tensor) if tensor.dims == [head_dim / 2] => RopeScaling::Factors(Vec::new()),
            Some(tensor) => {
                let problem = format!("shape {:?}, expected [{}]", tensor.dims, head_dim / 2);
                return Err(Error::corrupt(self.path, "rope_freqs.weight", problem));
            }
            None => self.scaling()?,
        };
        Ok(Rope { theta, scaling })
    }

    fn scaling(&self) -> Result<RopeScaling> {
        let kind = self.header.text(&self.key("rope.scaling.type"));
        let old = self.float("rope.scale_linear")?;
        let factor = self.float("rope.scaling.factor")?.or(old).unwrap_or(1.0);
        match kind.unwrap_or(if old.is_some() { "linear" } else { "none" }) {
            "none" => Ok(RopeScaling::None),
            "linear" if factor == 1.0 => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor }),
            "yarn" => self.yarn(factor),
            other => {
                self.unsupported(format!("RoPE scaling {other:?}; this build knows linear, yarn and llama3"))
            }
        }
    }

    fn yarn(&self, factor: f64) -> Result<RopeScaling> {
        let original_context = match self.get("rope.scaling.original_context_length") {
            Some(_) => self.size("rope.scaling.original_context_length")?,
            None => self.size("context_length")?,
        };
        let gain = self.float("rope.scaling.attn_factor")?.unwrap_or(1.0);
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            original_context,
            // llama.cpp multiplies this in itself (`ggml_rope_yarn_corr_dims`); the file holds what comes on top.
            attention_factor: gain * (1.0 + 0.1 * factor.max(1.0).ln()),
        })
    }

    fn local_rope(&self) -> Result<Rope> {
        let theta = self.float("rope.freq_base_swa")?.unwrap_or(1e4);
        Ok(Rope { theta, scaling: RopeScaling::None })
    }

    fn window(&self) -> Result<Option<Window>> {
        let tokens = match self.get("attention.sliding_window") {
            Some(_) => self.size("attention.sliding_window")?,
            None => 0,
        };
        // Only these two architectures slide by this key alone; Qwen's files carry it switched off.
        if tokens == 0 || !matches!(self.family, Family::Gemma3 | Family::Llama) {
            return Ok(None);
        }
        let global_every = match (self.family, self.get("attention.sliding_window_pattern")) {
            (Family::Llama, _) => 0,
            (_, None) => 6,
            (_, Some(value)) => match value.as_unsigned() {
                Some(every) => every as usize,
                None => return self.corrupt("attention.sliding_window_pattern", "it is no whole number"),
            },
        };
        Ok(Some(Window { tokens, global_every }))
    }

    fn attention_scale(&self, layers: usize, width: usize, heads: usize, head_dim: usize) -> f32 {
        // Gemma 3 27B alone scales by the width over the heads; its file does not say so, its depth does (llama.cpp
        // tells it the same way).
        let large_gemma = self.family == Family::Gemma3 && layers == 62;
        let per_head = if large_gemma { width as f32 / heads as f32 } else { head_dim as f32 };
        per_head.sqrt().recip()
    }

    fn token(&self, key: &str, vocab: usize) -> Result<Option<u32>> {
        match self.header.get(key).map(Value::as_unsigned) {
            None => Ok(None),
            Some(Some(id)) if id < vocab as u64 => Ok(Some(id as u32)),
            Some(_) => Err(Error::corrupt(self.path, key, format!("it is no token of the {vocab}"))),
        }
    }

    fn ends(&self, vocab: usize) -> Result<Vec<u32>> {
        let mut ends = Vec::new();
        for name in ["eos", "eot", "eom"] {
            ends.extend(self.token(&format!("tokenizer.ggml.{name}_token_id"), vocab)?);
        }
        let texts = self.header.get("tokenizer.ggml.tokens");
        let kinds = self.header.get("tokenizer.ggml.token_type");
        if let (Some(Value::Texts(texts)), Some(Value::Integers(kinds))) = (texts, kinds) {
            // 3 is `LLAMA_TOKEN_TYPE_CONTROL`.
            let control = texts.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| **kind == 3);
            let named = control.filter(|(_, (text, _))| END_TEXTS.contains(&text.as_str()));
            ends.extend(named.map(|(id, _)| id as u32).filter(|&id| (id as usize) < vocab));
        }
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
    }
}
