//! Adapters: fine-tunes at their true rank, checked to the last tensor, in one block of memory.
//!
//! The kinds (PEFT LoRA, rsLoRA, DoRA, llama.cpp GGUF, MoS, AdaMix) load through one seam and end up as the same thing:
//! low-rank deltas by site, with an optional row scale (DoRA), and full replacements of embedding and head.

mod block;
mod config;
mod dora;
mod dry_run;
mod fill;
mod generation;
mod json;
mod limits;
mod llama_cpp;
mod load;
mod mos;
mod names;
mod open;
mod pattern;
mod peft;
mod plan;
mod tensors;
mod values;

pub use block::live_bytes;
pub use dry_run::{DryRun, Room, TierBytes, dry_run};
pub use limits::{Limits, OtherBase, Problem};

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::site::{Module, Site};
use block::Block;
use fill::Source;
use limits::Findings;
use load::fill;
use open::{Opened, open};
use plan::{FullPlan, MatrixPlan, SitePlan};
use std::fmt;
use std::path::Path;

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

/// A loaded adapter: one read-only block of memory, given back to the last byte when it is dropped.
#[derive(Debug)]
pub struct Adapter {
    generation: Generation,
    block: Block,
    layers: usize,
    /// Low-rank changes, by [`slot`].
    deltas: Vec<Option<SitePlan>>,
    full: Vec<FullPlan>,
    kind: &'static str,
    rank_max: usize,
    template: Option<String>,
    task: Option<String>,
    base: Option<String>,
    warnings: Vec<String>,
}

impl Adapter {
    /// Loads an adapter: a folder with `adapter_config.json` and `adapter_model.safetensors` (PEFT, MoS, AdaMix), a
    /// folder with one such subfolder, or a llama.cpp GGUF file.
    ///
    /// Every tensor is used or the load fails; what is checked is listed in `docs/adapters.md`.
    ///
    /// # Errors
    /// [`Error::InvalidAdapter`], [`Error::IncompatibleBase`], [`Error::Forbidden`], [`Error::TooLarge`],
    /// [`Error::Corrupt`], [`Error::NotFound`], [`Error::Changed`] or [`Error::Io`].
    pub fn load(path: &Path, base: &dyn BaseWeights, limits: &Limits) -> Result<Self> {
        let model = base.config();
        let mut findings = Findings::new(path);
        let opened = open(path, model, limits, &mut findings);
        let (errors, mut warnings) = findings.into_parts();
        if let Some(first) = errors.into_iter().next() {
            return Err(first);
        }
        let Some(Opened { file, plan, template, task, base: base_name, .. }) = opened else {
            return Err(Error::adapter(path, "folder", "holds nothing to load"));
        };
        let source = Source { file: &file, base, limits, adapter: path };
        let filled = fill(&plan, source, template.as_deref())?;
        warnings.extend(filled.warnings);
        let (kind, rank_max) = (plan.kind, plan.rank_max());
        let mut deltas = vec![None; slot(Site::Head, model.layers) + 1];
        for site in plan.sites {
            let slot = slot(site.site, model.layers);
            deltas[slot] = Some(site);
        }
        Ok(Self {
            generation: filled.generation,
            block: filled.draft.freeze(path)?,
            layers: model.layers,
            deltas,
            full: plan.full,
            kind,
            rank_max,
            template,
            task,
            base: base_name,
            warnings,
        })
    }

    /// Its identity.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The low-rank change at a site.
    pub fn delta(&self, site: Site) -> Option<DeltaView<'_>> {
        let plan = self.deltas.get(slot(site, self.layers))?.as_ref().filter(|plan| plan.site == site)?;
        Some(DeltaView {
            rank: plan.rank,
            scale: plan.scale,
            a: self.view(&plan.a),
            b: self.view(&plan.b),
            row_scale: plan.magnitude.as_ref().map(|(_, at)| self.block.f32s(at)),
            bias: plan.bias.as_ref().map(|(_, at)| self.block.f32s(at)),
        })
    }

    /// The full matrix that replaces the one at `Site::Embed` or `Site::Head`. A delta at the same site adds to it.
    pub fn replaced(&self, site: Site) -> Option<MatrixView<'_>> {
        let own = self.full.iter().find(|full| full.site == site);
        let tied = || self.full.iter().find(|full| full.with_head && site == Site::Head);
        own.or_else(tied).map(|full| self.view(&full.matrix))
    }

    /// Sites with a low-rank change, in the order of [`Site`].
    pub fn sites(&self) -> impl Iterator<Item = Site> + '_ {
        self.deltas.iter().flatten().map(|plan| plan.site)
    }

    /// Bytes of memory that it occupies: one block of whole pages.
    pub fn bytes(&self) -> u64 {
        self.block.len()
    }

    /// Largest rank of any site.
    pub fn rank_max(&self) -> usize {
        self.rank_max
    }

    /// `lora`, `rslora`, `dora`, `gguf`, `mos` or `adamix`.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// The chat template that came with it.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_deref()
    }

    /// `task_type`: `CAUSAL_LM` or `FEATURE_EXTRACTION`, if it says.
    pub fn task(&self) -> Option<&str> {
        self.task.as_deref()
    }

    /// Name of the base that it says it was made for.
    pub fn base_name(&self) -> Option<&str> {
        self.base.as_deref()
    }

    /// What a person should look at.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn view(&self, matrix: &MatrixPlan) -> MatrixView<'_> {
        matrix.view(self.block.bytes(&matrix.at))
    }
}

/// Index of a site in a list by site.
fn slot(site: Site, layers: usize) -> usize {
    match site {
        Site::Block(layer, module) if (layer as usize) < layers => {
            layer as usize * Module::ALL.len() + module.index()
        }
        Site::Block(..) => usize::MAX,
        Site::Embed => layers * Module::ALL.len(),
        Site::Head => layers * Module::ALL.len() + 1,
    }
}

/// Reads the bytes of an `adapter_config.json` and tells the first problem: the entry point for fuzzing.
///
/// # Errors
/// [`Error::InvalidAdapter`] or [`Error::TooLarge`].
pub fn check_config(bytes: &[u8], limits: &Limits) -> Result<()> {
    let mut findings = Findings::new(Path::new(config::FILE));
    config::parse(bytes, limits, &mut findings);
    findings.into_parts().0.into_iter().next().map_or(Ok(()), Err)
}
