//! Adapters: what loads, to which numbers, and what is refused and why.
//!
//! The base is a tiny model whose rows are a formula; numbers against PEFT itself are compared by the golden tests.

use coldframe_backbone::adapter::{
    Adapter, BaseWeights, Dtype, Limits, MatrixView, OtherBase, Room, dry_run, live_bytes,
};
use coldframe_backbone::error::{Error, Result};
use coldframe_backbone::model::{Activation, Family, ModelConfig, Rope, RopeScaling};
use coldframe_backbone::site::{Module, Site};
use half::{bf16, f16};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tempfile::TempDir;

/// Loads change a counter of the whole process, which some tests here compare.
static LOADS: Mutex<()> = Mutex::new(());

const LAYERS: u32 = 2;

struct Base(ModelConfig);

impl BaseWeights for Base {
    fn config(&self) -> &ModelConfig {
        &self.0
    }

    fn row(&self, site: Site, row: usize, out: &mut [f32]) {
        assert!(!(self.0.tied && site == Site::Head), "a tied head has no rows of its own");
        for (column, value) in out.iter_mut().enumerate() {
            *value = weight(site, row, column);
        }
    }
}

/// The base's weights: a formula that tells sites, rows and columns apart.
fn weight(site: Site, row: usize, column: usize) -> f32 {
    let kind = match site {
        Site::Block(layer, module) => 1 + layer as usize * 7 + module.index(),
        Site::Embed => 100,
        Site::Head => 101,
    };
    ((kind * 31 + row * 17 + column * 7) % 23) as f32 / 23.0 - 0.4
}

fn base() -> Base {
    Base(ModelConfig {
        family: Family::Llama,
        name: "Tiny Llama".to_owned(),
        layers: LAYERS as usize,
        width: 8,
        ffn: 12,
        heads: 2,
        kv_heads: 1,
        head_dim: 4,
        vocab: 10,
        context: 64,
        rms_eps: 1e-5,
        rope: Rope { theta: 10_000.0, scaling: RopeScaling::None },
        local_rope: None,
        window: None,
        attention_scale: 0.5,
        tied: true,
        embed_scale: 1.0,
        activation: Activation::Silu,
        bos: None,
        eos: vec![],
    })
}

fn untied() -> Base {
    let mut base = base();
    base.0.tied = false;
    base
}

/// A tensor to be written.
#[derive(Clone)]
struct Tensor {
    name: String,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Small numbers that differ from tensor to tensor and are exact in every type.
fn numbers(name: &str, count: usize) -> Vec<f32> {
    let seed = name.bytes().fold(7u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    (0..count as u32)
        .map(|index| ((seed.wrapping_add(index.wrapping_mul(2_654_435_761)) >> 8) % 64) as f32 / 32.0 - 1.0)
        .collect()
}

fn tensor(name: &str, dtype: &'static str, shape: &[usize], values: &[f32]) -> Tensor {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
    let bytes = match dtype {
        "F32" => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        "F16" => values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        "BF16" => values.iter().flat_map(|&value| bf16::from_f32(value).to_le_bytes()).collect(),
        "I32" => values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect(),
        "I64" => values.iter().flat_map(|&value| (value as i64).to_le_bytes()).collect(),
        other => panic!("{other}"),
    };
    Tensor { name: name.to_owned(), dtype, shape: shape.to_vec(), bytes }
}

fn random(name: &str, dtype: &'static str, shape: &[usize]) -> Tensor {
    tensor(name, dtype, shape, &numbers(name, shape.iter().product()))
}

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for Tensor { name, dtype, shape, bytes } in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}));
        data.extend_from_slice(bytes);
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

/// An adapter's folder to be changed by a test before it is loaded.
struct Folder {
    config: Value,
    tensors: Vec<Tensor>,
    folder: TempDir,
}

impl Folder {
    fn new(config: Value, tensors: Vec<Tensor>) -> Self {
        Self { config, tensors, folder: tempfile::tempdir().expect("temporary folder") }
    }

    /// q and v of both layers at rank 2, f16.
    fn plain() -> Self {
        Self::of(json!({"target_modules": ["q_proj", "v_proj"]}), &[Module::Q, Module::V], 2)
    }

    fn of(more: Value, modules: &[Module], rank: usize) -> Self {
        let mut config = json!({"peft_type": "LORA", "r": rank, "lora_alpha": 4, "bias": "none"});
        merge(&mut config, more);
        let model = base().0;
        let mut tensors = Vec::new();
        for site in
            (0..LAYERS).flat_map(|layer| modules.iter().map(move |&module| Site::Block(layer, module)))
        {
            let (out, input) = model.shape(site);
            tensors.push(random(&format!("base_model.model.{site}.lora_A.weight"), "F16", &[rank, input]));
            tensors.push(random(&format!("base_model.model.{site}.lora_B.weight"), "F16", &[out, rank]));
        }
        Self::new(config, tensors)
    }

    fn with(mut self, more: Value) -> Self {
        merge(&mut self.config, more);
        self
    }

    fn plus(mut self, tensor: Tensor) -> Self {
        self.tensors.push(tensor);
        self
    }

    /// Changes the tensors whose name holds `part`.
    fn change(mut self, part: &str, change: impl Fn(&mut Tensor)) -> Self {
        let mut changed = 0;
        for tensor in self.tensors.iter_mut().filter(|tensor| tensor.name.contains(part)) {
            change(tensor);
            changed += 1;
        }
        assert!(changed > 0, "{part}");
        self
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self) -> &Path {
        fs::write(self.path().join("adapter_config.json"), self.config.to_string()).expect("config");
        fs::write(self.path().join("adapter_model.safetensors"), safetensors(&self.tensors))
            .expect("tensors");
        self.path()
    }

    fn load(&self) -> Result<Adapter> {
        Adapter::load(self.write(), &base(), &Limits::default())
    }

    fn loaded(&self) -> Adapter {
        self.load().expect("the adapter loads")
    }
}

fn merge(config: &mut Value, more: Value) {
    let (Value::Object(config), Value::Object(more)) = (config, more) else { panic!("objects") };
    config.extend(more);
}

fn values(matrix: MatrixView<'_>) -> Vec<f32> {
    assert_eq!(matrix.bytes.len(), matrix.rows * matrix.columns * matrix.dtype.bytes());
    match matrix.dtype {
        Dtype::F32 => {
            matrix.bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
        }
        Dtype::F16 => {
            matrix.bytes.as_chunks::<2>().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect()
        }
        Dtype::Bf16 => {
            matrix.bytes.as_chunks::<2>().0.iter().map(|&bytes| bf16::from_le_bytes(bytes).to_f32()).collect()
        }
    }
}

fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len() / rows;
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

const Q0: Site = Site::Block(0, Module::Q);
const V1: Site = Site::Block(1, Module::V);

