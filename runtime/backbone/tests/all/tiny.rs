//! Tiny random models, written as a Hugging Face folder and as a GGUF file with the same numbers: what the other tests
//! run where a real model would be too large. GGUF is written by candle, safetensors by hand, so that neither file comes
//! from the code under test.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use coldframe_backbone::model::Family;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Element types of the safetensors files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Float {
    /// 4 bytes.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
}

/// A tiny model's sizes and seed.
#[derive(Debug, Clone)]
pub struct Tiny {
    pub family: Family,
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn: usize,
    pub vocab: usize,
    pub tied: bool,
    pub seed: u64,
    /// Fields added to (or put over those of) `config.json`.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Default for Tiny {
    /// Two layers of a Llama with grouped queries and a head of its own.
    fn default() -> Self {
        Self {
            family: Family::Llama,
            layers: 2,
            width: 64,
            heads: 4,
            kv_heads: 2,
            head_dim: 16,
            ffn: 96,
            vocab: 300,
            tied: false,
            seed: 1,
            extra: serde_json::Map::new(),
        }
    }
}

/// A tensor of a tiny model, in Hugging Face's row order.
pub struct Numbers {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

impl Tiny {
    /// A model whose every matrix has rows of a multiple of 256, for the K quantisations.
    pub fn wide() -> Self {
        Self { width: 256, heads: 8, kv_heads: 2, head_dim: 32, ffn: 512, ..Self::default() }
    }

    /// All tensors by Hugging Face name.
    pub fn tensors(&self) -> BTreeMap<String, Numbers> {
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = BTreeMap::new();
        let mut add = |name: &str, shape: &[usize]| {
            let numbers = self.random(name, shape);
            all.insert(name.to_owned(), numbers);
        };
        add("model.embed_tokens.weight", &[self.vocab, self.width]);
        add("model.norm.weight", &[self.width]);
        if !self.tied {
            add("lm_head.weight", &[self.vocab, self.width]);
        }
        let gemma = self.family == Family::Gemma3;
        for layer in 0..self.layers {
            let mut part = |name: &str, shape: &[usize]| add(&format!("model.layers.{layer}.{name}"), shape);
            part("self_attn.q_proj.weight", &[q, self.width]);
            part("self_attn.k_proj.weight", &[kv, self.width]);
            part("self_attn.v_proj.weight", &[kv, self.width]);
            part("self_attn.o_proj.weight", &[self.width, q]);
            part("mlp.gate_proj.weight", &[self.ffn, self.width]);
            part("mlp.up_proj.weight", &[self.ffn, self.width]);
            part("mlp.down_proj.weight", &[self.width, self.ffn]);
            part("input_layernorm.weight", &[self.width]);
            part("post_attention_layernorm.weight", &[self.width]);
            if self.family == Family::Qwen2 {
                part("self_attn.q_proj.bias", &[q]);
                part("self_attn.k_proj.bias", &[kv]);
                part("self_attn.v_proj.bias", &[kv]);
            }
            if gemma || self.family == Family::Qwen3 {
                part("self_attn.q_norm.weight", &[self.head_dim]);
                part("self_attn.k_norm.weight", &[self.head_dim]);
            }
            if gemma {
                part("pre_feedforward_layernorm.weight", &[self.width]);
                part("post_feedforward_layernorm.weight", &[self.width]);
            }
        }
        all
    }

