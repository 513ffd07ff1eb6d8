//! A Hugging Face folder: its configuration and its safetensors shards, all within the folder.

use crate::error::{Error, Result};
use crate::mapping::{read_in, resolve_in};
use crate::model::{ModelConfig, hf_config};
use crate::safetensors::{Limits, Safetensors};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Bytes of a JSON configuration: arbitrary; real ones have a few thousand.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Bytes of an index of shards: arbitrary; the largest real ones have a few million.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// Files of a model: arbitrary; the largest real ones have 191.
const SHARDS_MAX: usize = 1_024;

/// An opened folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    shards: Vec<Safetensors>,
    config_digest: [u8; 32],
}

/// `model.safetensors.index.json`.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Folder {
    /// Opens a folder and reads its configuration.
    pub(super) fn open(path: &Path) -> Result<(Self, ModelConfig)> {
        let Some(config) = read_in(path, "config.json", CONFIG_BYTES_MAX)? else {
            return Err(Error::NotFound {
                what: path.join("config.json").display().to_string(),
                hint: "give a .gguf file, or the folder of a Hugging Face model".to_owned(),
            });
        };
        let generation = read_in(path, "generation_config.json", CONFIG_BYTES_MAX)?;
        let model = hf_config::read(&path.join("config.json"), &config, generation.as_deref())?;
        let shards = open_shards(path)?;
        let mut hasher = Sha256::new();
        hasher.update(&config);
        hasher.update(generation.unwrap_or_default());
        let folder = Self { path: path.to_owned(), shards, config_digest: hasher.finalize().into() };
        Ok((folder, model))
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its files of weights.
    pub(super) fn shards(&self) -> &[Safetensors] {
        &self.shards
    }

    /// Hashes the configuration and the headers.
    pub(super) fn hash_into(&self, hasher: &mut Sha256) {
        hasher.update(self.config_digest);
        for shard in &self.shards {
            hasher.update(&shard.mapping().bytes()[..shard.header().data_start]);
        }
    }
}

fn open_shards(path: &Path) -> Result<Vec<Safetensors>> {
    let open = |name: &str| Safetensors::open_in(path, name, &Limits::MODEL);
    if exists(path, "model.safetensors")? {
        return Ok(vec![open("model.safetensors")?]);
    }
    let Some(index) = read_in(path, "model.safetensors.index.json", INDEX_BYTES_MAX)? else {
        return Err(without_weights(path));
    };
    let place = path.join("model.safetensors.index.json");
    let index: Index =
        serde_json::from_slice(&index).map_err(|error| Error::corrupt(&place, "JSON", error.to_string()))?;
    let names: BTreeSet<&String> = index.weight_map.values().collect();
    if names.len() > SHARDS_MAX {
        let what = format!("{}: number of files", place.display());
        return Err(Error::TooLarge { what, size: names.len() as u64, limit: SHARDS_MAX as u64 });
    }
    let shards = names.iter().map(|name| open(name)).collect::<Result<Vec<_>>>()?;
    let by_name: BTreeMap<&String, &Safetensors> = names.into_iter().zip(&shards).collect();
    for (tensor, file) in &index.weight_map {
        if by_name[file].tensor(tensor).is_none() {
            return Err(Error::corrupt(&place, tensor.clone(), format!("{file} does not have it")));
        }
    }
    Ok(shards)
}

fn exists(folder: &Path, name: &str) -> Result<bool> {
    match resolve_in(folder, name) {
        Ok(_) => Ok(true),
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn without_weights(path: &Path) -> Error {
    let pickle = ["pytorch_model.bin", "pytorch_model.bin.index.json"].map(|name| path.join(name));
    match pickle.into_iter().find(|file| file.exists()) {
        Some(path) => Error::Forbidden {
            path,
            problem: "it is a Python pickle and is not opened; convert it to safetensors".to_owned(),
        },
        None => Error::NotFound {
            what: path.join("model.safetensors").display().to_string(),
            hint: "a model's folder holds it, or model.safetensors.index.json and the files it lists"
                .to_owned(),
        },
    }
}
