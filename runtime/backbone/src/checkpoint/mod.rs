//! A model's files, opened and checked: GGUF or Hugging Face safetensors behind one face.
//!
//! Opening validates everything before a byte of a tensor is looked at (sizes, offsets, overlaps, alignment, types,
//! shapes against the config). It converts nothing: that is the pack's work.

mod dequantise;
mod folder;
mod layout;

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::mapping::{Mapping, hex};
use crate::model::{Family, ModelConfig, RopeScaling, gguf_config};
use crate::safetensors::refuse_foreign;
use crate::site::Module;
use candle_core::quantized::GgmlDType;
use folder::Folder;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// A tensor of the model, by what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Token embedding `[vocab, width]`.
    Embed,
    /// Norm before the head `[width]`.
    FinalNorm,
    /// Head `[vocab, width]`; absent when tied.
    Head,
    /// A tensor of block `.0`.
    Block(u32, Part),
}

/// A tensor of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// A linear layer's matrix `[out, in]`.
    Linear(Module),
    /// A linear layer's bias `[out]`.
    Bias(Module),
    /// Norm before attention `[width]`.
    AttnNorm,
    /// Norm before the feed-forward `[width]`.
    FfnNorm,
    /// Norm of the attention's output (Gemma 3) `[width]`.
    PostAttnNorm,
    /// Norm of the feed-forward's output (Gemma 3) `[width]`.
    PostFfnNorm,
    /// Norm of each query head `[head_dim]`.
    QNorm,
    /// Norm of each key head `[head_dim]`.
    KNorm,
}

/// A tensor in a mapped file: borrowed bytes in the file's own type.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// Its name in the file.
    pub name: &'a str,
    /// Its element or block type; Hugging Face's F32, F16 and BF16 use the same names.
    pub dtype: GgmlDType,
    /// Rows (1 for a vector).
    pub rows: usize,
    /// Columns, the contiguous dimension; a multiple of the type's block.
    pub columns: usize,
    /// The bytes, as they lie in the file: aligned to 8 in GGUF, to nothing in safetensors.
    pub bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.columns / self.dtype.block_size() * self.dtype.type_size()
    }

    /// The bytes of rows `rows`.
    ///
    /// # Panics
    /// Where the rows are not in the tensor.
    pub fn rows_bytes(&self, rows: Range<usize>) -> &'a [u8] {
        &self.bytes[rows.start * self.row_bytes()..rows.end * self.row_bytes()]
    }

    /// Writes rows `rows` as f32 to `out`, which holds as many rows of [`TensorView::columns`] values.
    ///
    /// # Panics
    /// Where the rows are not in the tensor or `out` has another length.
    pub fn dequantise(&self, rows: Range<usize>, out: &mut [f32]) {
        assert_eq!(out.len(), rows.len() * self.columns, "room for the rows of {}", self.name);
        dequantise::dequantise(self.dtype, self.rows_bytes(rows), out);
    }
}

