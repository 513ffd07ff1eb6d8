//! Adapters: what loads, to which numbers, and what is refused and why.
//!
//! The base is a tiny model whose rows are a formula; numbers against PEFT itself are compared by the golden tests.

mod kinds;
mod loads;
mod refusals;

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
use tempfile::TempDir;

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

/// What a test of a refusal expects: the error's code and words of its text.
fn refused(folder: &Folder, code: &str, words: &[&str]) {
    let error = folder.load().expect_err(&format!("{words:?} is refused"));
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
    assert!(text.len() < 4096, "{} bytes of message", text.len());
}

/// Whether this process runs the one test `name` and nothing else, as tests of the whole process's memory need. Where it
/// does not, a process that does is run.
fn alone(name: &str) -> bool {
    if std::env::var_os("COLDFRAME_TEST_ALONE").is_some() {
        return true;
    }
    let test = std::env::current_exe().expect("the test binary");
    let child =
        std::process::Command::new(test).args([name, "--exact"]).env("COLDFRAME_TEST_ALONE", "1").output();
    let output = child.expect("the test binary runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}
