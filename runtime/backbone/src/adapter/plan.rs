//! What an adapter becomes in memory, worked out from names and shapes alone.
//!
//! A plan lists every matrix with its place in the block and where its numbers come from; the dry run stops here, the
//! loader carries it out. The kinds differ in how they make a plan ([`super::peft`], [`super::llama_cpp`],
//! [`super::mos`]) and in nothing after it.

use super::Dtype;
use super::block::Layout;
use super::limits::{Findings, Limits};
use super::tensors::{Element, Tensor};
use crate::error::Error;
use crate::model::ModelConfig;
use crate::site::Site;
use std::ops::Range;

/// How a matrix in memory is made from tensors of the file (indices into its list).
#[derive(Debug, Clone)]
pub(crate) enum Fill {
    /// As it lies.
    Rows(usize),
    /// Transposed; with a head's width where the file's rows are in llama.cpp's interleaved order.
    Columns { tensor: usize, interleaved: Option<usize> },
    /// Each row is a concatenation of a pool's rows (MoS).
    Shards { pool: usize, index: usize },
    /// The mean of several tensors (AdaMix), as f32.
    Mean { tensors: Vec<usize>, transposed: bool },
}

/// A matrix to be.
#[derive(Debug, Clone)]
pub(crate) struct MatrixPlan {
    pub dtype: Dtype,
    pub rows: usize,
    pub columns: usize,
    pub at: Range<usize>,
    pub fill: Fill,
}

/// A low-rank change to be.
#[derive(Debug, Clone)]
pub(crate) struct SitePlan {
    pub site: Site,
    pub rank: usize,
    pub scale: f32,
    pub a: MatrixPlan,
    pub b: MatrixPlan,
    /// DoRA: the magnitude's tensor and the place of the row scale.
    pub magnitude: Option<(usize, Range<usize>)>,
    /// The bias' tensor and its place.
    pub bias: Option<(usize, Range<usize>)>,
}

/// A replacement to be.
#[derive(Debug, Clone)]
pub(crate) struct FullPlan {
    pub site: Site,
    pub matrix: MatrixPlan,
    /// Whether a tied head changes with the embedding: so where the base's own weight was trained or resized, not where
    /// `modules_to_save` gave the embedding a copy.
    pub with_head: bool,
}

/// An adapter to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// `lora`, `rslora`, `dora`, `gguf`, `mos` or `adamix`.
    pub kind: &'static str,
    pub sites: Vec<SitePlan>,
    pub full: Vec<FullPlan>,
    pub layout: Layout,
}

impl Plan {
    /// Largest rank.
    pub fn rank_max(&self) -> usize {
        self.sites.iter().map(|site| site.rank).max().unwrap_or(0)
    }

    /// Places a matrix of `rows` x `columns`.
    pub fn matrix(&mut self, dtype: Dtype, (rows, columns): (usize, usize), fill: Fill) -> MatrixPlan {
        let at = self.layout.place(rows * columns * dtype.bytes());
        MatrixPlan { dtype, rows, columns, at, fill }
    }

    /// Places `count` f32.
    pub fn vector(&mut self, count: usize) -> Range<usize> {
        self.layout.place(count * size_of::<f32>())
    }

    /// Whole-plan checks: something is there, and it is not too much.
    pub fn check(&self, limits: &Limits, findings: &mut Findings) {
        if findings.clean() && self.sites.is_empty() && self.full.is_empty() {
            findings.invalid("tensors", "the adapter changes nothing: no tensor is for this backbone");
        }
        let size = self.layout.bytes() as u64;
        if size > limits.memory_bytes_max {
            let what = format!("adapter {}: memory", findings.path().display());
            findings.push(Error::TooLarge { what, size, limit: limits.memory_bytes_max });
        }
    }
}

/// Rows and columns of A and B as [`super::DeltaView`] stores them: `A [rank, in]`, `B^T [rank, out]`, for the embedding
/// `A^T [vocab, rank]`, `B^T [rank, width]`.
pub(crate) fn stored_shapes(
    model: &ModelConfig,
    site: Site,
    rank: usize,
) -> ((usize, usize), (usize, usize)) {
    let (out, input) = model.shape(site);
    match site {
        Site::Embed => ((out, rank), (rank, input)),
        _ => ((rank, input), (rank, out)),
    }
}

/// Numbers that come out of a site: the embedding gives a row of its matrix, all others one per row.
pub(crate) fn outputs(model: &ModelConfig, site: Site) -> usize {
    let (out, input) = model.shape(site);
    if site == Site::Embed { input } else { out }
}

/// The type of a weight tensor, or a finding.
pub(crate) fn weight(tensor: &Tensor, findings: &mut Findings) -> Option<Dtype> {
    let problem = match tensor.element {
        Element::Weight(dtype) => return Some(dtype),
        Element::I32 | Element::I64 => "has integers; expected F32, F16 or BF16".to_owned(),
        Element::Other(name) => format!("is {name}; convert it to F32, F16 or BF16"),
    };
    findings.invalid(super::config::name(&tensor.name), problem);
    None
}

/// Checks a rank of a tensor, which no configuration vouches for.
pub(crate) fn rank_in_bounds(rank: usize, place: &str, limits: &Limits, findings: &mut Findings) -> bool {
    if rank == 0 {
        findings.invalid(place, "rank is 0, expected 1 or more");
    } else if rank > limits.rank_max {
        let what = format!("adapter {}: {place}: rank", findings.path().display());
        findings.push(Error::TooLarge { what, size: rank as u64, limit: limits.rank_max as u64 });
    }
    (1..=limits.rank_max).contains(&rank)
}

/// Names some of a list, so that a message stays short.
pub(crate) fn some_of(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(5).map(|name| super::config::name(name)).collect();
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more ({} in all)", shown.join(", "), names.len()),
    }
}
