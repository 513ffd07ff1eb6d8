//! Model configuration from a Hugging Face `config.json`.
//!
//! Absent fields have the defaults of the families' classes in transformers. What would change the forward pass and is
//! not built is refused by name, never ignored. A multimodal Gemma 3 is read by its `text_config`.

use super::{Activation, Family, ModelConfig, Rope, RopeScaling, Window};
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// Reads the sizes and constants of a model. `generation` is its `generation_config.json`, where there is one; `path`, of
/// the `config.json`, is for messages and, by its folder, for the model's name.
///
/// # Errors
/// [`Error::Unsupported`] for architectures and options that are not built, [`Error::Corrupt`] for missing or absurd
/// values.
pub fn read(path: &Path, config: &[u8], generation: Option<&[u8]>) -> Result<ModelConfig> {
    let whole = object(path, "JSON", config)?;
    let generation = generation.map(|bytes| object(path, "generation_config.json", bytes)).transpose()?;
    let text = whole.get("text_config").and_then(Value::as_object).unwrap_or(&whole);
    let kind = text
        .get("model_type")
        .or_else(|| whole.get("model_type"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let family = match kind {
        "llama" => Family::Llama,
        "mistral" => Family::Mistral,
        "qwen2" => Family::Qwen2,
        "qwen3" => Family::Qwen3,
        "gemma3_text" | "gemma3" => Family::Gemma3,
        other => {
            let what = format!(
                "model_type {other:?}; this build runs llama, mistral, qwen2, qwen3, gemma3 and gemma3_text"
            );
            return Err(Error::Unsupported { path: path.to_owned(), what });
        }
    };
    Fields { path, whole: &whole, text, generation: generation.as_ref(), family }.config()
}

fn object(path: &Path, place: &str, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|error| Error::corrupt(path, place, error.to_string()))
}

/// The fields of one model.
struct Fields<'a> {
    path: &'a Path,
    whole: &'a Map<String, Value>,
    text: &'a Map<String, Value>,
    generation: Option<&'a Map<String, Value>>,
    family: Family,
}

