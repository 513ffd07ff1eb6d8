//! A tiny random model as a Hugging Face folder, with a byte tokenizer and a chat template, and adapters for it.
//!
//! What it says is noise, but always the same noise for the same prompt and adapter: enough to tell rows apart.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const LAYERS: usize = 2;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const FFN: usize = 96;
const VOCAB: usize = 272;
/// Tokens before the bytes.
const SPECIALS: [&str; 5] = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"];
/// Positions of its context.
pub const CONTEXT: usize = 4096;

const TEMPLATE: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    <|im_end|>\n{% endfor %}{% if tools %}{{ tools | tojson }}\n{% endif %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// A tensor's shape and values.
type Tensor = (Vec<usize>, Vec<f32>);

/// The folders of a test.
pub struct Tiny {
    folder: tempfile::TempDir,
}

impl Tiny {
    /// Writes the model and the adapters `a`, `b` and `c`.
    pub fn new() -> Self {
        let tiny = Self { folder: tempfile::tempdir().expect("a folder") };
        write_model(&tiny.model());
        for name in ["a", "b", "c"] {
            write_adapter(&tiny.adapter(name), name);
        }
        tiny
    }

    /// The model's folder.
    pub fn model(&self) -> PathBuf {
        self.folder.path().join("model")
    }

    /// The store's folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// An adapter's folder.
    pub fn adapter(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn write_model(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let write = |name: &str, value: Value| fs::write(folder.join(name), value.to_string()).expect(name);
    write(
        "config.json",
        json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": WIDTH,
            "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
            "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM, "vocab_size": VOCAB,
            "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        }),
    );
    write("tokenizer.json", tokenizer());
    let texts = json!({ "bos_token": "<s>", "eos_token": "</s>", "chat_template": TEMPLATE });
    write("tokenizer_config.json", texts);
    fs::write(folder.join("model.safetensors"), safetensors(&weights())).expect("weights");
}

/// A token for each byte behind the special ones.
fn tokenizer() -> Value {
    let mut vocab = Map::new();
    for (byte, letter) in letters().into_iter().enumerate() {
        vocab.insert(letter.to_string(), json!(SPECIALS.len() + byte));
    }
    let added: Vec<Value> = SPECIALS
        .iter()
        .enumerate()
        .map(|(id, text)| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true })
        })
        .collect();
    let bytes = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
        "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": bytes, "post_processor": null, "decoder": bytes,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [] },
    })
}

/// The letters that byte-level tokenizers write bytes as.
fn letters() -> Vec<char> {
    let mut next = 256;
    (0..=255_u32)
        .map(|byte| {
            let shown = matches!(byte, 33..=126 | 161..=172 | 174..=255);
            next += u32::from(!shown);
            char::from_u32(if shown { byte } else { next - 1 }).expect("a letter")
        })
        .collect()
}

fn weights() -> BTreeMap<String, Tensor> {
    let (q, kv) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    let mut all = BTreeMap::new();
    let mut add = |name: String, shape: &[usize]| {
        let tensor = random(&name, shape);
        all.insert(name, tensor);
    };
    add("model.embed_tokens.weight".into(), &[VOCAB, WIDTH]);
    add("model.norm.weight".into(), &[WIDTH]);
    add("lm_head.weight".into(), &[VOCAB, WIDTH]);
    for layer in 0..LAYERS {
        for (name, shape) in [
            ("self_attn.q_proj", vec![q, WIDTH]),
            ("self_attn.k_proj", vec![kv, WIDTH]),
            ("self_attn.v_proj", vec![kv, WIDTH]),
            ("self_attn.o_proj", vec![WIDTH, q]),
            ("mlp.gate_proj", vec![FFN, WIDTH]),
            ("mlp.up_proj", vec![FFN, WIDTH]),
            ("mlp.down_proj", vec![WIDTH, FFN]),
            ("input_layernorm", vec![WIDTH]),
            ("post_attention_layernorm", vec![WIDTH]),
        ] {
            add(format!("model.layers.{layer}.{name}.weight"), &shape);
        }
    }
    all
}

fn write_adapter(folder: &Path, seed: &str) {
    const RANK: usize = 4;
    fs::create_dir_all(folder).expect("a folder");
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "model", "r": RANK,
        "lora_alpha": 8.0, "target_modules": ["q_proj", "o_proj", "down_proj"], "bias": "none",
    });
    fs::write(folder.join("adapter_config.json"), config.to_string()).expect("a configuration");
    let mut all = BTreeMap::new();
    for layer in 0..LAYERS {
        for (name, out, columns) in [
            ("self_attn.q_proj", HEADS * HEAD_DIM, WIDTH),
            ("self_attn.o_proj", WIDTH, HEADS * HEAD_DIM),
            ("mlp.down_proj", WIDTH, FFN),
        ] {
            for (side, shape) in [("A", [RANK, columns]), ("B", [out, RANK])] {
                let name = format!("base_model.model.model.layers.{layer}.{name}.lora_{side}.weight");
                all.insert(name.clone(), random(&format!("{seed} {name}"), &shape));
            }
        }
    }
    fs::write(folder.join("adapter_model.safetensors"), safetensors(&all)).expect("weights");
}

/// Numbers that depend on the name only, sized so that a signal keeps its size; norms are near one.
fn random(name: &str, shape: &[usize]) -> Tensor {
    let mut state =
        name.bytes().fold(1_u64, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
    // SplitMix64.
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = state;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((x ^ (x >> 31)) >> 40) as f32 / (1_u32 << 24) as f32 * 2.0 - 1.0
    };
    let (offset, scale) = match shape {
        [_] => (1.0, 0.2),
        [.., columns] => (0.0, (3.0 / *columns as f32).sqrt()),
        [] => (0.0, 1.0),
    };
    let values = (0..shape.iter().product()).map(|_| offset + scale * uniform()).collect();
    (shape.to_vec(), values)
}

fn safetensors(tensors: &BTreeMap<String, Tensor>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, (shape, values)) in tensors {
        let start = data.len();
        values.iter().for_each(|value| data.extend(value.to_le_bytes()));
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.extend(data);
    file
}
