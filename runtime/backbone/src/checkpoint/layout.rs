//! Which tensors a model has, under which names and in which shapes, and where they are in the files.

use super::folder::Folder;
use super::{Entry, Part, Weight};
use crate::error::{Error, Result};
use crate::gguf::{Header, Kind};
use crate::model::{Family, ModelConfig};
use crate::site::{Module, Site};
use candle_core::quantized::GgmlDType;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Tensors named in a message before it says how many more there are.
const NAMES_SHOWN: usize = 5;

/// A tensor that a model may have.
struct Expected {
    weight: Weight,
    /// One entry for a vector.
    shape: Vec<usize>,
    required: bool,
}

/// Finds every tensor of a GGUF model.
pub(super) fn gguf_entries(
    path: &Path,
    config: &ModelConfig,
    header: &Header,
) -> Result<BTreeMap<Weight, Entry>> {
    let mut left: BTreeSet<&str> = header.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    left.remove("rope_freqs.weight");
    let mut entries = BTreeMap::new();
    for expected in expected(config) {
        let name = gguf_name(expected.weight);
        let Some(tensor) = header.tensor(&name) else {
            expected.refuse_missing(path, &name)?;
            continue;
        };
        let shape: Vec<usize> = tensor.dims.iter().rev().copied().collect();
        let (rows, columns) = expected.check(path, &name, &shape)?;
        left.remove(name.as_str());
        let (dtype, range) = (readable(path, &name, tensor.kind)?, tensor.range.clone());
        entries.insert(expected.weight, Entry { name, dtype, rows, columns, shard: 0, range });
    }
    refuse_left(path, config, &left)?;
    Ok(entries)
}

/// The candle type of a GGUF tensor.
pub(super) fn readable(path: &Path, name: &str, kind: &Kind) -> Result<GgmlDType> {
    kind.dtype.ok_or_else(|| Error::Unsupported {
        path: path.to_owned(),
        what: format!(
            "tensor {name} is {}, which this build does not read; take another quantisation",
            kind.name
        ),
    })
}

/// Finds every tensor of a Hugging Face folder.
pub(super) fn folder_entries(config: &ModelConfig, folder: &Folder) -> Result<BTreeMap<Weight, Entry>> {
    let mut tensors = BTreeMap::new();
    for (index, shard) in folder.shards().iter().enumerate() {
        for (name, tensor) in shard.tensors() {
            if tensors.insert(canonical(name), (index, name, tensor)).is_some() {
                let problem = "another tensor or file of the model has it too";
                return Err(Error::corrupt(shard.mapping().path(), name.clone(), problem));
            }
        }
    }
    let mut entries = BTreeMap::new();
    for expected in expected(config) {
        let canonical = hf_name(expected.weight, config.family);
        let Some((index, name, tensor)) = tensors.remove(&canonical) else {
            expected.refuse_missing(folder.path(), &canonical)?;
            continue;
        };
        let shard = &folder.shards()[index];
        let (rows, columns) = expected.check(shard.mapping().path(), name, &tensor.shape)?;
        let (dtype, range) = (shard.dtype(name, tensor)?, tensor.range.clone());
        entries
            .insert(expected.weight, Entry { name: name.clone(), dtype, rows, columns, shard: index, range });
    }
    let left =
        tensors.iter().filter(|(name, _)| !harmless(name, config)).map(|(_, (_, name, _))| name.as_str());
    refuse_left(folder.path(), config, &left.collect())?;
    Ok(entries)
}

impl Expected {
    fn refuse_missing(&self, path: &Path, name: &str) -> Result<()> {
        if self.required {
            let problem =
                format!("the tensor {:?} is missing; the file is incomplete or another model's", self.shape);
            return Err(Error::corrupt(path, name, problem));
        }
        Ok(())
    }

    /// Rows and columns of a tensor that has the expected shape.
    fn check(&self, path: &Path, name: &str, shape: &[usize]) -> Result<(usize, usize)> {
        if shape != self.shape {
            let problem =
                format!("shape {shape:?}, expected {:?} from the model's configuration", self.shape);
            return Err(Error::corrupt(path, name, problem));
        }
        let columns = shape.last().copied().unwrap_or(1);
        Ok((shape.iter().rev().skip(1).product(), columns))
    }
}

