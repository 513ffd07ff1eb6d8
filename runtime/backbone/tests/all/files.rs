//! Good files are read to the last number: every format against the numbers it was written from.

use crate::tiny::{Float, Numbers, Tiny, real_model};
use candle_core::quantized::GgmlDType;
use coldframe_backbone::checkpoint::{Checkpoint, Part, TextSource, Weight};
use coldframe_backbone::error::Error;
use coldframe_backbone::model::{Family, RopeScaling, Window};
use coldframe_backbone::site::{Module, Site};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

const FAMILIES: [Family; 5] = [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3, Family::Gemma3];

fn values(checkpoint: &Checkpoint, weight: Weight) -> Vec<f32> {
    let view = checkpoint.weight(weight).expect("not fenced").expect("the tensor is there");
    let mut out = vec![0.0; view.rows * view.columns];
    checkpoint.dequantise(&view, 0..view.rows, &mut out);
    out
}

/// Largest difference between two lists.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The Hugging Face name of a weight, written out here so that the reader's own table is not its judge.
fn hf_name(weight: Weight, family: Family) -> String {
    let (layer, part) = match weight {
        Weight::Embed => return "model.embed_tokens.weight".to_owned(),
        Weight::FinalNorm => return "model.norm.weight".to_owned(),
        Weight::Head => return "lm_head.weight".to_owned(),
        Weight::Block(layer, part) => (layer, part),
    };
    let gemma = family == Family::Gemma3;
    let name = match part {
        Part::Linear(module) => format!("{}.weight", module.hf_path()),
        Part::Bias(module) => format!("{}.bias", module.hf_path()),
        Part::AttnNorm => "input_layernorm.weight".to_owned(),
        Part::FfnNorm if gemma => "pre_feedforward_layernorm.weight".to_owned(),
        Part::FfnNorm | Part::PostAttnNorm => "post_attention_layernorm.weight".to_owned(),
        Part::PostFfnNorm => "post_feedforward_layernorm.weight".to_owned(),
        Part::QNorm => "self_attn.q_norm.weight".to_owned(),
        Part::KNorm => "self_attn.k_norm.weight".to_owned(),
    };
    format!("model.layers.{layer}.{name}")
}

/// Every tensor that was written is found under its purpose, with its numbers.
fn check(checkpoint: &Checkpoint, tiny: &Tiny, tolerance: f32) {
    let written: BTreeMap<String, Numbers> = tiny.tensors();
    let config = checkpoint.config();
    let mut seen = 0;
    for weight in checkpoint.weights() {
        let name = hf_name(weight, tiny.family);
        let mut found = values(checkpoint, weight);
        if let Weight::Block(_, Part::Linear(Module::Q | Module::K)) = weight
            && checkpoint.rows_interleaved()
        {
            found = to_hf_rows(&found, config.width, config.head_dim);
        }
        let norm = name.ends_with("norm.weight");
        let mut expected = written[&name].values.clone();
        if norm && tiny.family == Family::Gemma3 && checkpoint.norm_offset() == 0.0 {
            expected.iter_mut().for_each(|value| *value += 1.0);
        }
        let far = distance(&found, &expected);
        assert!(far <= tolerance, "{name}: {far} is over {tolerance}");
        seen += 1;
    }
    assert_eq!(seen, written.len());
}