impl Fields<'_> {
    fn config(&self) -> Result<ModelConfig> {
        self.refuse_foreign_options()?;
        let gemma = self.family == Family::Gemma3;
        let (width, layers) = (self.size("hidden_size", None)?, self.size("num_hidden_layers", None)?);
        let heads = self.size("num_attention_heads", gemma.then_some(8))?;
        let kv_heads = self.size("num_key_value_heads", Some(if gemma { 4 } else { heads }))?;
        let head_dim_default = if gemma { 256 } else { width.checked_div(heads).unwrap_or(0) };
        let head_dim = self.size("head_dim", Some(head_dim_default))?;
        let vocab = self.size("vocab_size", gemma.then_some(262_208))?;
        let context = self.size("max_position_embeddings", gemma.then_some(131_072))?;
        let query_scalar = self.float("query_pre_attn_scalar", gemma.then_some(256.0))?;
        let config = ModelConfig {
            family: self.family,
            name: self.name(),
            layers,
            width,
            ffn: self.size("intermediate_size", None)?,
            heads,
            kv_heads,
            head_dim,
            vocab,
            context,
            rms_eps: self.float("rms_norm_eps", Some(1e-6))?.unwrap_or(1e-6) as f32,
            rope: self.rope(context)?,
            local_rope: gemma.then(|| self.local_rope()).transpose()?,
            window: self.window(layers)?,
            attention_scale: query_scalar.filter(|_| gemma).unwrap_or(head_dim as f64).sqrt().recip() as f32,
            tied: self.tied(gemma),
            embed_scale: if gemma { (width as f32).sqrt() } else { 1.0 },
            activation: self.activation()?,
            bos: self.tokens("bos_token_id", vocab)?.first().copied(),
            eos: self.tokens("eos_token_id", vocab)?,
        };
        config.check(self.path)?;
        Ok(config)
    }

    fn corrupt<T>(&self, field: &str, problem: impl Into<String>) -> Result<T> {
        Err(Error::corrupt(self.path, field, problem))
    }

    fn unsupported<T>(&self, what: String) -> Result<T> {
        Err(Error::Unsupported { path: self.path.to_owned(), what })
    }

    /// A field, `null` taken as absent.
    fn get(&self, field: &str) -> Option<&Value> {
        self.text.get(field).filter(|value| !value.is_null())
    }

    fn size(&self, field: &str, default: Option<usize>) -> Result<usize> {
        match (self.get(field), default) {
            (None, Some(default)) => Ok(default),
            (None, None) => self.corrupt(field, "it is missing"),
            (Some(value), _) => match value.as_u64() {
                Some(value) => Ok(value as usize),
                None => self.corrupt(field, format!("{value} is no whole number")),
            },
        }
    }

    fn float(&self, field: &str, default: Option<f64>) -> Result<Option<f64>> {
        match self.get(field) {
            None => Ok(default),
            Some(value) => self.number(field, value).map(Some),
        }
    }

    fn number(&self, field: &str, value: &Value) -> Result<f64> {
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(number),
            _ => self.corrupt(field, format!("{value} is no finite number")),
        }
    }

    fn name(&self) -> String {
        let given = self.whole.get("_name_or_path").and_then(Value::as_str).filter(|name| !name.is_empty());
        let folder = || self.path.parent()?.file_name().map(|name| name.to_string_lossy().into_owned());
        given.map(str::to_owned).or_else(folder).unwrap_or_else(|| "unnamed".to_owned())
    }

    fn tied(&self, default: bool) -> bool {
        // The text part's own word comes first, then the whole model's.
        let field = |map: &Map<String, Value>| map.get("tie_word_embeddings").and_then(Value::as_bool);
        field(self.text).or_else(|| field(self.whole)).unwrap_or(default)
    }

    fn refuse_foreign_options(&self) -> Result<()> {
        for field in [
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "num_experts",
            "num_local_experts",
            "quantization_config",
            "use_bidirectional_attention",
        ] {
            let value = self.get(field).or_else(|| self.whole.get(field).filter(|value| !value.is_null()));
            if value.is_some_and(|value| value.as_bool() != Some(false)) {
                return self.unsupported(format!(
                    "{field} is set in config.json, which this build does not compute"
                ));
            }
        }
        match self.float("partial_rotary_factor", None)? {
            Some(share) if share != 1.0 => {
                self.unsupported(format!("partial_rotary_factor {share}; only 1 is built"))
            }
            _ => Ok(()),
        }
    }

    fn activation(&self) -> Result<Activation> {
        let gemma = self.family == Family::Gemma3;
        let default = if gemma { "gelu_pytorch_tanh" } else { "silu" };
        let field = if gemma { "hidden_activation" } else { "hidden_act" };
        match self.get(field).map_or(Some(default), Value::as_str) {
            Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
            other => {
                self.unsupported(format!("{field} {other:?}; this build knows silu and gelu_pytorch_tanh"))
            }
        }
    }

    /// RoPE parameters by layer kind: `rope_parameters` of newer files, which may nest them by kind.
    fn rope_object(&self, kind: &str) -> Option<&Map<String, Value>> {
        let newer = self.get("rope_parameters").and_then(Value::as_object);
        let nested = newer.and_then(|map| map.get(kind)).and_then(Value::as_object);
        nested.or(newer).or_else(|| self.get("rope_scaling").and_then(Value::as_object))
    }

    fn rope(&self, context: usize) -> Result<Rope> {
        let object = self.rope_object("full_attention");
        let default = if self.family == Family::Gemma3 { 1e6 } else { 1e4 };
        let theta = match object.and_then(|map| map.get("rope_theta")) {
            Some(value) => self.number("rope_theta", value)?,
            None => self.float("rope_theta", Some(default))?.unwrap_or(default),
        };
        let scaling = object.map_or(Ok(RopeScaling::None), |map| self.scaling(map, context))?;
        Ok(Rope { theta, scaling })
    }

    fn local_rope(&self) -> Result<Rope> {
        let newer = self.get("rope_parameters").and_then(|map| map.get("sliding_attention"));
        let theta = match newer.and_then(|map| map.get("rope_theta")) {
            Some(value) => self.number("rope_theta", value)?,
            None => self.float("rope_local_base_freq", Some(1e4))?.unwrap_or(1e4),
        };
        Ok(Rope { theta, scaling: RopeScaling::None })
    }

    fn scaling(&self, map: &Map<String, Value>, context: usize) -> Result<RopeScaling> {
        let kind =
            map.get("rope_type").or_else(|| map.get("type")).and_then(Value::as_str).unwrap_or("default");
        let optional = |field: &str| match map.get(field).filter(|value| !value.is_null()) {
            Some(value) => self.number(field, value).map(Some),
            None => Ok(None),
        };
        let required =
            |field: &str| optional(field)?.map_or_else(|| self.corrupt(field, "it is missing"), Ok);
        let original = optional("original_max_position_embeddings")?.map_or(context, |value| value as usize);
        match kind {
            // `dynamic` changes nothing up to the context the model names, and no sequence here is longer.
            "default" | "dynamic" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: required("factor")? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: required("low_freq_factor")?,
                high_freq_factor: required("high_freq_factor")?,
                original_context: original,
            }),
            "yarn" => {
                if map.get("truncate").and_then(Value::as_bool) == Some(false) {
                    return self.unsupported("YaRN without truncation".to_owned());
                }
                let factor = required("factor")?;
                let gain = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
                let default = match (optional("mscale")?, optional("mscale_all_dim")?) {
                    (Some(own), Some(all)) if own != 0.0 && all != 0.0 => gain(own) / gain(all),
                    _ => gain(1.0),
                };
                Ok(RopeScaling::Yarn {
                    factor,
                    beta_fast: optional("beta_fast")?.unwrap_or(32.0),
                    beta_slow: optional("beta_slow")?.unwrap_or(1.0),
                    original_context: original,
                    attention_factor: optional("attention_factor")?.unwrap_or(default),
                })
            }
            other => {
                self.unsupported(format!("RoPE type {other:?}; this build knows linear, llama3 and yarn"))
            }
        }
    }

    fn window(&self, layers: usize) -> Result<Option<Window>> {
        let default = (self.family == Family::Gemma3).then_some(4_096);
        let slides = match self.family {
            Family::Llama => false,
            Family::Mistral | Family::Gemma3 => true,
            Family::Qwen2 | Family::Qwen3 => {
                self.get("use_sliding_window").and_then(Value::as_bool) == Some(true)
            }
        };
        let tokens = self.size("sliding_window", Some(default.unwrap_or(0)))?;
        if !slides || tokens == 0 {
            return Ok(None);
        }
        let global_every = match self.get("layer_types") {
            Some(kinds) => self.period(kinds, layers)?,
            None => self.default_period(layers)?,
        };
        Ok(global_every.map(|global_every| Window { tokens, global_every }))
    }

    /// How often a layer is global, where the file lists no layers; `None` where all are.
    fn default_period(&self, layers: usize) -> Result<Option<usize>> {
        match self.family {
            Family::Gemma3 => {
                let field = ["sliding_window_pattern", "_sliding_window_pattern"]
                    .into_iter()
                    .find(|f| self.get(f).is_some());
                field.map_or(Ok(6), |field| self.size(field, None)).map(Some)
            }
            Family::Qwen2 | Family::Qwen3 => match self.size("max_window_layers", Some(28))? {
                0 => Ok(Some(0)),
                first if first >= layers => Ok(None),
                first => self.unsupported(format!("a sliding window from layer {first} on")),
            },
            Family::Llama | Family::Mistral => Ok(Some(0)),
        }
    }

    /// The period of `layer_types`; `None` where every layer is global.
    fn period(&self, kinds: &Value, layers: usize) -> Result<Option<usize>> {
        let kinds: Option<Vec<bool>> = kinds.as_array().and_then(|kinds| {
            let global = |kind: &Value| match kind.as_str() {
                Some("full_attention") => Some(true),
                Some("sliding_attention") => Some(false),
                _ => None,
            };
            kinds.iter().map(global).collect()
        });
        let Some(global) = kinds.filter(|kinds| kinds.len() == layers) else {
            return self.unsupported(format!(
                "layer_types that are not {layers} times full_attention or sliding_attention"
            ));
        };
        let every = global.iter().position(|&global| global).map_or(0, |first| first + 1);
        let expected = |layer: usize| every > 0 && (layer + 1).is_multiple_of(every);
        if (0..layers).any(|layer| global[layer] != expected(layer)) {
            return self.unsupported("layer_types that do not repeat".to_owned());
        }
        Ok((every != 1).then_some(every))
    }

    /// Token ids of a field, which is a number or a list; the generation's own word comes first.
    fn tokens(&self, field: &str, vocab: usize) -> Result<Vec<u32>> {
        let places = [self.generation, Some(self.text), Some(self.whole)];
        let found =
            places.into_iter().flatten().find_map(|map| map.get(field).filter(|value| !value.is_null()));
        let values = match found {
            None => return Ok(Vec::new()),
            Some(Value::Array(values)) => values.as_slice(),
            Some(value) => std::slice::from_ref(value),
        };
        let id = |value: &Value| match value.as_u64() {
            Some(id) if id < vocab as u64 => Ok(id as u32),
            _ => self.corrupt(field, format!("{value} is no token of the {vocab}")),
        };
        let mut ids = values.iter().map(id).collect::<Result<Vec<_>>>()?;
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