/// Where a model's tokenizer and chat template come from.
#[derive(Debug, Clone, Copy)]
pub enum TextSource<'a> {
    /// The metadata of a GGUF file.
    Gguf(&'a Gguf),
    /// A Hugging Face folder: `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`, `generation_config.json`.
    Folder(&'a Path),
}

/// An opened, validated model.
#[derive(Debug)]
pub struct Checkpoint {
    config: ModelConfig,
    source: Source,
    entries: BTreeMap<Weight, Entry>,
}

/// The files behind a model.
#[derive(Debug)]
enum Source {
    Gguf(Gguf),
    Folder(Folder),
}

/// Where a tensor lies.
#[derive(Debug)]
struct Entry {
    name: String,
    dtype: GgmlDType,
    rows: usize,
    columns: usize,
    shard: usize,
    range: Range<usize>,
}

impl Checkpoint {
    /// Opens a `.gguf` file, or a folder with `config.json` and `model.safetensors` (or its index and shards).
    ///
    /// Every tensor of the config must be there in its shape and in a type that can be read, and no tensor may be left
    /// over that would change what the model computes.
    ///
    /// # Errors
    /// [`Error::Corrupt`], [`Error::Unsupported`], [`Error::TooLarge`], [`Error::Forbidden`], [`Error::NotFound`],
    /// [`Error::Io`], each with the place.
    pub fn open(path: &Path) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(Error::io(path))?;
        if metadata.is_dir() {
            return Self::from_folder(path);
        }
        let mapping = Mapping::open_resolved(path)?;
        if mapping.bytes().starts_with(b"GGUF") {
            return Self::from_gguf(Gguf::from_mapping(mapping)?);
        }
        refuse_foreign(path, mapping.bytes())?;
        let what = "it is no GGUF file; for safetensors give the folder that holds config.json".to_owned();
        Err(Error::Unsupported { path: path.to_owned(), what })
    }

    fn from_gguf(gguf: Gguf) -> Result<Self> {
        let path = gguf.mapping().path();
        if let Some(kind) = gguf.text("general.type").filter(|&kind| kind != "model") {
            let what = format!("general.type is {kind:?}; a backbone is a model");
            return Err(Error::Unsupported { path: path.to_owned(), what });
        }
        let config = gguf_config::read(path, gguf.header())?;
        let entries = layout::gguf_entries(path, &config, gguf.header())?;
        let mut checkpoint = Self { config, source: Source::Gguf(gguf), entries };
        checkpoint.read_rope_factors()?;
        Ok(checkpoint)
    }

    fn from_folder(path: &Path) -> Result<Self> {
        let (folder, config) = Folder::open(path)?;
        let entries = layout::folder_entries(&config, &folder)?;
        Ok(Self { config, source: Source::Folder(folder), entries })
    }

    /// Fills the frequencies' divisors, whose place and shape the config's reader has checked.
    fn read_rope_factors(&mut self) -> Result<()> {
        let Source::Gguf(gguf) = &self.source else { return Ok(()) };
        let (RopeScaling::Factors(factors), Some(tensor)) =
            (&mut self.config.rope.scaling, gguf.tensor("rope_freqs.weight"))
        else {
            return Ok(());
        };
        let path = gguf.mapping().path();
        let dtype = layout::readable(path, &tensor.name, tensor.kind)?;
        factors.resize(tensor.columns(), 0.0);
        dequantise::dequantise(dtype, gguf.bytes(tensor), factors);
        self.config.check(path)
    }

    /// The model's sizes and constants.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// A tensor, or `None` where this model has none.
    ///
    /// # Errors
    /// None after a successful open; kept fallible for fenced files.
    pub fn weight(&self, weight: Weight) -> Result<Option<TensorView<'_>>> {
        Ok(self.entries.get(&weight).map(|entry| TensorView {
            name: &entry.name,
            dtype: entry.dtype,
            rows: entry.rows,
            columns: entry.columns,
            bytes: &self.shard(entry.shard).bytes()[entry.range.clone()],
        }))
    }

    /// All tensors that the model has, in a fixed order.
    pub fn weights(&self) -> impl Iterator<Item = Weight> {
        self.entries.keys().copied()
    }

    /// Writes rows of a tensor as f32 to `out`.
    ///
    /// # Panics
    /// As [`TensorView::dequantise`].
    pub fn dequantise(&self, view: &TensorView<'_>, rows: Range<usize>, out: &mut [f32]) {
        view.dequantise(rows, out);
    }

    /// Whether the rows of q and k are in llama.cpp's interleaved order: a Hugging Face row `h*d + j*d/2 + i` is GGUF row
    /// `h*d + 2*i + j` (`LlamaModel.permute` in llama.cpp's converter, for this one architecture).
    pub fn rows_interleaved(&self) -> bool {
        let llama = matches!(self.config.family, Family::Llama | Family::Mistral);
        llama && matches!(self.source, Source::Gguf(_))
    }

    /// What to add to norm weights: 1 where they are stored minus one (Gemma in safetensors), else 0.
    pub fn norm_offset(&self) -> f32 {
        match (&self.source, self.config.family) {
            (Source::Folder(_), Family::Gemma3) => 1.0,
            _ => 0.0,
        }
    }

    /// Where the tokenizer and the chat template are.
    pub fn text(&self) -> TextSource<'_> {
        match &self.source {
            Source::Gguf(gguf) => TextSource::Gguf(gguf),
            Source::Folder(folder) => TextSource::Folder(folder.path()),
        }
    }

    /// The mapped files that hold the weights.
    pub fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        let (gguf, shards) = match &self.source {
            Source::Gguf(gguf) => (Some(gguf.mapping()), [].as_slice()),
            Source::Folder(folder) => (None, folder.shards()),
        };
        gguf.into_iter().chain(shards.iter().map(|shard| shard.mapping()))
    }

    /// A cheap name for these very files, lower-case hex: their sizes, inodes, times, and a digest of their headers and
    /// configuration. Another copy of the same model has another identity; [`Checkpoint::sha256`] is the same for both.
    pub fn identity(&self) -> String {
        let mut hasher = Sha256::new();
        for mapping in self.mappings() {
            let identity = mapping.identity();
            hasher.update(identity.size.to_le_bytes());
            hasher.update(identity.inode.to_le_bytes());
            hasher.update(identity.modified_ns.to_le_bytes());
        }
        match &self.source {
            Source::Gguf(gguf) => hasher.update(&gguf.mapping().bytes()[..gguf.header().data_start]),
            Source::Folder(folder) => folder.hash_into(&mut hasher),
        }
        hex(&hasher.finalize())
    }

    /// SHA-256 of the weights' file, lower-case hex; of several files, the digest of their digests in order. Reads every
    /// byte.
    ///
    /// # Errors
    /// As [`Mapping::sha256`].
    pub fn sha256(&self) -> Result<String> {
        let digests = self.mappings().map(Mapping::sha256).collect::<Result<Vec<_>>>()?;
        match &digests[..] {
            [one] => Ok(one.clone()),
            many => Ok(hex(&Sha256::digest(many.concat()))),
        }
    }

    /// Checks that all files are still what was mapped.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn fence(&self) -> Result<()> {
        self.mappings().try_for_each(Mapping::fence)
    }

    fn shard(&self, index: usize) -> &Mapping {
        match &self.source {
            Source::Gguf(gguf) => gguf.mapping(),
            Source::Folder(folder) => folder.shards()[index].mapping(),
        }
    }
}
