//! Random PEFT adapters for the tiny models: LoRA, rsLoRA and DoRA of any rank over any targets, from a seed.
//!
//! Their changes are as large as the base model's own products, so that a delta that is lost, doubled or given to another
//! row shows far above any tolerance.

use super::tiny::{Float, Numbers, Tiny, safetensors};
use coldframe_backbone::site::{Module, Site};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// How the adapter's matrices are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Scale alpha / r.
    Lora,
    /// Scale alpha / sqrt(r).
    Rslora,
    /// A magnitude for each output.
    Dora,
}

/// A random adapter.
#[derive(Debug, Clone)]
pub struct TinyAdapter {
    pub kind: Kind,
    pub rank: usize,
    pub alpha: f64,
    /// Linear layers it changes, in every block.
    pub modules: Vec<Module>,
    /// Whether it changes the head.
    pub head: bool,
    /// Whether it changes the embedding.
    pub embed: bool,
    pub float: Float,
    pub seed: u64,
}

impl Default for TinyAdapter {
    /// Plain LoRA of rank 4 on every linear layer, f32.
    fn default() -> Self {
        Self {
            kind: Kind::Lora,
            rank: 4,
            alpha: 8.0,
            modules: Module::ALL.to_vec(),
            head: false,
            embed: false,
            float: Float::F32,
            seed: 1,
        }
    }
}

impl TinyAdapter {
    /// Unlike adapters for one batch: kinds, ranks and targets all differ.
    pub fn assorted() -> Vec<Self> {
        let base = Self::default();
        vec![
            Self { rank: 8, modules: vec![Module::Q, Module::V], seed: 11, ..base.clone() },
            Self { rank: 3, seed: 12, ..base.clone() },
            Self { kind: Kind::Rslora, rank: 16, alpha: 4.0, seed: 13, ..base.clone() },
            Self { kind: Kind::Dora, rank: 5, float: Float::Bf16, seed: 14, ..base.clone() },
            Self { rank: 1, head: true, modules: vec![Module::Down], seed: 15, ..base.clone() },
            Self {
                rank: 2,
                embed: true,
                float: Float::F16,
                modules: vec![Module::K, Module::O],
                seed: 16,
                ..base
            },
        ]
    }

    /// Writes the adapter for `model` to `folder`.
    pub fn write(&self, model: &Tiny, folder: &Path) {
        fs::create_dir_all(folder).expect("a folder");
        fs::write(folder.join("adapter_config.json"), self.config().to_string())
            .expect("adapter_config.json");
        let tensors = safetensors(&self.tensors(model), self.float);
        fs::write(folder.join("adapter_model.safetensors"), tensors).expect("adapter_model.safetensors");
    }

    fn config(&self) -> serde_json::Value {
        let last = |path: &str| path.rsplit('.').next().expect("a path has a last part").to_owned();
        let mut targets: Vec<String> = self.modules.iter().map(|module| last(module.hf_path())).collect();
        targets.extend(self.head.then(|| "lm_head".to_owned()));
        targets.extend(self.embed.then(|| "embed_tokens".to_owned()));
        json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "tiny",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "target_modules": targets,
            "use_rslora": self.kind == Kind::Rslora,
            "use_dora": self.kind == Kind::Dora,
            "bias": "none",
        })
    }

    fn tensors(&self, model: &Tiny) -> BTreeMap<String, Numbers> {
        let weights = model.tensors();
        let blocks = (0..model.layers as u32)
            .flat_map(|layer| self.modules.iter().map(move |module| Site::Block(layer, *module)));
        let mut all = BTreeMap::new();
        for site in blocks.chain(self.head.then_some(Site::Head)) {
            // A tied model has no head of its own: the embedding is its matrix.
            let weight = weights
                .get(&format!("{}.weight", site.hf_path()))
                .unwrap_or_else(|| &weights["model.embed_tokens.weight"]);
            self.add(site, weight, &mut all);
        }
        if self.embed {
            self.add_embed(model, &mut all);
        }
        all
    }

    fn add(&self, site: Site, weight: &Numbers, all: &mut BTreeMap<String, Numbers>) {
        let (out, columns) = (weight.shape[0], weight.shape[1]);
        let mut put = |name: &str, numbers| {
            all.insert(format!("base_model.model.{}.{name}", site.hf_path()), numbers);
        };
        put("lora_A.weight", self.random(site, "A", [self.rank, columns]));
        put("lora_B.weight", self.random(site, "B", [out, self.rank]));
        if self.kind == Kind::Dora {
            let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let norms: Vec<f32> = weight.values.chunks(columns).map(norm).collect();
            let change = self.random(site, "magnitude", [out, 1]).values;
            let values = norms.iter().zip(change).map(|(norm, change)| norm * (1.0 + 0.2 * change)).collect();
            put("lora_magnitude_vector", Numbers { shape: vec![out], values });
        }
    }

    fn add_embed(&self, model: &Tiny, all: &mut BTreeMap<String, Numbers>) {
        let name = |side| format!("base_model.model.{}.lora_embedding_{side}", Site::Embed.hf_path());
        all.insert(name("A"), self.random(Site::Embed, "A", [self.rank, model.vocab]));
        all.insert(name("B"), self.random(Site::Embed, "B", [model.width, self.rank]));
    }

    /// Numbers that depend on the seed, the site and the matrix only, sized so that B's rows keep a signal's size.
    fn random(&self, site: Site, side: &str, shape: [usize; 2]) -> Numbers {
        let salt = format!("{site} {side}")
            .bytes()
            .fold(self.seed, |sum, byte| sum.wrapping_mul(0x0100_0000_01b3) ^ u64::from(byte));
        let mut rng = ChaCha8Rng::seed_from_u64(salt);
        let size = (3.0 / shape[1] as f32).sqrt();
        let mut value = || size * (rng.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0);
        Numbers { shape: shape.to_vec(), values: (0..shape[0] * shape[1]).map(|_| value()).collect() }
    }
}
