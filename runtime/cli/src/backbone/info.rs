//! What a model is, read from its own files; nothing is converted and no tensor is looked at.

use super::{columns, size};
use anyhow::Result;
use coldframe_backbone::checkpoint::{Checkpoint, TextSource};
use coldframe_backbone::pack::Pack;
use coldframe_backbone::store::Manifest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Tensors of one type.
#[derive(Serialize, Default)]
struct Kind {
    tensors: u64,
    parameters: u64,
    bytes: u64,
}

/// A model, looked into.
#[derive(Serialize)]
pub struct Info {
    path: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Manifest>,
    name: String,
    family: String,
    parameters: u64,
    layers: usize,
    width: usize,
    ffn: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocab: usize,
    context: usize,
    tied: bool,
    kv_bytes_per_token_f16: u64,
    types: BTreeMap<String, Kind>,
    mapped_bytes: u64,
    pack: PathBuf,
    pack_made: bool,
    tokenizer: String,
    chat_template: bool,
    licence: Option<String>,
}

impl Info {
    /// Opens a model and reads its header.
    pub fn read(path: &Path, manifest: Option<Manifest>, packs: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let pack = Pack::path_for(&checkpoint, packs);
        let config = checkpoint.config();
        let types = types(&checkpoint)?;
        let (tokenizer, chat_template, licence) = text(&checkpoint);
        let kept = manifest.as_ref().and_then(|manifest| manifest.licence.clone());
        Ok(Self {
            path: path.to_owned(),
            name: config.name.clone(),
            family: format!("{:?}", config.family).to_lowercase(),
            parameters: types.values().map(|kind| kind.parameters).sum(),
            layers: config.layers,
            width: config.width,
            ffn: config.ffn,
            heads: config.heads,
            kv_heads: config.kv_heads,
            head_dim: config.head_dim,
            vocab: config.vocab,
            context: config.context,
            tied: config.tied,
            kv_bytes_per_token_f16: (2 * 2 * config.layers * config.kv_heads * config.head_dim) as u64,
            types,
            mapped_bytes: checkpoint.mappings().map(|mapping| mapping.bytes().len() as u64).sum(),
            pack_made: pack.is_file(),
            pack,
            tokenizer,
            chat_template,
            licence: kept.or(licence),
            manifest,
        })
    }

    /// For people.
    pub fn table(&self) -> String {
        let heads = format!("{} query, {} key and value, {} wide", self.heads, self.kv_heads, self.head_dim);
        let types: Vec<String> = self
            .types
            .iter()
            .map(|(name, kind)| format!("{name}: {} tensors, {}", kind.tensors, size(kind.bytes)))
            .collect();
        let template = if self.chat_template { "in the model" } else { "none: prompts are used as they are" };
        let head = if self.tied { "the embedding (tied)" } else { "its own" };
        let mut rows = vec![
            ("name", self.name.clone()),
            ("family", self.family.clone()),
            ("parameters", format!("{:.1} M", self.parameters as f64 / 1e6)),
            ("layers", format!("{}, width {}, feed-forward {}", self.layers, self.width, self.ffn)),
            ("heads", heads),
            ("vocabulary", format!("{} tokens; head is {head}", self.vocab)),
            (
                "context",
                format!("{} tokens; {} of f16 KV a token", self.context, size(self.kv_bytes_per_token_f16)),
            ),
            ("types", types.join("; ")),
            (
                "would map",
                format!("{} bytes ({}), shared and read-only", self.mapped_bytes, size(self.mapped_bytes)),
            ),
            (
                "pack",
                format!(
                    "{}: {}",
                    if self.pack_made { "made" } else { "made at first use" },
                    self.pack.display()
                ),
            ),
            ("tokenizer", self.tokenizer.clone()),
            ("chat template", template.into()),
            ("licence", self.licence.clone().unwrap_or_else(|| "not named".into())),
        ];
        if let Some(manifest) = &self.manifest {
            rows.push(("source", manifest.source.clone()));
            rows.push(("pulled", manifest.pulled.clone()));
        }
        rows.push(("path", self.path.display().to_string()));
        columns(&rows.into_iter().map(|(key, value)| [key.to_owned(), value]).collect::<Vec<_>>())
    }
}

fn types(checkpoint: &Checkpoint) -> Result<BTreeMap<String, Kind>> {
    let mut types: BTreeMap<String, Kind> = BTreeMap::new();
    for weight in checkpoint.weights() {
        let Some(view) = checkpoint.weight(weight)? else { continue };
        let kind = types.entry(format!("{:?}", view.dtype)).or_default();
        kind.tensors += 1;
        kind.parameters += (view.rows * view.columns) as u64;
        kind.bytes += view.bytes.len() as u64;
    }
    Ok(types)
}

/// Tokenizer, whether there is a chat template, licence.
fn text(checkpoint: &Checkpoint) -> (String, bool, Option<String>) {
    match checkpoint.text() {
        TextSource::Gguf(gguf) => {
            let text = |key: &str| gguf.text(key).map(str::to_owned);
            let model = text("tokenizer.ggml.model").unwrap_or_else(|| "none in the file".into());
            let pre = text("tokenizer.ggml.pre").map(|pre| format!(", split as {pre}")).unwrap_or_default();
            let template = gguf.text("tokenizer.chat_template").is_some();
            (format!("{model}{pre} (in the file)"), template, text("general.license"))
        }
        TextSource::Folder(folder) => {
            let there = |name: &str| folder.join(name).is_file();
            let tokenizer = if there("tokenizer.json") { "tokenizer.json" } else { "none in the folder" };
            let config = std::fs::read_to_string(folder.join("tokenizer_config.json")).unwrap_or_default();
            let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
            let template = there("chat_template.jinja") || !config["chat_template"].is_null();
            (tokenizer.into(), template, None)
        }
    }
}