#[test]
fn a_plain_adapter_comes_out_as_it_went_in() {
    let _loads = LOADS.lock();
    let folder = Folder::plain();
    let adapter = folder.loaded();
    assert_eq!((adapter.kind(), adapter.rank_max(), adapter.sites().count()), ("lora", 2, 4));
    let delta = adapter.delta(V1).expect("v of layer 1");
    assert_eq!((delta.rank, delta.scale), (2, 2.0));
    assert_eq!((delta.a.rows, delta.a.columns, delta.b.rows, delta.b.columns), (2, 8, 2, 4));
    let name = format!("base_model.model.{V1}.lora");
    assert_eq!(values(delta.a), numbers(&format!("{name}_A.weight"), 16));
    assert_eq!(values(delta.b), transposed(&numbers(&format!("{name}_B.weight"), 8), 4));
    for matrix in [delta.a, delta.b] {
        assert_eq!(matrix.bytes.as_ptr() as usize % 64, 0);
    }
    assert!(adapter.delta(Site::Block(0, Module::K)).is_none());
    assert!(adapter.delta(Site::Block(LAYERS, Module::Q)).is_none());
    assert!(adapter.delta(Site::Head).is_none() && adapter.replaced(Site::Head).is_none());
    assert!(adapter.warnings().is_empty(), "{:?}", adapter.warnings());
}

#[test]
fn scales_follow_ranks_alphas_and_patterns() {
    let _loads = LOADS.lock();
    let check = |more: Value, module: Module, rank: usize, expected: f32| {
        let adapter = Folder::of(json!({"target_modules": "all-linear"}), &Module::ALL, 4).with(more.clone());
        // Ranks of the pattern: cut the tensors to it.
        let adapter = adapter.change(module.hf_path(), |tensor| {
            let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
            let first = tensor.name.contains("lora_A");
            tensor.shape = if first { vec![rank, columns] } else { vec![rows, rank] };
            tensor.bytes.truncate(2 * tensor.shape.iter().product::<usize>());
        });
        let adapter = adapter.loaded();
        let delta = adapter.delta(Site::Block(1, module)).expect("delta");
        assert_eq!((delta.rank, delta.scale), (rank, expected), "{more}");
    };
    check(json!({}), Module::Q, 4, 1.0);
    check(json!({"lora_alpha": 2.5}), Module::Q, 4, 0.625);
    check(json!({"use_rslora": true}), Module::Q, 4, 2.0);
    check(json!({"rank_pattern": {"q_proj": 2}}), Module::Q, 2, 2.0);
    check(json!({"rank_pattern": {"q_proj": 1}, "use_rslora": true}), Module::Q, 1, 4.0);
    check(json!({"alpha_pattern": {r".*\.1\.mlp\.gate_proj": 8}}), Module::Gate, 4, 2.0);
    check(json!({"rank_pattern": {"down_proj": 1}, "alpha_pattern": {"mlp.*": 6}}), Module::Down, 1, 6.0);
}

#[test]
fn the_first_pattern_of_the_file_wins() {
    let _loads = LOADS.lock();
    let folder = Folder::plain();
    folder.write();
    // Written by hand: serde_json would sort the keys.
    let config = r#"{"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj", "v_proj"],
        "alpha_pattern": {"self_attn.q_proj": 10, "q_proj": 20, "layers.1.self_attn.v_proj": 30}}"#;
    fs::write(folder.path().join("adapter_config.json"), config).expect("config");
    let adapter = Adapter::load(folder.path(), &base(), &Limits::default()).expect("loads");
    let scale = |site| adapter.delta(site).expect("delta").scale;
    assert_eq!((scale(Q0), scale(V1), scale(Site::Block(0, Module::V))), (5.0, 15.0, 2.0));
}

#[test]
fn targets_by_regex_exclusion_and_layer() {
    let _loads = LOADS.lock();
    let cases = [
        json!({"target_modules": r"model\.layers\.\d+\.self_attn\.(q|v)_proj"}),
        json!({"target_modules": "all-linear", "exclude_modules": r".*\.(k_proj|o_proj)|.*\.mlp\..*"}),
        json!({"target_modules": ["q_proj", "v_proj", "k_proj"], "exclude_modules": ["self_attn.k_proj"]}),
        json!({"target_modules": ["q_proj", "v_proj"], "layers_to_transform": [0, 1], "layers_pattern": "layers"}),
    ];
    for case in cases {
        let adapter = Folder::plain().with(case.clone()).load();
        assert_eq!(adapter.expect("loads").sites().count(), 4, "{case}");
    }
    let one_layer = Folder::plain().with(json!({"layers_to_transform": 1}));
    let error = one_layer.load().expect_err("layer 0 has tensors all the same").to_string();
    assert!(error.contains("model.layers.0.self_attn.q_proj"), "{error}");
}

#[test]
fn dora_scales_rows_by_magnitude_over_norm() {
    let _loads = LOADS.lock();
    let mut folder = Folder::plain().with(json!({"use_dora": true}));
    for layer in 0..LAYERS {
        for (module, out) in [("q", 8), ("v", 4)] {
            let name = format!(
                "base_model.model.model.layers.{layer}.self_attn.{module}_proj.lora_magnitude_vector"
            );
            let values: Vec<f32> = (0..out).map(|row| 1.0 + row as f32 / 4.0).collect();
            folder.tensors.push(tensor(&name, "F32", &[out], &values));
        }
    }
    let adapter = folder.loaded();
    let delta = adapter.delta(V1).expect("delta");
    let (a, b) = (values(delta.a), values(delta.b));
    for (row, scale) in delta.row_scale.expect("DoRA").iter().enumerate() {
        let square: f64 = (0..8)
            .map(|column| {
                let change: f64 =
                    (0..2).map(|r| f64::from(b[r * 4 + row]) * f64::from(a[r * 8 + column])).sum();
                (f64::from(weight(V1, row, column)) + 2.0 * change).powi(2)
            })
            .sum();
        let expected = (1.0 + row as f64 / 4.0) / square.sqrt();
        assert!((f64::from(*scale) / expected - 1.0).abs() < 1e-5, "row {row}: {scale} for {expected}");
    }
    assert_eq!(adapter.kind(), "dora");
    // The result is the same with the suffix other tools write, and for any number of threads.
    let other = folder.change("magnitude", |tensor| tensor.name += ".weight");
    let limits = Limits { threads: 3, ..Limits::default() };
    let again = Adapter::load(other.write(), &base(), &limits).expect("loads");
    assert_eq!(again.delta(V1).expect("delta").row_scale, delta.row_scale);
    assert_eq!(again.generation(), adapter.generation());
}

#[test]
fn an_embedding_adapter_is_stored_by_token() {
    let _loads = LOADS.lock();
    let name = "base_model.model.model.embed_tokens";
    let (a, b) = (format!("{name}.lora_embedding_A"), format!("{name}.lora_embedding_B"));
    let magnitude: Vec<f32> = (1..=8).map(|value| value as f32).collect();
    let folder = Folder::of(json!({"target_modules": ["embed_tokens"], "use_dora": true}), &[], 2)
        .plus(random(&a, "F32", &[2, 10]))
        .plus(random(&b, "F32", &[8, 2]))
        .plus(tensor(&format!("{name}.lora_magnitude_vector"), "F32", &[8], &magnitude));
    let adapter = folder.loaded();
    let delta = adapter.delta(Site::Embed).expect("delta");
    assert_eq!((delta.a.rows, delta.a.columns, delta.b.rows, delta.b.columns), (10, 2, 2, 8));
    assert_eq!(values(delta.a), transposed(&numbers(&a, 20), 2));
    assert_eq!(values(delta.b), transposed(&numbers(&b, 16), 8));
    let (a, b) = (values(delta.a), values(delta.b));
    for (column, scale) in delta.row_scale.expect("DoRA").iter().enumerate() {
        let square: f32 = (0..10)
            .map(|token| {
                let change: f32 = (0..2).map(|r| a[token * 2 + r] * b[r * 8 + column]).sum();
                (weight(Site::Embed, token, column) + 2.0 * change).powi(2)
            })
            .sum();
        let expected = magnitude[column] / square.sqrt();
        assert!((scale / expected - 1.0).abs() < 1e-5, "{column}: {scale} for {expected}");
    }
}