/// Undoes the interleaving as the contract states it: row `h*d + j*d/2 + i` is the file's row `h*d + 2*i + j`.
fn to_hf_rows(values: &[f32], columns: usize, head_dim: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for row in 0..values.len() / columns {
        let (head, within) = (row / head_dim, row % head_dim);
        let (j, i) = (within / (head_dim / 2), within % (head_dim / 2));
        let from = head * head_dim + 2 * i + j;
        out[row * columns..(row + 1) * columns]
            .copy_from_slice(&values[from * columns..(from + 1) * columns]);
    }
    out
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn open(path: &Path) -> Checkpoint {
    Checkpoint::open(path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn folders_of_every_family_and_type() {
    for family in FAMILIES {
        // bf16 keeps 8 bits, f16 11; values stay below 1.3.
        for (float, tolerance) in [(Float::F32, 0.0), (Float::F16, 1e-3), (Float::Bf16, 8e-3)] {
            let tiny = Tiny { family, ..Tiny::default() };
            let folder = folder();
            tiny.write_hf(folder.path(), float);
            let checkpoint = open(folder.path());
            assert_eq!(checkpoint.config().family, family);
            check(&checkpoint, &tiny, tolerance);
            assert!(matches!(checkpoint.text(), TextSource::Folder(path) if path == folder.path()));
        }
    }
}

#[test]
fn gguf_of_every_family_and_type() {
    use GgmlDType::{BF16, F16, F32, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0};
    let folder = folder();
    let path = folder.path().join("tiny.gguf");
    for family in [Family::Llama, Family::Qwen2, Family::Qwen3, Family::Gemma3] {
        let tiny = Tiny { family, ..Tiny::wide() };
        // A type's step is the range over the levels; the values of these matrices lie within 0.11.
        let types =
            [(F32, 0.0), (F16, 1e-4), (BF16, 1e-3), (Q8_0, 1e-3), (Q4_0, 0.02), (Q4_1, 0.01), (Q6K, 0.01)];
        let more = [(Q5_0, 0.01), (Q5_1, 0.01), (Q4K, 0.02), (Q5K, 0.01), (Q3K, 0.05), (Q2K, 0.08)];
        for (dtype, tolerance) in types.into_iter().chain(more) {
            tiny.write_gguf(&path, dtype);
            let checkpoint = open(&path);
            check(&checkpoint, &tiny, tolerance + 1e-6);
            let q =
                checkpoint.weight(Weight::Block(0, Part::Linear(Module::Q))).expect("open").expect("there");
            assert_eq!((q.dtype, q.rows, q.columns), (dtype, 256, 256));
        }
    }
}

#[test]
fn a_folder_and_its_gguf_have_one_config() {
    for family in FAMILIES {
        let tiny = Tiny { family, tied: true, layers: 7, ..Tiny::default() };
        let folder = folder();
        let path = folder.path().join("tiny.gguf");
        tiny.write_hf(folder.path(), Float::F32);
        tiny.write_gguf(&path, GgmlDType::F32);
        let (hf, mut gguf) = (open(folder.path()).config().clone(), open(&path).config().clone());
        // GGUF calls both Llama, and the name of a folder is its own.
        gguf.family = hf.family;
        gguf.name.clone_from(&hf.name);
        assert_eq!(hf, gguf);
        assert_eq!((hf.bos, hf.eos.as_slice(), hf.tied), (Some(1), [2].as_slice(), true));
    }
}

#[test]
fn part_of_the_rows() {
    let folder = folder();
    let path = folder.path().join("tiny.gguf");
    Tiny::default().write_gguf(&path, GgmlDType::Q4_1);
    let checkpoint = open(&path);
    let view = checkpoint.weight(Weight::Embed).expect("open").expect("there");
    let all = values(&checkpoint, Weight::Embed);
    let mut some = vec![0.0; 3 * view.columns];
    view.dequantise(7..10, &mut some);
    assert_eq!(some, all[7 * view.columns..10 * view.columns]);
}

#[test]
fn shards_are_one_model() {
    let (folder, tiny) = (folder(), Tiny { tied: true, ..Tiny::default() });
    tiny.write_hf_sharded(folder.path(), Float::F32, 3);
    let checkpoint = open(folder.path());
    assert_eq!(checkpoint.mappings().count(), 3);
    check(&checkpoint, &tiny, 0.0);
    assert!(checkpoint.weight(Weight::Head).expect("open").is_none());
}

/// A Hugging Face cache: the snapshot's files are links to blobs beside it.
#[test]
fn a_hub_cache_is_read_through_its_links() {
    let cache = folder();
    let (blobs, snapshot) = (cache.path().join("blobs"), cache.path().join("snapshots/abc"));
    Tiny::default().write_hf(&blobs, Float::F32);
    std::fs::create_dir_all(&snapshot).expect("a folder");
    for name in ["config.json", "model.safetensors"] {
        std::os::unix::fs::symlink(format!("../../blobs/{name}"), snapshot.join(name)).expect("a link");
    }
    check(&open(&snapshot), &Tiny::default(), 0.0);
}

#[test]
fn multimodal_gemma_by_its_text_part() {
    for (inner, head) in [
        ("language_model.model.", "language_model.lm_head.weight"),
        ("model.language_model.", "lm_head.weight"),
    ] {
        let tiny = Tiny { family: Family::Gemma3, ..Tiny::default() };
        let mut tensors = BTreeMap::new();
        for (name, numbers) in tiny.tensors() {
            let renamed =
                if name == "lm_head.weight" { head.to_owned() } else { name.replacen("model.", inner, 1) };
            tensors.insert(renamed, numbers);
        }
        tensors
            .insert("vision_tower.patch.weight".to_owned(), Numbers { shape: vec![1, 1], values: vec![0.0] });
        let folder = folder();
        let config =
            json!({ "model_type": "gemma3", "text_config": tiny.config(), "eos_token_id": [1, 106] });
        std::fs::write(folder.path().join("config.json"), config.to_string()).expect("config");
        let bytes = crate::tiny::safetensors(&tensors, Float::F32);
        std::fs::write(folder.path().join("model.safetensors"), bytes).expect("weights");
        check(&open(folder.path()), &tiny, 0.0);
    }
}

fn with(family: Family, extra: serde_json::Value) -> Result<Checkpoint, Error> {
    let extra = extra.as_object().expect("an object").clone();
    let (folder, tiny) = (folder(), Tiny { family, layers: 6, extra, ..Tiny::default() });
    tiny.write_hf(folder.path(), Float::F32);
    Checkpoint::open(folder.path())
}

#[test]
fn rope_scalings() {
    let scaling = |extra| with(Family::Llama, extra).expect("opens").config().rope.scaling.clone();
    let llama3 = json!({ "rope_scaling": { "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192 } });
    let expected = RopeScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(scaling(llama3), expected);
    let linear = json!({ "rope_scaling": { "type": "linear", "factor": 2.0 } });
    assert_eq!(scaling(linear), RopeScaling::Linear { factor: 2.0 });
    let yarn = json!({ "rope_parameters": { "rope_type": "yarn", "factor": 4.0, "rope_theta": 5e5,
        "original_max_position_embeddings": 128 } });
    let RopeScaling::Yarn { factor, original_context, attention_factor, .. } = scaling(yarn) else {
        panic!("no yarn")
    };
    // transformers: 0.1 * ln(factor) + 1.
    assert_eq!((factor, original_context), (4.0, 128));
    assert!((attention_factor - 1.138_629_436).abs() < 1e-9);
    let longrope = with(Family::Llama, json!({ "rope_scaling": { "rope_type": "longrope" } }));
    assert!(matches!(longrope, Err(Error::Unsupported { .. })));
    let zero = with(Family::Llama, json!({ "rope_scaling": { "rope_type": "linear", "factor": 0.0 } }));
    assert!(matches!(zero, Err(Error::Corrupt { .. })));
}

#[test]
fn windows() {
    let window = |family, extra| with(family, extra).expect("opens").config().window;
    let every = |tokens, global_every| Some(Window { tokens, global_every });
    assert_eq!(window(Family::Mistral, json!({ "sliding_window": 4096 })), every(4096, 0));
    assert_eq!(window(Family::Mistral, json!({ "sliding_window": null })), None);
    assert_eq!(window(Family::Qwen2, json!({ "sliding_window": 64, "use_sliding_window": false })), None);
    let late = json!({ "sliding_window": 64, "use_sliding_window": true, "max_window_layers": 21 });
    assert_eq!(window(Family::Qwen2, late), None);
    assert_eq!(window(Family::Gemma3, json!({})), every(8, 6));
    let (s, f) = ("sliding_attention", "full_attention");
    assert_eq!(window(Family::Gemma3, json!({ "layer_types": [s, s, f, s, s, f] })), every(8, 3));
    assert_eq!(window(Family::Gemma3, json!({ "layer_types": [s, s, s, s, s, s] })), every(8, 0));
    assert_eq!(window(Family::Gemma3, json!({ "layer_types": [f, f, f, f, f, f] })), None);
    let irregular = with(Family::Gemma3, json!({ "layer_types": [s, f, s, s, f, s] }));
    assert!(matches!(irregular, Err(Error::Unsupported { .. })));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (extra, named) in [
        (json!({ "model_type": "mamba" }), "mamba"),
        (json!({ "num_local_experts": 8 }), "num_local_experts"),
        (json!({ "final_logit_softcapping": 30.0 }), "final_logit_softcapping"),
        (json!({ "quantization_config": { "bits": 4 } }), "quantization_config"),
        (json!({ "partial_rotary_factor": 0.5 }), "partial_rotary_factor"),
        (json!({ "hidden_act": "relu" }), "relu"),
        (json!({ "num_hidden_layers": 5 }), "model.layers.5"),
    ] {
        let error = with(Family::Llama, extra).expect_err("refused");
        assert!(error.code() == "unsupported" && error.to_string().contains(named), "{error}");
    }
    for (extra, named) in [
        (json!({ "num_hidden_layers": 7 }), "model.layers.6"),
        (json!({ "hidden_size": 128 }), "expected [300, 128]"),
        (json!({ "num_attention_heads": 0 }), "heads"),
        (json!({ "eos_token_id": 300 }), "eos_token_id"),
        (json!({ "vocab_size": "many" }), "vocab_size"),
    ] {
        let error = with(Family::Llama, extra).expect_err("refused");
        assert!(error.code() == "corrupt_file" && error.to_string().contains(named), "{error}");
    }
}

#[test]
fn the_generation_config_names_the_ends() {
    let folder = folder();
    Tiny::default().write_hf(folder.path(), Float::F32);
    let generation = json!({ "eos_token_id": [9, 7, 9] }).to_string();
    std::fs::write(folder.path().join("generation_config.json"), generation).expect("a file");
    assert_eq!(open(folder.path()).config().eos, [7, 9]);
}

/// What changes a file changes its identity or fences it.
#[test]
fn changes_are_noticed() {
    let folder = folder();
    let path = folder.path().join("tiny.gguf");
    let write = |seed| Tiny { seed, ..Tiny::default() }.write_gguf(&path, GgmlDType::Q8_0);
    let changed = |checkpoint: &Checkpoint| matches!(checkpoint.fence(), Err(Error::Changed { .. }));
    write(1);
    let first = open(&path);
    first.fence().expect("unchanged");
    let digest = first.sha256().expect("a digest");
    assert_eq!((digest.len(), first.identity()), (64, open(&path).identity()));

    // Another file in its place.
    std::fs::rename(&path, folder.path().join("old.gguf")).expect("renamed");
    assert!(changed(&first));
    write(2);
    let second = open(&path);
    assert!(changed(&first));
    assert_ne!(first.identity(), second.identity());
    assert_ne!(digest, second.sha256().expect("a digest"));

    // Longer, shorter, rewritten with another time.
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("opens");
    let size = file.metadata().expect("known").len();
    file.set_len(size + 1).expect("longer");
    assert!(changed(&second));
    file.set_len(size).expect("as before");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
    let third = open(&path);
    third.fence().expect("unchanged");
    file.set_modified(later).expect("touched");
    assert!(changed(&third) && third.sha256().is_err());
    file.set_len(size - 1).expect("shorter");
    assert!(matches!(Checkpoint::open(&path), Err(Error::Corrupt { .. })));
}

#[test]
fn the_real_model() {
    let Some(path) = real_model() else { return };
    let checkpoint = open(&path);
    let config = checkpoint.config();
    assert_eq!((config.layers, config.width, config.ffn, config.vocab), (30, 576, 1536, 49_152));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.context, config.rope.theta, config.tied), (8_192, 1e5, true));
    // <|endoftext|> and <|im_end|>
    assert_eq!((config.bos, config.eos.as_slice()), (Some(1), [0, 2].as_slice()));
    assert!(checkpoint.rows_interleaved() && checkpoint.norm_offset() == 0.0);
    let dtype = |weight| checkpoint.weight(weight).expect("open").expect("there").dtype;
    assert_eq!(dtype(Weight::Embed), GgmlDType::Q8_0);
    for module in Module::ALL {
        let view = checkpoint.weight(Weight::Block(29, Part::Linear(module))).expect("open").expect("there");
        assert_eq!((view.rows, view.columns), config.shape(Site::Block(29, module)));
        assert_eq!(view.dtype, GgmlDType::Q4_1);
    }
    assert!(values(&checkpoint, Weight::Embed).iter().all(|value| value.is_finite()));
    let TextSource::Gguf(gguf) = checkpoint.text() else { panic!("a GGUF model") };
    assert_eq!(gguf.texts("tokenizer.ggml.tokens").map(<[_]>::len), Some(49_152));
    assert_eq!(checkpoint.sha256().expect("a digest").len(), 64);
}

/// Opening reads the header, not the weights, and a fence is two system calls: far below the 150 ms that everything may
/// take, and a step's time.
#[test]
fn the_real_model_opens_quickly() {
    let Some(path) = real_model() else { return };
    let best = (0..5).map(|_| {
        let begin = std::time::Instant::now();
        drop(open(&path));
        begin.elapsed()
    });
    let best = best.min().expect("five times");
    let checkpoint = open(&path);
    let fences = (0..100).map(|_| {
        let begin = std::time::Instant::now();
        checkpoint.fence().expect("unchanged");
        begin.elapsed()
    });
    let fence = fences.min().expect("a hundred times");
    eprintln!("opened in {best:?}, fenced in {fence:?}");
    assert!(best.as_millis() < 150 && fence.as_micros() < 1_000, "{best:?} {fence:?}");
}
