//! Weights in the layout the kernels want: panels of 16 output rows, quantised formats losslessly re-laid.
//!
//! A pack is a file made once for each (model, layout, CPU features), mapped shared and read-only, so that every process
//! that serves the model reads the same physical pages. Rows of q and k are always in Hugging Face order here.

pub mod blocks;
mod format;
pub mod panels;

pub use format::{Format, PANEL, Quant};

use crate::adapter::BaseWeights;
use crate::checkpoint::Weight;
use crate::error::Result;
use crate::model::ModelConfig;
use crate::site::Site;
use std::ops::Range;

/// A matrix `[n, k]` in panels, borrowed from the map (or from private memory).
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    /// Element format.
    pub format: Format,
    /// Output rows; the last panel is padded with zeros to [`PANEL`].
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// The panels.
    pub bytes: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Panels of the matrix.
    pub fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    /// The bytes of one panel.
    pub fn panel(&self, panel: usize) -> &'a [u8] {
        self.panel_range(panel..panel + 1)
    }

    /// The bytes of consecutive panels.
    ///
    /// # Panics
    /// Where the matrix has no such panels.
    pub fn panel_range(&self, panels: Range<usize>) -> &'a [u8] {
        let size = self.format.panel_bytes(self.k);
        &self.bytes[panels.start * size..panels.end * size]
    }

    /// Writes row `row`, dequantised, to `out` (`k` values).
    pub fn row(&self, row: usize, out: &mut [f32]) {
        panels::read_row(self, row, out);
    }
}

/// A mapped pack. Contract: `Pack::open(&Checkpoint, cache_folder) -> Result<Pack>` maps the pack file, making it first
/// (atomically, under a lock) where it is missing, stale or damaged.
#[derive(Debug)]
pub struct Pack {
    config: ModelConfig,
}

impl Pack {
    /// The matrix at a site; `Site::Head` of a tied model is the embedding.
    pub fn linear(&self, site: Site) -> Packed<'_> {
        let _ = site;
        Packed { format: Format::F32, n: 0, k: 0, bytes: &[] }
    }

    /// A norm's or bias's values, with every offset folded in; `None` where the model has none.
    pub fn vector(&self, weight: Weight) -> Option<&[f32]> {
        let _ = weight;
        None
    }

    /// Checks that the mapped files are still what was mapped.
    ///
    /// # Errors
    /// [`crate::Error::Changed`].
    pub fn fence(&self) -> Result<()> {
        Ok(())
    }
}

impl BaseWeights for Pack {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn row(&self, site: Site, row: usize, out: &mut [f32]) {
        self.linear(site).row(row, out);
    }
}