#[test]
fn a_tied_head_is_adapted_alone() {
    let _loads = LOADS.lock();
    let folder = Folder::of(json!({"target_modules": ["lm_head"], "use_dora": true}), &[], 2)
        .plus(random("base_model.model.lm_head.lora_A.weight", "BF16", &[2, 8]))
        .plus(random("base_model.model.lm_head.lora_B.weight", "BF16", &[10, 2]))
        .plus(tensor("base_model.model.lm_head.lora_magnitude_vector", "BF16", &[10], &[2.0; 10]));
    let adapter = folder.loaded();
    let delta = adapter.delta(Site::Head).expect("delta");
    assert_eq!((delta.a.dtype, delta.row_scale.map(<[f32]>::len)), (Dtype::Bf16, Some(10)));
    assert!(adapter.delta(Site::Embed).is_none());
}

#[test]
fn bias_of_b_is_scaled() {
    let _loads = LOADS.lock();
    let mut folder = Folder::of(json!({"target_modules": ["o_proj"], "lora_bias": true}), &[Module::O], 2);
    for layer in 0..LAYERS {
        let name = format!("base_model.model.model.layers.{layer}.self_attn.o_proj.lora_B.bias");
        folder.tensors.push(tensor(&name, "F16", &[8], &[0.25; 8]));
    }
    let adapter = folder.loaded();
    assert_eq!(adapter.delta(Site::Block(0, Module::O)).expect("delta").bias, Some(&[0.5; 8][..]));
    folder.tensors.pop();
    let error = folder.load().expect_err("a bias is missing").to_string();
    assert!(error.contains("has no lora_B.bias"), "{error}");
}

#[test]
fn saved_modules_replace_what_peft_replaces() {
    let _loads = LOADS.lock();
    let full = |name: &str| random(&format!("base_model.model.{name}"), "F16", &[10, 8]);
    let saved = |module: &str, name: &str| {
        Folder::plain().with(json!({"modules_to_save": [module]})).plus(full(name)).loaded()
    };
    for name in ["lm_head.weight", "lm_head.modules_to_save.default.weight", "lm_head.modules_to_save.weight"]
    {
        let adapter = saved("lm_head", name);
        let matrix = adapter.replaced(Site::Head).expect("a head");
        assert_eq!(values(matrix), numbers(&format!("base_model.model.{name}"), 80));
        assert!(adapter.replaced(Site::Embed).is_none(), "a tied embedding stays the base's");
    }
    let adapter = saved("embed_tokens", "model.embed_tokens.weight");
    assert!(adapter.replaced(Site::Embed).is_some() && adapter.replaced(Site::Head).is_none());
    // Not named to be saved, it is the base's own weight, which a tied head shares.
    let adapter = Folder::plain().plus(full("model.embed_tokens.weight")).loaded();
    assert!(adapter.replaced(Site::Embed).is_some() && adapter.replaced(Site::Head).is_some());
    let error = Folder::plain().with(json!({"modules_to_save": ["lm_head"]})).load().expect_err("no tensor");
    assert!(error.to_string().contains("lm_head"), "{error}");
}

#[test]
fn a_subfolder_of_another_name_is_found() {
    let _loads = LOADS.lock();
    let outer = tempfile::tempdir().expect("folder");
    let folder = Folder::plain()
        .change("lora_", |tensor| tensor.name = tensor.name.replace(".weight", ".mine.weight"));
    let inner = outer.path().join("mine");
    fs::rename(folder.write(), &inner).expect("rename");
    let adapter = Adapter::load(outer.path(), &base(), &Limits::default()).expect("loads");
    assert_eq!(adapter.generation(), Folder::plain().loaded().generation());
    fs::create_dir(outer.path().join("second")).expect("folder");
    fs::write(outer.path().join("second/adapter_config.json"), "{}").expect("config");
    let error = Adapter::load(outer.path(), &base(), &Limits::default()).expect_err("two").to_string();
    assert!(error.contains("2 adapters") && error.contains("second"), "{error}");
}

