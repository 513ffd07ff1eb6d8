//! Random PEFT adapters for any model: LoRA and DoRA of different ranks on different modules.

use crate::tiny::{Float, Numbers, safetensors};
use coldframe_backbone::adapter::{Adapter, BaseWeights, Limits};
use coldframe_backbone::model::ModelConfig;
use coldframe_backbone::site::{Module, Site};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What an adapter is made of.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub rank: usize,
    pub modules: &'static [Module],
    pub dora: bool,
}

/// Shapes that differ in everything a batch could confuse.
pub const SHAPES: [Shape; 5] = [
    Shape { rank: 8, modules: &[Module::Q, Module::V], dora: false },
    Shape { rank: 4, modules: &Module::ALL, dora: false },
    Shape { rank: 16, modules: &[Module::Q, Module::K, Module::V, Module::O], dora: true },
    Shape { rank: 8, modules: &[Module::Q, Module::V], dora: false },
    Shape { rank: 1, modules: &[Module::Down], dora: false },
];

/// A base of which only the sizes matter: its rows are all ones.
struct Ones(ModelConfig);

impl BaseWeights for Ones {
    fn config(&self) -> &ModelConfig {
        &self.0
    }

    fn row(&self, _: Site, _: usize, out: &mut [f32]) {
        out.fill(1.0);
    }
}

/// One adapter of each shape, all different.
pub fn adapters(config: &ModelConfig) -> Vec<Arc<Adapter>> {
    let base = Ones(config.clone());
    SHAPES.iter().enumerate().map(|(seed, shape)| Arc::new(adapter(&base, *shape, seed as u64))).collect()
}

fn adapter(base: &Ones, shape: Shape, seed: u64) -> Adapter {
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<_> = shape.modules.iter().map(|module| module.hf_path().split('.').next_back()).collect();
    let config = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": shape.rank, "lora_alpha": 2 * shape.rank,
        "target_modules": names, "use_dora": shape.dora,
    });
    std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).expect("written");
    let tensors = safetensors(&tensors(base.config(), shape, seed), Float::F32);
    std::fs::write(folder.path().join("adapter_model.safetensors"), tensors).expect("written");
    Adapter::load(folder.path(), base, &Limits::default()).expect("a good adapter")
}

fn tensors(config: &ModelConfig, shape: Shape, seed: u64) -> BTreeMap<String, Numbers> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut numbers = |shape: Vec<usize>, middle: f32, spread: f32| {
        let uniform = |bits: u32| bits as f32 / u32::MAX as f32 * 2.0 - 1.0;
        let count = shape.iter().product();
        let values = (0..count).map(|_| middle + spread * uniform(random.next_u32())).collect();
        Numbers { shape, values }
    };
    let mut all = BTreeMap::new();
    for layer in 0..config.layers as u32 {
        for module in shape.modules {
            let site = Site::Block(layer, *module);
            let ((out, inner), path) = (config.shape(site), format!("base_model.model.{}", site.hf_path()));
            all.insert(format!("{path}.lora_A.weight"), numbers(vec![shape.rank, inner], 0.0, 0.3));
            all.insert(format!("{path}.lora_B.weight"), numbers(vec![out, shape.rank], 0.0, 0.3));
            if shape.dora {
                all.insert(format!("{path}.lora_magnitude_vector"), numbers(vec![out], 8.0, 1.0));
            }
        }
    }
    all
}