    /// Numbers that depend on the seed and the name only; matrices keep a signal's size, norms are near one (Gemma's,
    /// which are stored minus one, near zero).
    fn random(&self, name: &str, shape: &[usize]) -> Numbers {
        let salt =
            name.bytes().fold(self.seed, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        let mut rng = ChaCha8Rng::seed_from_u64(salt);
        let mut uniform = || rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0;
        let norm_offset = if self.family == Family::Gemma3 { 0.0 } else { 1.0 };
        let (offset, scale) = match shape {
            [_] if name.ends_with("norm.weight") => (norm_offset, 0.2),
            [_] => (0.0, 0.2),
            [.., columns] => (0.0, (3.0 / *columns as f32).sqrt()),
            [] => (0.0, 1.0),
        };
        let values = (0..shape.iter().product()).map(|_| offset + scale * uniform()).collect();
        Numbers { shape: shape.to_vec(), values }
    }

    /// `config.json`.
    pub fn config(&self) -> serde_json::Value {
        let (kind, class) = match self.family {
            Family::Llama => ("llama", "LlamaForCausalLM"),
            Family::Mistral => ("mistral", "MistralForCausalLM"),
            Family::Qwen2 => ("qwen2", "Qwen2ForCausalLM"),
            Family::Qwen3 => ("qwen3", "Qwen3ForCausalLM"),
            Family::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM"),
        };
        let mut config = json!({
            "architectures": [class],
            "model_type": kind,
            "hidden_size": self.width,
            "intermediate_size": self.ffn,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocab,
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "tie_word_embeddings": self.tied,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
        });
        if self.family == Family::Gemma3 {
            config["query_pre_attn_scalar"] = json!(self.head_dim);
            config["sliding_window"] = json!(8);
            config["sliding_window_pattern"] = json!(6);
            config["rope_local_base_freq"] = json!(1000.0);
            config["hidden_activation"] = json!("gelu_pytorch_tanh");
        }
        for (key, value) in &self.extra {
            config[key] = value.clone();
        }
        config
    }

    /// Writes `config.json` and `model.safetensors`.
    pub fn write_hf(&self, folder: &Path, float: Float) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("config.json"), self.config().to_string()).expect("config.json");
        fs::write(folder.join("model.safetensors"), safetensors(&self.tensors(), float))
            .expect("model.safetensors");
    }