#[test]
fn the_generation_is_that_of_the_numbers() {
    let _loads = LOADS.lock();
    let plain = Folder::plain().loaded().generation();
    assert_eq!(plain.to_string().len(), 64);
    let mut same = Folder::plain().with(json!({
        "target_modules": ["v_proj", "q_proj"], "lora_dropout": 0.1, "peft_version": "9",
        "alpha_pattern": {"q_proj": 4}, "inference_mode": true,
    }));
    same.tensors.reverse();
    let same = same.change("lora_A", |tensor| {
        let name = tensor.name.trim_start_matches("base_model.model.").replace(".weight", ".default.weight");
        tensor.name = name;
    });
    assert_eq!(same.loaded().generation(), plain);
    let scaled = Folder::plain().with(json!({"lora_alpha": 5})).loaded().generation();
    let bit = Folder::plain().change("layers.1.self_attn.v_proj.lora_B", |tensor| tensor.bytes[0] ^= 1);
    let templated = Folder::plain();
    fs::write(templated.path().join("chat_template.jinja"), "{{ messages }}").expect("template");
    let wider = Folder::plain().change("layers.0.self_attn.q_proj.lora_A", |tensor| {
        let halves = tensor.bytes.as_chunks::<2>().0;
        tensor.bytes =
            halves.iter().flat_map(|&half| f16::from_le_bytes(half).to_f32().to_le_bytes()).collect();
        tensor.dtype = "F32";
    });
    let mut all = vec![plain, scaled];
    all.extend([bit, templated, wider].iter().map(|folder| folder.loaded().generation()));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

#[test]
fn chat_templates_come_from_either_file() {
    let _loads = LOADS.lock();
    let template = |files: &[(&str, &str)]| {
        let folder = Folder::plain();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("file");
        }
        folder.load().map(|adapter| adapter.chat_template().map(str::to_owned))
    };
    let config = r#"{"chat_template": "B", "added_tokens_decoder": {"0": {"content": "x"}}}"#;
    assert_eq!(template(&[]).expect("loads"), None);
    assert_eq!(template(&[("tokenizer_config.json", config)]).expect("loads").as_deref(), Some("B"));
    let both = [("tokenizer_config.json", config), ("chat_template.jinja", "A")];
    assert_eq!(template(&both).expect("loads").as_deref(), Some("A"));
    let many =
        r#"{"chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]}"#;
    assert_eq!(template(&[("tokenizer_config.json", many)]).expect("loads").as_deref(), Some("D"));
    assert_eq!(template(&[("tokenizer_config.json", r#"{"chat_template": 3}"#)]).expect("loads"), None);
    let long = "x".repeat((256 << 10) + 1);
    assert!(matches!(template(&[("chat_template.jinja", &long)]), Err(Error::TooLarge { .. })));
    let long = json!({"chat_template": long}).to_string();
    assert!(matches!(template(&[("tokenizer_config.json", &long)]), Err(Error::TooLarge { .. })));
    assert!(matches!(template(&[("tokenizer_config.json", "[")]), Err(Error::InvalidAdapter { .. })));
}

#[test]
fn the_base_s_name_is_compared() {
    let _loads = LOADS.lock();
    let said = |name: &str| Folder::plain().with(json!({"base_model_name_or_path": name}));
    assert!(said("someone/tiny-LLAMA").loaded().warnings().is_empty());
    assert_eq!(said("someone/tiny-llama-2").loaded().warnings().len(), 1);
    let strict = Limits { other_base: OtherBase::Refuse, ..Limits::default() };
    let other = said("someone/tiny-llama-2");
    assert!(matches!(Adapter::load(other.write(), &base(), &strict), Err(Error::IncompatibleBase { .. })));
    let named = Limits { base_names: vec!["x/Tiny-Llama-2".to_owned()], ..strict };
    assert!(Adapter::load(other.write(), &base(), &named).is_ok());
}

/// What a test of a refusal expects: the error's code and words of its text.
fn refused(folder: &Folder, code: &str, words: &[&str]) {
    let before = live_bytes();
    let error = folder.load().expect_err(&format!("{words:?} is refused"));
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(text.len() < 4096, "{} bytes of message", text.len());
    assert_eq!(live_bytes(), before, "a refused adapter keeps memory");
}

#[test]
fn fields_are_refused_as_listed() {
    let _loads = LOADS.lock();
    let cases = [
        (json!({"peft_type": "IA3"}), "IA3"),
        (json!({"peft_type": null}), "peft_type"),
        (json!({"task_type": "SEQ_CLS"}), "SEQ_CLS"),
        (json!({"bias": "all"}), "bias"),
        (json!({"trainable_token_indices": [1]}), "trainable_token_indices"),
        (json!({"target_parameters": ["mlp.experts.gate_up_proj"]}), "target_parameters"),
        (json!({"alora_invocation_tokens": [1, 2]}), "alora_invocation_tokens"),
        (json!({"layer_replication": [[0, 2]]}), "layer_replication"),
        (json!({"use_qalora": true}), "use_qalora"),
        (json!({"use_bdlora": {"nblocks": 2}}), "use_bdlora"),
        (json!({"arrow_config": {"a": 1}}), "arrow_config"),
        (json!({"monteclora_config": {"a": 1}}), "monteclora_config"),
        (json!({"kasa_config": {"a": 1}}), "kasa_config"),
        (json!({"megatron_config": {"a": 1}}), "megatron_config"),
        (json!({"ensure_weight_tying": true}), "ensure_weight_tying"),
        (json!({"init_lora_weights": "pissa_niter_16"}), "pissa_niter_16"),
        (json!({"init_lora_weights": "loftq"}), "loftq"),
        (json!({"init_lora_weights": "newest"}), "newest"),
        (json!({"use_something_new": true}), "use_something_new"),
        (json!({"something_new": {"k": 1}}), "something_new"),
        (json!({"modules_to_save": ["norm"]}), "norm"),
        (json!({"target_modules": null}), "target_modules"),
        (json!({"target_modules": [1]}), "target_modules"),
        (json!({"target_modules": "(?=q).*"}), "target_modules"),
        (json!({"rank_pattern": {"(q": 2}}), "rank_pattern"),
        (json!({"exclude_modules": "(?<!q)v"}), "exclude_modules"),
        (json!({"layers_pattern": "layers"}), "layers_to_transform"),
        (json!({"target_modules": ".*q_proj", "layers_to_transform": [1]}), "layers_to_transform"),
        (json!({"lora_bias": true, "use_dora": true}), "lora_bias"),
        (json!({"use_dora": "yes"}), "use_dora"),
        (json!({"r": 0}), "r: rank is 0"),
        (json!({"r": -1}), "-1"),
        (json!({"r": 2.5}), "2.5"),
        (json!({"rank_pattern": {"q_proj": 0}}), "rank_pattern.q_proj"),
        (json!({"lora_alpha": "16"}), "lora_alpha"),
        (json!({"lora_alpha": 1e300}), "lora_alpha"),
        (json!({"adaptations": 4}), "adaptations"),
    ];
    for (more, word) in cases {
        refused(&Folder::plain().with(more), "invalid_adapter", &[word]);
    }
    refused(&Folder::plain().with(json!({"r": 1_000_000_000})), "too_large", &["1000000000", "256"]);
}

#[test]
fn fields_are_ignored_as_listed() {
    let _loads = LOADS.lock();
    let folder = Folder::plain().with(json!({
        "lora_dropout": 0.5, "inference_mode": false, "auto_mapping": {"a": 1}, "peft_version": "1",
        "loftq_config": {"a": 1}, "eva_config": {"a": 1}, "corda_config": {"a": 1}, "lora_ga_config": {"a": 1},
        "velora_config": {"a": 1}, "megatron_core": "m", "runtime_config": {"a": 1}, "qalora_group_size": 16,
        "use_qalora": false, "revision": "main", "newer": null, "newer_still": [], "newest": {}, "last": false,
        "init_lora_weights": "gaussian", "trainable_token_indices": null, "fan_in_fan_out": false,
    }));
    assert!(folder.loaded().warnings().is_empty());
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let _loads = LOADS.lock();
    let f16_bits =
        |bits: u16| move |tensor: &mut Tensor| tensor.bytes[2..4].copy_from_slice(&bits.to_le_bytes());
    let v1b = "layers.1.self_attn.v_proj.lora_B";
    for (bits, what) in [(0x7e00, "NaN"), (0x7c00, "infinite"), (0xfc00, "infinite")] {
        refused(&Folder::plain().change(v1b, f16_bits(bits)), "invalid_adapter", &[v1b, what]);
    }
    let huge = random(&format!("base_model.model.model.{v1b}.weight"), "F32", &[4, 2]);
    let huge = Tensor { bytes: [1e38f32; 8].iter().flat_map(|value| value.to_le_bytes()).collect(), ..huge };
    refused(&Folder::plain().change(v1b, |tensor| *tensor = huge.clone()), "invalid_adapter", &[v1b, "1e38"]);

    let zero = Folder::plain().change("lora_B", |tensor| tensor.bytes.fill(0));
    refused(&zero, "invalid_adapter", &["every delta is zero"]);
    let limits = Limits { allow_zero: true, ..Limits::default() };
    assert!(Adapter::load(zero.write(), &base(), &limits).is_ok());
    let partly = Folder::plain().change(v1b, |tensor| tensor.bytes.fill(0)).loaded();
    assert!(partly.warnings()[0].contains("model.layers.1.self_attn.v_proj"), "{:?}", partly.warnings());
    refused(&Folder::plain().with(json!({"lora_alpha": 0})), "invalid_adapter", &["every delta is zero"]);

    let rank = Folder::plain().change(v1b, |tensor| {
        tensor.shape = vec![4, 1];
        tensor.bytes.truncate(8);
    });
    refused(&rank, "invalid_adapter", &[v1b, "rank 1", "says 2"]);
    refused(&Folder::plain().with(json!({"r": 3})), "invalid_adapter", &["rank 2", "says 3"]);
    let empty = Folder::plain().change(v1b, |tensor| {
        tensor.shape = vec![4, 0];
        tensor.bytes.clear();
    });
    refused(&empty, "invalid_adapter", &[v1b, "rank is 0"]);
    let wide = Folder::plain().change("q_proj.lora_A", |tensor| {
        tensor.shape = vec![2, 16];
        tensor.bytes = vec![0x11; 64];
    });
    refused(&wide, "incompatible_base", &["q_proj.lora_A", "16", "8"]);
    let integers =
        Folder::plain().change(v1b, |tensor| *tensor = random(&tensor.name.clone(), "I64", &[4, 2]));
    refused(&integers, "invalid_adapter", &[v1b, "integers"]);
    let resized = Folder::plain().plus(random("base_model.model.lm_head.weight", "F16", &[11, 8]));
    refused(&resized, "incompatible_base", &["lm_head", "[11, 8]", "[10, 8]"]);
}

#[test]
fn tensors_without_a_counterpart_are_named() {
    let _loads = LOADS.lock();
    let lora_a = |path: &str, columns| random(&format!("{path}.lora_A.weight"), "F16", &[2, columns]);
    let more =
        (0..7).fold(Folder::plain(), |folder, index| folder.plus(lora_a(&format!("model.extra{index}"), 8)));
    refused(&more, "invalid_adapter", &["7 left over", "model.extra4", "2 more"]);
    refused(
        &Folder::plain().plus(lora_a("other.self_attn.q_proj", 8)),
        "invalid_adapter",
        &["other.self_attn"],
    );
    refused(
        &Folder::plain().plus(lora_a("model.layers.9.self_attn.q_proj", 8)),
        "incompatible_base",
        &["9", "2 layers"],
    );
    refused(&Folder::plain().plus(lora_a("model.layers.0.mlp.up_proj", 8)), "invalid_adapter", &["up_proj"]);
    let norm = random("base_model.model.model.norm.weight", "F16", &[1, 8]);
    refused(&Folder::plain().plus(norm), "invalid_adapter", &["model.norm.weight"]);
    let block = random("base_model.model.model.layers.0.mlp.up_proj.weight", "F16", &[12, 8]);
    refused(&Folder::plain().plus(block), "invalid_adapter", &["up_proj.weight"]);
    let untargeted = Folder::plain().with(json!({"target_modules": ["q_proj"]}));
    refused(&untargeted, "invalid_adapter", &["2 adapted by tensors", "v_proj"]);
    let missing = Folder::plain().with(json!({"target_modules": ["q_proj", "v_proj", "k_proj"]}));
    refused(&missing, "invalid_adapter", &["2 named by the configuration", "k_proj"]);
    let mut half = Folder::plain();
    half.tensors.retain(|tensor| !tensor.name.contains("layers.0.self_attn.q_proj.lora_B"));
    refused(&half, "invalid_adapter", &["layers.0.self_attn.q_proj", "no lora_B"]);
    let twice = Folder::plain().plus(lora_a("model.layers.0.self_attn.q_proj", 8));
    refused(&twice, "invalid_adapter", &["two names"]);
    let magnitude = random(&format!("{Q0}.lora_magnitude_vector"), "F16", &[8]);
    refused(&Folder::plain().plus(magnitude), "invalid_adapter", &["magnitude", "does not have"]);
    refused(&Folder::new(Folder::plain().config, vec![]), "invalid_adapter", &["q_proj"]);
}

#[test]
fn evil_names_are_only_names() {
    let _loads = LOADS.lock();
    for name in [
        "../../x",
        "a\u{0}b",
        "",
        "/etc/passwd",
        "base_model.model.",
        ".lora_A.weight",
        "mоdel.lora_A.weight",
    ] {
        let error = Folder::plain().plus(random(name, "F16", &[2, 8])).load().expect_err(name);
        assert!(matches!(error, Error::InvalidAdapter { .. } | Error::Corrupt { .. }), "{name}: {error}");
        assert!(!error.to_string().contains('\0'), "{error:?}");
    }
    let long = Folder::plain().plus(random(&"x".repeat(1 << 20), "F16", &[2, 8])).load().expect_err("1 MiB");
    assert!(long.to_string().len() < 4096, "{} bytes of message", long.to_string().len());
}

#[test]
fn broken_files_are_typed_errors() {
    let _loads = LOADS.lock();
    let check = |name: &str, bytes: &[u8], codes: &[&str]| {
        let folder = Folder::plain();
        folder.write();
        fs::write(folder.path().join(name), bytes).expect("file");
        let error = Adapter::load(folder.path(), &base(), &Limits::default()).expect_err(name);
        assert!(codes.contains(&error.code()), "{name}: {} {error}", error.code());
    };
    let tensors = "adapter_model.safetensors";
    check(tensors, b"", &["corrupt_file"]);
    check(tensors, b"PK\x03\x04aaaaaaaaaaaa", &["forbidden_file"]);
    check(tensors, b"\x80\x02}q\x00.aaaaaaaa", &["forbidden_file"]);
    check(tensors, &u64::MAX.to_le_bytes(), &["corrupt_file"]);
    let mut bomb = (57u64 << 20).to_le_bytes().to_vec();
    bomb.resize((57 << 20) + 8, b' ');
    bomb[8] = b'{';
    check(tensors, &bomb, &["too_large"]);
    let mut short = safetensors(&Folder::plain().tensors);
    short.pop();
    check(tensors, &short, &["corrupt_file"]);
    for config in ["", "[]", "{", r#"{"r": NaN}"#, r#"{"r": 1, "r": 2}"#, "\u{feff}{}", &"[".repeat(100_000)]
    {
        check("adapter_config.json", config.as_bytes(), &["invalid_adapter"]);
    }
    check("adapter_config.json", &vec![b' '; (1 << 20) + 1], &["too_large"]);
}

#[test]
fn files_of_other_kinds_are_not_opened() {
    let _loads = LOADS.lock();
    let outside = Folder::plain();
    outside.write();
    let load = |path: &Path| Adapter::load(path, &base(), &Limits::default()).expect_err("refused");
    let folder = || {
        let folder = Folder::plain();
        fs::write(folder.path().join("adapter_config.json"), folder.config.to_string()).expect("config");
        folder
    };
    // A pickle in place of the tensors.
    let pickle = folder();
    fs::write(pickle.path().join("adapter_model.bin"), b"PK\x03\x04").expect("file");
    let error = load(pickle.path());
    assert!(error.code() == "forbidden_file" && error.to_string().contains("pickle"), "{error}");
    // A link out of the folder, to the tensors or to the configuration; a link to the folder; a pipe.
    let linked = folder();
    let target = outside.path().join("adapter_model.safetensors");
    std::os::unix::fs::symlink(&target, linked.path().join("adapter_model.safetensors")).expect("link");
    assert_eq!(load(linked.path()).code(), "forbidden_file");
    let linked = tempfile::tempdir().expect("folder");
    let target = outside.path().join("adapter_config.json");
    std::os::unix::fs::symlink(target, linked.path().join("adapter_config.json")).expect("link");
    assert_eq!(load(linked.path()).code(), "forbidden_file");
    let link = linked.path().join("link");
    std::os::unix::fs::symlink(outside.path(), &link).expect("link");
    assert_eq!(load(&link).code(), "forbidden_file");
    let piped = folder();
    let pipe = piped.path().join("adapter_model.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    assert_eq!(load(piped.path()).code(), "forbidden_file");
    assert_eq!(load(Path::new("/dev/zero")).code(), "forbidden_file");
    // Files by themselves.
    for magic in [&b"PK\x03\x04"[..], b"\x1f\x8b", b"\x80\x04", b"hello", b"\x08\0\0\0\0\0\0\0{}      "] {
        let file = piped.path().join("file");
        fs::write(&file, magic).expect("file");
        assert_eq!(load(&file).code(), "forbidden_file", "{magic:?}");
    }
    assert_eq!(load(&piped.path().join("nothing")).code(), "io");
    assert_eq!(load(tempfile::tempdir().expect("folder").path()).code(), "not_found");
    // Outside the root.
    let root = Limits { root: Some(piped.path().to_owned()), ..Limits::default() };
    assert_eq!(Adapter::load(outside.path(), &base(), &root).expect_err("outside").code(), "forbidden_file");
    let root = Limits { root: outside.path().parent().map(Path::to_owned), ..Limits::default() };
    assert!(Adapter::load(outside.path(), &base(), &root).is_ok());
}

#[test]
fn limits_hold() {
    let _loads = LOADS.lock();
    let folder = Folder::plain();
    let load = |limits: Limits| Adapter::load(folder.write(), &base(), &limits);
    let refused = |limits| assert!(matches!(load(limits), Err(Error::TooLarge { .. })));
    refused(Limits { rank_max: 1, ..Limits::default() });
    refused(Limits { file_bytes_max: 100, ..Limits::default() });
    refused(Limits { memory_bytes_max: 4095, ..Limits::default() });
    assert!(load(Limits { memory_bytes_max: 4096, rank_max: 2, ..Limits::default() }).is_ok());
}

#[test]
fn ten_thousand_loads_end_where_they_began() {
    let _loads = LOADS.lock();
    let folder = Folder::plain();
    let (path, base, limits) = (folder.write(), base(), Limits::default());
    let before = live_bytes();
    let adapter = Adapter::load(path, &base, &limits).expect("loads");
    assert_eq!(live_bytes() - before, adapter.bytes());
    drop(adapter);
    let cycle = || drop(Adapter::load(path, &base, &limits).expect("loads"));
    (0..500).for_each(|_| cycle());
    let (resident, files) = (resident_bytes(), open_files());
    (0..9_500).for_each(|_| cycle());
    assert_eq!(live_bytes(), before);
    // Other tests of this binary run beside this one, so the bound is not zero: 10 000 leaked blocks would be 40 MiB.
    let grown = resident_bytes().saturating_sub(resident);
    assert!(grown < 16 << 20, "resident memory grew by {grown} bytes");
    assert!(open_files() < files + 64, "{} files open, {files} before", open_files());
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
    line.split_whitespace().nth(1).expect("kB").parse::<u64>().expect("a number") << 10
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count()
}

#[test]
fn a_dry_run_tells_everything_at_once() {
    let _loads = LOADS.lock();
    let folder = Folder::plain();
    let answer = dry_run(folder.write(), &base().0, &Limits::default(), Room::ANY);
    let adapter = folder.loaded();
    assert!(answer.fits && answer.problems.is_empty(), "{answer:?}");
    assert_eq!((answer.bytes.host, answer.bytes.device), (adapter.bytes(), adapter.bytes()));
    let sizes = ["adapter_config.json", "adapter_model.safetensors"]
        .map(|name| fs::metadata(folder.path().join(name)).expect("file").len());
    assert_eq!(answer.bytes.disk, sizes.iter().sum::<u64>());
    assert_eq!((answer.kind, answer.rank_max, answer.sites.len()), (Some("lora"), 2, 4));

    let cramped =
        dry_run(folder.path(), &base().0, &Limits::default(), Room { host: u64::MAX, device: 4095 });
    assert!(!cramped.fits && cramped.problems[0].code == "no_room", "{cramped:?}");

    let bad = Folder::plain()
        .with(json!({"use_new": true, "bias": "all", "target_modules": ["q_proj", "v_proj", "k_proj"]}))
        .plus(random("model.extra.lora_A.weight", "F16", &[2, 8]))
        .change("layers.0.self_attn.q_proj.lora_A", |tensor| {
            *tensor = random(&tensor.name.clone(), "F16", &[2, 16])
        });
    let answer = dry_run(bad.write(), &base().0, &Limits::default(), Room::ANY);
    let codes: Vec<_> = answer.problems.iter().map(|problem| problem.code).collect();
    let expected =
        ["invalid_adapter", "invalid_adapter", "incompatible_base", "invalid_adapter", "invalid_adapter"];
    assert_eq!(codes, expected, "{:#?}", answer.problems);
    let json = serde_json::to_value(&answer).expect("serialises");
    assert_eq!(
        json["problems"][2]["place"],
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    );

    let nothing = dry_run(Path::new("/nonexistent"), &base().0, &Limits::default(), Room::ANY);
    assert!(!nothing.fits && nothing.problems[0].code == "io", "{nothing:?}");
}

#[test]
fn feature_extraction_paths_lack_the_model() {
    let _loads = LOADS.lock();
    let folder = Folder::plain()
        .with(json!({"task_type": "FEATURE_EXTRACTION"}))
        .change("lora", |tensor| tensor.name = tensor.name.replace("model.model.layers", "model.layers"));
    let adapter = folder.loaded();
    assert_eq!((adapter.task(), adapter.sites().count()), (Some("FEATURE_EXTRACTION"), 4));
    let same = Folder::plain().loaded();
    assert_eq!(adapter.generation(), same.generation());
}

/// A MoS folder of q and v: pools of 6 shards, 2 to a vector.
fn mos() -> Folder {
    let config = json!({
        "peft_type": "MOS", "r": 3, "lora_alpha": 6, "shards_per_vector": 2, "target_modules": ["q_proj", "v_proj"],
    });
    let mut tensors = Vec::new();
    for (kind, out) in [("q_proj", 8), ("v_proj", 4)] {
        tensors.push(random(&format!("mos.{kind}.pool_A"), "F16", &[6, 4]));
        tensors.push(random(&format!("mos.{kind}.pool_B"), "BF16", &[6, out / 2]));
        for layer in 0..LAYERS {
            let path = format!("model.layers.{layer}.self_attn.{kind}");
            let layer = layer as f32;
            tensors.push(tensor(
                &format!("{path}.index_A"),
                "I32",
                &[3, 2],
                &[0., 1., 2., 3., 4. + layer, 0.],
            ));
            tensors.push(tensor(
                &format!("{path}.index_B"),
                "I64",
                &[3, 2],
                &[5., 0., 1., 1., 3., 2. + layer],
            ));
        }
    }
    Folder::new(config, tensors)
}

#[test]
fn mos_gathers_vectors_from_shards() {
    let _loads = LOADS.lock();
    let adapter = mos().loaded();
    assert_eq!((adapter.kind(), adapter.rank_max(), adapter.sites().count()), ("mos", 3, 4));
    let delta = adapter.delta(V1).expect("delta");
    assert_eq!((delta.rank, delta.scale), (3, 2.0));
    let gathered = |name: &str, count: usize, width: usize, picks: &[usize]| -> Vec<f32> {
        let pool = numbers(name, count * width);
        picks.iter().flat_map(|&pick| pool[pick * width..][..width].to_vec()).collect()
    };
    assert_eq!(values(delta.a), gathered("mos.v_proj.pool_A", 6, 4, &[0, 1, 2, 3, 5, 0]));
    assert_eq!(values(delta.b), gathered("mos.v_proj.pool_B", 6, 2, &[5, 0, 1, 1, 3, 3]));
    let outside = mos().change("layers.1.self_attn.v_proj.index_B", |tensor| tensor.bytes[0] = 6);
    refused(&outside, "invalid_adapter", &["v_proj.index_B", "shard 6", "6"]);
    let negative = mos().change("layers.1.self_attn.v_proj.index_A", |tensor| tensor.bytes[3] = 0x80);
    refused(&negative, "invalid_adapter", &["index_A", "-2147483648"]);
    refused(&mos().with(json!({"shards_per_vector": 4})), "incompatible_base", &["pool_A"]);
    refused(&mos().with(json!({"r": 2})), "invalid_adapter", &["index_A", "[2, 2]"]);
    refused(
        &mos().plus(random("mos.k_proj.pool_A", "F16", &[6, 4])),
        "invalid_adapter",
        &["mos.k_proj.pool_A"],
    );
    let mut poolless = mos();
    poolless.tensors.retain(|tensor| tensor.name != "mos.q_proj.pool_B");
    refused(&poolless, "invalid_adapter", &["mos.q_proj.pool_B", "missing"]);
    refused(&mos().with(json!({"target_modules": ["lm_head"]})), "invalid_adapter", &["lm_head"]);
}

/// An AdaMix folder: three A's and one shared B at each site.
fn adamix() -> Folder {
    let mut folder = Folder::plain().with(json!({"peft_type": "ADAMIX", "adaptations": 3}));
    let plain = std::mem::take(&mut folder.tensors);
    for tensor in plain {
        let count = if tensor.name.contains("lora_A") { 3 } else { 1 };
        for number in 0..count {
            let name = tensor.name.replace(".weight", &format!(".{number}.weight"));
            folder.tensors.push(random(&name, "F16", &tensor.shape));
        }
    }
    folder
}

#[test]
fn adamix_averages_its_adaptations() {
    let _loads = LOADS.lock();
    let adapter = adamix().loaded();
    let delta = adapter.delta(V1).expect("delta");
    assert_eq!((adapter.kind(), delta.a.dtype, delta.b.dtype), ("adamix", Dtype::F32, Dtype::F32));
    let name = |matrix: &str, number: usize| format!("base_model.model.{V1}.lora_{matrix}.{number}.weight");
    let all: Vec<_> = (0..3).map(|number| numbers(&name("A", number), 16)).collect();
    for (index, value) in values(delta.a).into_iter().enumerate() {
        let mean = (all[0][index] + all[1][index] + all[2][index]) / 3.0;
        assert!((value - mean).abs() < 1e-6, "{value} for {mean}");
    }
    assert_eq!(values(delta.b), transposed(&numbers(&name("B", 0), 8), 4));
    let mut two = adamix();
    two.tensors.retain(|tensor| !tensor.name.contains("lora_A.1."));
    refused(&two, "invalid_adapter", &["lora_A", "[0, 2]", "0 to 2"]);
    refused(&adamix().with(json!({"adaptations": 2})), "invalid_adapter", &["lora_A"]);
    let plain = Folder::plain().with(json!({"peft_type": "ADAMIX"}));
    refused(&plain, "invalid_adapter", &["left over"]);
}

/// A GGUF adapter of q and v at rank 2, f32, written by hand.
fn gguf_adapter(alpha: f32, architecture: &str, tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend(4u64.to_le_bytes());
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    for (key, value) in
        [("general.type", "adapter"), ("general.architecture", architecture), ("adapter.type", "lora")]
    {
        out.extend([text(key), 8u32.to_le_bytes().to_vec(), text(value)].concat());
    }
    out.extend(
        [text("adapter.lora.alpha"), 6u32.to_le_bytes().to_vec(), alpha.to_le_bytes().to_vec()].concat(),
    );
    let mut data: Vec<u8> = Vec::new();
    for tensor in tensors {
        data.resize(data.len().next_multiple_of(32), 0);
        out.extend(text(&tensor.name));
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|&dim| out.extend((dim as u64).to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        out.extend((data.len() as u64).to_le_bytes());
        data.extend(&tensor.bytes);
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out.resize(out.len().next_multiple_of(32), 0);
    out
}

/// The same numbers in both forms, so that both load to the same adapter.
fn gguf_tensors() -> (Vec<Tensor>, Folder) {
    let folder =
        Folder::plain().change("lora", |tensor| *tensor = random(&tensor.name.clone(), "F32", &tensor.shape));
    let mut tensors = Vec::new();
    for (site, module) in
        (0..LAYERS).flat_map(|layer| [Module::Q, Module::V].map(|m| (Site::Block(layer, m), m)))
    {
        let (out, input) = base().0.shape(site);
        let name = |matrix| format!("base_model.model.{site}.lora_{matrix}.weight");
        let (a, b) = (numbers(&name("A"), 2 * input), numbers(&name("B"), 2 * out));
        // llama.cpp's order of q: row 2 i + j of a head is row j d / 2 + i of Hugging Face's.
        let order = |row: usize| row / 4 * 4 + row % 2 * 2 + row % 4 / 2;
        let b: Vec<f32> = match module {
            Module::Q => (0..out).flat_map(|row| b[order(row) * 2..][..2].to_vec()).collect(),
            _ => b,
        };
        let gguf = site.gguf_name();
        tensors.push(tensor(&format!("{gguf}.weight.lora_a"), "F32", &[2, input], &a));
        tensors.push(tensor(&format!("{gguf}.weight.lora_b"), "F32", &[out, 2], &b));
    }
    (tensors, folder)
}

fn gguf_file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("adapter.gguf");
    fs::write(&path, bytes).expect("file");
    (folder, path)
}

#[test]
fn a_gguf_adapter_is_the_same_as_its_peft_form() {
    let _loads = LOADS.lock();
    let (tensors, folder) = gguf_tensors();
    let (_kept, path) = gguf_file(&gguf_adapter(4.0, "llama", &tensors));
    let adapter = Adapter::load(&path, &base(), &Limits::default()).expect("loads");
    assert_eq!((adapter.kind(), adapter.sites().count()), ("gguf", 4));
    assert_eq!(adapter.generation(), folder.loaded().generation());
    assert!(dry_run(&path, &base().0, &Limits::default(), Room::ANY).fits);
}

#[test]
fn gguf_adapters_are_checked_too() {
    let _loads = LOADS.lock();
    let (tensors, _) = gguf_tensors();
    let load = |alpha: f32, architecture: &str, tensors: &[Tensor]| {
        let (_kept, path) = gguf_file(&gguf_adapter(alpha, architecture, tensors));
        Adapter::load(&path, &base(), &Limits::default())
    };
    assert_eq!(load(0.0, "llama", &tensors).expect("loads").delta(Q0).expect("delta").scale, 1.0);
    let check = |result: Result<Adapter>, code: &str, word: &str| {
        let error = result.expect_err(word);
        assert!(error.code() == code && error.to_string().contains(word), "{error}");
    };
    check(load(f32::NAN, "llama", &tensors), "invalid_adapter", "alpha");
    check(load(4.0, "qwen2", &tensors), "incompatible_base", "qwen2");
    check(load(4.0, "llama", &tensors[1..]), "invalid_adapter", "no lora_a");
    check(load(4.0, "llama", &[]), "invalid_adapter", "changes nothing");
    let extra = [tensors.clone(), vec![random("blk.7.attn_q.weight.lora_a", "F32", &[2, 8])]].concat();
    check(load(4.0, "llama", &extra), "invalid_adapter", "blk.7.attn_q");
    let mut wrong = tensors.clone();
    wrong[1] = random(&wrong[1].name.clone(), "F32", &[9, 2]);
    check(load(4.0, "llama", &wrong), "incompatible_base", "[9, 2]");
    // A model is no adapter.
    let mut model = gguf_adapter(4.0, "llama", &tensors);
    let at = model.windows(7).position(|window| window == b"adapter").expect("type");
    model[at..at + 7].copy_from_slice(b"bdapter");
    let (_kept, path) = gguf_file(&model);
    check(Adapter::load(&path, &base(), &Limits::default()), "invalid_adapter", "general.type");
}

#[test]
fn an_untied_head_has_rows_of_its_own() {
    let _loads = LOADS.lock();
    let folder = Folder::of(json!({"target_modules": ["lm_head"], "use_dora": true}), &[], 1)
        .plus(random("lm_head.lora_A.weight", "F32", &[1, 8]))
        .plus(random("lm_head.lora_B.weight", "F32", &[10, 1]))
        .plus(tensor("lm_head.lora_magnitude_vector", "F32", &[10], &[1.0; 10]));
    let (tied, own) =
        (folder.loaded(), Adapter::load(folder.path(), &untied(), &Limits::default()).expect("loads"));
    let scale = |adapter: &Adapter| adapter.delta(Site::Head).expect("delta").row_scale.map(<[f32]>::to_vec);
    assert_ne!(scale(&tied), scale(&own));
    assert_eq!(tied.generation(), own.generation(), "the base is no part of an adapter's identity");
}

/// The project's real adapters, whose shapes are those of SmolLM2-135M.
#[test]
fn the_real_adapters_load() {
    let Some(data) = std::env::var_os("COLDFRAME_DATA") else {
        eprintln!("skipped: COLDFRAME_DATA is not set");
        return;
    };
    let _loads = LOADS.lock();
    let mut base = base();
    base.0 = ModelConfig {
        name: "SmolLM2 135M Instruct".to_owned(),
        layers: 30,
        width: 576,
        ffn: 1536,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        vocab: 49152,
        ..base.0
    };
    for (name, rank, sites) in [("pirate", 8, 60), ("json", 8, 210), ("shout", 16, 120)] {
        let path = Path::new(&data).join("adapters").join(name);
        let answer = dry_run(&path, &base.0, &Limits::default(), Room::ANY);
        assert!(answer.fits, "{answer:?}");
        let started = std::time::Instant::now();
        let adapter = Adapter::load(&path, &base, &Limits::default()).expect("loads");
        eprintln!("{name}: {} bytes in {:?}", adapter.bytes(), started.elapsed());
        assert_eq!((adapter.rank_max(), adapter.sites().count()), (rank, sites));
        assert!(adapter.warnings().is_empty(), "{:?}", adapter.warnings());
        let delta = adapter.delta(Q0).expect("q");
        assert_eq!((delta.scale, delta.a.dtype), (2.0, Dtype::F16));
        let file = fs::metadata(path.join("adapter_model.safetensors")).expect("file").len();
        assert!(
            adapter.bytes() as f64 <= file as f64 * 1.02,
            "{} bytes for a file of {file}",
            adapter.bytes()
        );
        assert_eq!(adapter.bytes(), answer.bytes.host);
    }
}

/// Python with the converter's two packages: `COLDFRAME_PYTHON` or `python3`.
fn python() -> Option<std::ffi::OsString> {
    let python = std::env::var_os("COLDFRAME_PYTHON").unwrap_or_else(|| "python3".into());
    let works = std::process::Command::new(&python).args(["-c", "import numpy, safetensors.numpy"]).output();
    works.is_ok_and(|output| output.status.success()).then_some(python)
}

fn convert(python: &std::ffi::OsStr, args: &[&std::ffi::OsStr]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/convert-adapter.py");
    let output = std::process::Command::new(python).arg(script).args(args).output().expect("python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_the_converter_writes_loads() {
    let Some(python) = python() else {
        eprintln!("skipped: no python3 with numpy and safetensors (COLDFRAME_PYTHON names one)");
        return;
    };
    let _loads = LOADS.lock();
    let out = tempfile::tempdir().expect("folder");
    let (adamix_out, mos_out) = (out.path().join("adamix"), out.path().join("mos"));
    // Three folders that share their B's.
    let folders: Vec<_> = (0..3)
        .map(|number: usize| {
            let folder = Folder::plain().change("lora_A", |tensor| {
                *tensor = self::tensor(
                    &tensor.name.clone(),
                    "F16",
                    &tensor.shape,
                    &vec![number as f32; tensor.shape.iter().product()],
                );
            });
            folder.write();
            folder
        })
        .collect();
    let paths = folders.iter().map(|folder| folder.path().as_os_str());
    convert(
        &python,
        &[&["adamix".as_ref(), adamix_out.as_os_str()], &paths.collect::<Vec<_>>()[..]].concat(),
    );
    let adapter = Adapter::load(&adamix_out, &base(), &Limits::default()).expect("loads");
    let delta = adapter.delta(V1).expect("delta");
    assert_eq!(values(delta.a), [1.0; 16]);
    assert_eq!(values(delta.b), transposed(&numbers(&format!("base_model.model.{V1}.lora_B.weight"), 8), 4));
    // Pools and indices under other names.
    let mut source = mos();
    source.tensors.iter_mut().filter(|tensor| tensor.name.starts_with("mos.")).for_each(|tensor| {
        tensor.name = tensor.name.replace("mos.", "pools.").replace("pool_", "");
    });
    source.write();
    let state = source.path().join("adapter_model.safetensors");
    let alpha = ["--alpha", "6"].map(AsRef::as_ref);
    convert(&python, &[&["mos".as_ref(), mos_out.as_os_str(), state.as_os_str()], &alpha[..]].concat());
    let (adapter, direct) =
        (Adapter::load(&mos_out, &base(), &Limits::default()).expect("loads"), mos().loaded());
    for site in direct.sites() {
        let (converted, direct) = (adapter.delta(site).expect("delta"), direct.delta(site).expect("delta"));
        assert_eq!((converted.rank, converted.scale), (direct.rank, direct.scale));
        assert_eq!((converted.a.rows, converted.b.columns), (direct.a.rows, direct.b.columns));
    }
    // The pools' values depend on their names in this test, so compare with the names that were written.
    let pool = numbers("mos.v_proj.pool_A", 24);
    assert_eq!(values(adapter.delta(V1).expect("delta").a)[..4], pool[..4]);
}
