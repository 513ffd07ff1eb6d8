//! Adapters to measure with: random weights of the shapes that real ones have, as PEFT folders.

use anyhow::{Context, Result};
use coldframe_backbone::model::ModelConfig;
use coldframe_backbone::{Module, Site};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Shapes taken in turn: those of the three adapters in `functions/adapters`.
const SHAPES: [(usize, &[Module]); 3] =
    [(8, &[Module::Q, Module::V]), (8, &Module::ALL), (16, &[Module::Q, Module::K, Module::V, Module::O])];

/// What [`write_all`] made, in words.
pub const MADE: &str = "rank 8 on q,v; rank 8 on all linear layers; rank 16 on q,k,v,o; in turn, f16, seeded";

/// Writes `count` different adapters into `folder`.
pub fn write_all(config: &ModelConfig, folder: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let made = (0..count).map(|index| {
        let path = folder.join(format!("adapter-{index:02}"));
        let (rank, modules) = SHAPES[index % SHAPES.len()];
        write(config, &path, rank, modules, index as u64)?;
        Ok(path)
    });
    made.collect()
}

/// Writes an adapter of a rank on some modules, its weights drawn from `seed`.
pub fn write(config: &ModelConfig, folder: &Path, rank: usize, modules: &[Module], seed: u64) -> Result<()> {
    let written = write_files(config, folder, rank, modules, seed);
    written.with_context(|| format!("cannot write {}", folder.display()))
}

fn write_files(
    config: &ModelConfig,
    folder: &Path,
    rank: usize,
    modules: &[Module],
    seed: u64,
) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let names: Vec<_> = modules.iter().filter_map(|module| module.hf_path().rsplit('.').next()).collect();
    let settings = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "target_modules": names,
    });
    std::fs::write(folder.join("adapter_config.json"), settings.to_string())?;
    std::fs::write(folder.join("adapter_model.safetensors"), tensors(config, rank, modules, seed))
}

/// A safetensors file of all matrices.
fn tensors(config: &ModelConfig, rank: usize, modules: &[Module], seed: u64) -> Vec<u8> {
    let (mut header, mut data, mut random) = (Map::new(), Vec::new(), Random(seed + 1));
    for layer in 0..config.layers as u32 {
        for module in modules {
            let site = Site::Block(layer, *module);
            let (out, inner) = config.shape(site);
            for (name, rows, columns) in [("lora_A", rank, inner), ("lora_B", out, rank)] {
                let start = data.len();
                // Small enough that sixteen of them leave the model's numbers in range.
                (0..rows * columns).for_each(|_| data.extend(random.half().to_le_bytes()));
                let name = format!("base_model.model.{}.{name}.weight", site.hf_path());
                let entry = json!({
                    "dtype": "F16", "shape": [rows, columns], "data_offsets": [start, data.len()],
                });
                header.insert(name, entry);
            }
        }
    }
    let header = Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// The bits of an f16 of either sign between 2^-7 and 2^-6.
    fn half(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let x = (x ^ (x >> 31)) as u16;
        // Sign and mantissa are random; the exponent, biased by 15, is -7.
        (x & 0x83FF) | (8 << 10)
    }
}