    /// Writes `config.json`, an index and `shards` files.
    pub fn write_hf_sharded(&self, folder: &Path, float: Float, shards: usize) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("config.json"), self.config().to_string()).expect("config.json");
        let mut parts: Vec<BTreeMap<String, Numbers>> = (0..shards).map(|_| BTreeMap::new()).collect();
        let mut map = serde_json::Map::new();
        for (index, (name, numbers)) in self.tensors().into_iter().enumerate() {
            map.insert(name.clone(), json!(shard_name(index % shards, shards)));
            parts[index % shards].insert(name, numbers);
        }
        for (index, part) in parts.iter().enumerate() {
            fs::write(folder.join(shard_name(index, shards)), safetensors(part, float)).expect("a shard");
        }
        let index = json!({ "metadata": {}, "weight_map": map });
        fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("the index");
    }

    /// Writes a GGUF file as llama.cpp's converter would: names, interleaved rows of q and k for Llama, Gemma's norms with
    /// their one added. Matrices get `dtype` where their rows divide into its blocks, else F32; vectors are F32.
    pub fn write_gguf(&self, path: &Path, dtype: GgmlDType) {
        let tensors: Vec<(String, QTensor)> =
            self.tensors().iter().map(|(name, n)| self.gguf(name, n, dtype)).collect();
        let tensors: Vec<(&str, &QTensor)> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let metadata = self.gguf_metadata();
        let metadata: Vec<(&str, &Value)> =
            metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let mut file = fs::File::create(path).expect("a file");
        gguf_file::write(&mut file, &metadata, &tensors).expect("a GGUF file");
    }

    fn gguf(&self, name: &str, numbers: &Numbers, dtype: GgmlDType) -> (String, QTensor) {
        let mut values = numbers.values.clone();
        let columns = numbers.shape.last().copied().unwrap_or(1);
        let llama = matches!(self.family, Family::Llama | Family::Mistral);
        if llama && (name.contains("q_proj") || name.contains("k_proj")) {
            values = interleave(&values, columns, self.head_dim);
        }
        if self.family == Family::Gemma3 && name.ends_with("norm.weight") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        let tensor = Tensor::from_vec(values, numbers.shape.clone(), &Device::Cpu).expect("a tensor");
        let matrix = numbers.shape.len() == 2 && columns.is_multiple_of(dtype.block_size());
        let dtype = if matrix { dtype } else { GgmlDType::F32 };
        (self.gguf_name(name), QTensor::quantize(&tensor, dtype).expect("quantised"))
    }

    fn gguf_name(&self, name: &str) -> String {
        let gemma = self.family == Family::Gemma3;
        let second = if gemma { "post_attention_norm" } else { "ffn_norm" };
        let mut name = name.replace("model.layers.", "blk.").replace("model.embed_tokens", "token_embd");
        for (hf, gguf) in [
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("self_attn.q_norm", "attn_q_norm"),
            ("self_attn.k_norm", "attn_k_norm"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", second),
            ("pre_feedforward_layernorm", "ffn_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
        ] {
            name = name.replace(hf, gguf);
        }
        name
    }

    fn gguf_metadata(&self) -> Vec<(String, Value)> {
        let arch = match self.family {
            Family::Llama | Family::Mistral => "llama",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma3 => "gemma3",
        };
        let number = |value: usize| Value::U32(value as u32);
        let mut keys = vec![
            ("general.architecture".to_owned(), Value::String(arch.to_owned())),
            ("general.name".to_owned(), Value::String("Tiny".to_owned())),
            ("tokenizer.ggml.bos_token_id".to_owned(), number(1)),
            ("tokenizer.ggml.eos_token_id".to_owned(), number(2)),
        ];
        let mut add = |name: &str, value: Value| keys.push((format!("{arch}.{name}"), value));
        add("block_count", number(self.layers));
        add("context_length", number(512));
        add("embedding_length", number(self.width));
        add("feed_forward_length", number(self.ffn));
        add("attention.head_count", number(self.heads));
        add("attention.head_count_kv", number(self.kv_heads));
        add("attention.key_length", number(self.head_dim));
        add("attention.value_length", number(self.head_dim));
        add("attention.layer_norm_rms_epsilon", Value::F32(1e-5));
        add("rope.freq_base", Value::F32(10000.0));
        if self.family == Family::Gemma3 {
            add("attention.sliding_window", number(8));
            add("rope.freq_base_swa", Value::F32(1000.0));
        }
        keys
    }
}

/// Rows in llama.cpp's order: row `2i + j` of a head is Hugging Face's row `j * d/2 + i`.
fn interleave(values: &[f32], columns: usize, head_dim: usize) -> Vec<f32> {
    let rows = values.len() / columns;
    let mut out = Vec::with_capacity(values.len());
    for row in 0..rows {
        let (head, within) = (row / head_dim, row % head_dim);
        let from = head * head_dim + (within % 2) * (head_dim / 2) + within / 2;
        out.extend_from_slice(&values[from * columns..(from + 1) * columns]);
    }
    out
}

fn shard_name(index: usize, shards: usize) -> String {
    format!("model-{:05}-of-{shards:05}.safetensors", index + 1)
}

/// The bytes of a safetensors file.
pub fn safetensors(tensors: &BTreeMap<String, Numbers>, float: Float) -> Vec<u8> {
    let (name, put): (_, fn(f32, &mut Vec<u8>)) = match float {
        Float::F32 => ("F32", |x, out| out.extend(x.to_le_bytes())),
        Float::F16 => ("F16", |x, out| out.extend(half::f16::from_f32(x).to_le_bytes())),
        Float::Bf16 => ("BF16", |x, out| out.extend(half::bf16::from_f32(x).to_le_bytes())),
    };
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (tensor, numbers) in tensors {
        let start = data.len();
        numbers.values.iter().for_each(|&value| put(value, &mut data));
        let entry = json!({ "dtype": name, "shape": numbers.shape, "data_offsets": [start, data.len()] });
        header.insert(tensor.clone(), entry);
    }
    safetensors_file(&serde_json::Value::Object(header).to_string(), &data)
}

/// A safetensors file of any header and data.
pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

/// The real model of the tests, if `COLDFRAME_MODEL` names it; says so if not.
pub fn real_model() -> Option<PathBuf> {
    let path = std::env::var_os("COLDFRAME_MODEL").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: COLDFRAME_MODEL does not name the SmolLM2 GGUF");
    }
    path
}