fn expected(config: &ModelConfig) -> Vec<Expected> {
    let matrix = |weight, site| {
        let (rows, columns) = config.shape(site);
        Expected { weight, shape: vec![rows, columns], required: true }
    };
    let vector = |weight, length, required| Expected { weight, shape: vec![length], required };
    let mut all = vec![matrix(Weight::Embed, Site::Embed), vector(Weight::FinalNorm, config.width, true)];
    if !config.tied {
        all.push(matrix(Weight::Head, Site::Head));
    }
    let gemma = config.family == Family::Gemma3;
    let head_norms = gemma || config.family == Family::Qwen3;
    for layer in 0..config.layers as u32 {
        let part = |part| Weight::Block(layer, part);
        for module in Module::ALL {
            let site = Site::Block(layer, module);
            let biased =
                config.family == Family::Qwen2 && matches!(module, Module::Q | Module::K | Module::V);
            all.push(matrix(part(Part::Linear(module)), site));
            all.push(vector(part(Part::Bias(module)), config.shape(site).0, biased));
        }
        all.push(vector(part(Part::AttnNorm), config.width, true));
        all.push(vector(part(Part::FfnNorm), config.width, true));
        if gemma {
            all.push(vector(part(Part::PostAttnNorm), config.width, true));
            all.push(vector(part(Part::PostFfnNorm), config.width, true));
        }
        if head_norms {
            all.push(vector(part(Part::QNorm), config.head_dim, true));
            all.push(vector(part(Part::KNorm), config.head_dim, true));
        }
    }
    all
}

fn gguf_name(weight: Weight) -> String {
    let (layer, part) = match weight {
        Weight::Embed => return "token_embd.weight".to_owned(),
        Weight::FinalNorm => return "output_norm.weight".to_owned(),
        Weight::Head => return "output.weight".to_owned(),
        Weight::Block(layer, part) => (layer, part),
    };
    let (name, end) = match part {
        Part::Linear(module) => (module.gguf_name(), "weight"),
        Part::Bias(module) => (module.gguf_name(), "bias"),
        Part::AttnNorm => ("attn_norm", "weight"),
        Part::FfnNorm => ("ffn_norm", "weight"),
        Part::PostAttnNorm => ("post_attention_norm", "weight"),
        Part::PostFfnNorm => ("post_ffw_norm", "weight"),
        Part::QNorm => ("attn_q_norm", "weight"),
        Part::KNorm => ("attn_k_norm", "weight"),
    };
    format!("blk.{layer}.{name}.{end}")
}

fn hf_name(weight: Weight, family: Family) -> String {
    let (layer, part) = match weight {
        Weight::Embed => return "model.embed_tokens.weight".to_owned(),
        Weight::FinalNorm => return "model.norm.weight".to_owned(),
        Weight::Head => return "lm_head.weight".to_owned(),
        Weight::Block(layer, part) => (layer, part),
    };
    let (name, end) = match part {
        Part::Linear(module) => (module.hf_path(), "weight"),
        Part::Bias(module) => (module.hf_path(), "bias"),
        Part::AttnNorm => ("input_layernorm", "weight"),
        // Gemma's sandwich gives the name of the other families' second norm to the norm behind attention.
        Part::FfnNorm if family == Family::Gemma3 => ("pre_feedforward_layernorm", "weight"),
        Part::FfnNorm | Part::PostAttnNorm => ("post_attention_layernorm", "weight"),
        Part::PostFfnNorm => ("post_feedforward_layernorm", "weight"),
        Part::QNorm => ("self_attn.q_norm", "weight"),
        Part::KNorm => ("self_attn.k_norm", "weight"),
    };
    format!("model.layers.{layer}.{name}.{end}")
}

/// A tensor's name without the prefixes that multimodal Gemma 3 files put before the text part.
fn canonical(name: &str) -> String {
    if let Some(rest) = name.strip_prefix("language_model.") {
        rest.to_owned()
    } else if let Some(rest) = name.strip_prefix("model.language_model.") {
        format!("model.{rest}")
    } else {
        name.to_owned()
    }
}

/// Whether a tensor that was not taken changes nothing: tables that are computed anew, parts beside the text model, and
/// the saved copy of a tied head.
fn harmless(name: &str, config: &ModelConfig) -> bool {
    let vision =
        ["vision_tower.", "model.vision_tower.", "multi_modal_projector.", "model.multi_modal_projector."];
    name.ends_with("rotary_emb.inv_freq")
        || (config.family == Family::Gemma3 && vision.iter().any(|prefix| name.starts_with(prefix)))
        || (config.tied && name == "lm_head.weight")
}

fn refuse_left(path: &Path, config: &ModelConfig, left: &BTreeSet<&str>) -> Result<()> {
    if left.is_empty() {
        return Ok(());
    }
    let mut names = left.iter().take(NAMES_SHOWN).copied().collect::<Vec<_>>().join(", ");
    if left.len() > NAMES_SHOWN {
        names = format!("{names} and {} more", left.len() - NAMES_SHOWN);
    }
    let what = format!("tensors that no {:?} model of {} layers uses: {names}", config.family, config.layers);
    Err(Error::Unsupported { path: path.to_owned(), what })
}
