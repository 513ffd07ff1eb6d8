//! Adapters: fine-tunes at their true rank, checked to the last tensor, in one block of memory.
//!
//! The kinds (PEFT LoRA, rsLoRA, DoRA, llama.cpp GGUF, MoS, AdaMix) load through one seam and end up as the same thing:
//! low-rank deltas by site, with an optional row scale (DoRA), and full replacements of embedding and head.

use crate::model::ModelConfig;
use crate::site::Site;
use std::fmt;

/// SHA-256 over the canonical form of what an adapter computes: its identity, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub [u8; 32]);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The base model, as an adapter's loader needs it: shapes, and dequantised rows for DoRA's norms.
pub trait BaseWeights: Sync {
    /// The model.
    fn config(&self) -> &ModelConfig;

    /// Writes row `row` of the matrix at `site`, dequantised and in Hugging Face order, to `out` (`in` values).
    fn row(&self, site: Site, row: usize, out: &mut [f32]);
}

/// Element type of an adapter's matrices: kept as the file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dtype {
    /// 4 bytes.
    F32,
    /// IEEE half, 2 bytes.
    F16,
    /// bfloat16, 2 bytes.
    Bf16,
}

/// A row-major matrix in an adapter's memory, aligned to 64 bytes.
#[derive(Debug, Clone, Copy)]
pub struct MatrixView<'a> {
    /// Element type.
    pub dtype: Dtype,
    /// Rows.
    pub rows: usize,
    /// Columns; a row's elements are contiguous, rows follow each other without padding.
    pub columns: usize,
    /// The elements.
    pub bytes: &'a [u8],
}

/// A low-rank change of the matrix at a site: `y = row_scale * (W x + scale * B (A x)) + bias`.
#[derive(Debug, Clone, Copy)]
pub struct DeltaView<'a> {
    /// Rank; may differ from site to site.
    pub rank: usize,
    /// alpha / r, or alpha / sqrt(r).
    pub scale: f32,
    /// A, `[rank, in]`. For `Site::Embed` it is stored transposed, `[vocab, rank]`, so that a token's row is contiguous.
    pub a: MatrixView<'a>,
    /// B transposed, `[rank, out]`, so that the outputs of one rank are contiguous.
    pub b: MatrixView<'a>,
    /// DoRA's m / n for each output, `[out]`.
    pub row_scale: Option<&'a [f32]>,
    /// Bias of B (`lora_bias`), already scaled, `[out]`.
    pub bias: Option<&'a [f32]>,
}

/// A loaded adapter. Contract: `Adapter::load(path, base, limits)`, `generation()`, `delta(site)`,
/// `replaced(site)` (full `[vocab, width]` matrix of `Site::Embed` or `Site::Head` from `modules_to_save`),
/// `bytes()` (what it occupies, to the byte), `rank_max()`, `chat_template()`.
#[derive(Debug)]
pub struct Adapter {
    generation: Generation,
}

impl Adapter {
    /// Its identity.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The low-rank change at a site.
    pub fn delta(&self, site: Site) -> Option<DeltaView<'_>> {
        let _ = site;
        None
    }

    /// The full matrix that replaces the one at `Site::Embed` or `Site::Head`.
    pub fn replaced(&self, site: Site) -> Option<MatrixView<'_>> {
        let _ = site;
        None
    }
}
