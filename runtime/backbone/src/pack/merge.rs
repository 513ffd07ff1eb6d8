//! A private copy of a pack with one adapter merged in; all that the adapter leaves alone stays in the shared map.
//!
//! Float bases merge to f32. Quantised bases are quantised again, to 8 bits in groups of 32, which rounds by at most a
//! 254th of each group's largest value: coarser than running the delta beside the base, and the price of one product
//! instead of three.

use super::blocks::Codes;
use super::file::Section;
use super::format::{Format, PANEL};
use super::{Pack, Packed, Private, panels};
use crate::adapter::{Adapter, DeltaView, Dtype, MatrixView};
use crate::checkpoint::{Part, Weight};
use crate::error::{Error, Result};
use crate::site::Site;
use half::{bf16, f16};
use std::collections::BTreeSet;

impl Pack {
    /// A pack in which every matrix that the adapter changes is a private copy with the change in it; the rest is
    /// shared with this one. Nothing is ever written through the map.
    ///
    /// # Errors
    /// [`Error::Io`] where the system gives no memory.
    pub fn merged(&self, adapter: &Adapter) -> Result<Self> {
        let mut merged = self.shared();
        let whole = [Site::Embed, Site::Head].into_iter().filter(|&site| adapter.replaced(site).is_some());
        for site in adapter.sites().chain(whole).collect::<BTreeSet<_>>() {
            let delta = adapter.delta(site).map(Delta::new);
            let private = matrix(&self.linear(site), adapter.replaced(site), delta.as_ref(), site)?;
            merged.put_private(weight_of(site), private);
            if let (Site::Block(layer, module), Some(bias)) = (site, delta.and_then(|delta| delta.bias)) {
                let weight = Weight::Block(layer, Part::Bias(module));
                merged.put_private(weight, self.biased(weight, &bias)?);
            }
        }
        Ok(merged)
    }

    fn biased(&self, weight: Weight, change: &[f32]) -> Result<Private> {
        let base = self.vector(weight).unwrap_or(&[]).iter().copied().chain(std::iter::repeat(0.0));
        let mut private = Private::new(Section::new(Format::F32, change.len(), 0), change.len() * 4)?;
        let out = private.bytes_mut().as_chunks_mut::<4>().0.iter_mut();
        out.zip(change.iter().zip(base))
            .for_each(|(out, (change, base))| *out = (change + base).to_le_bytes());
        private.freeze()
    }
}

/// The weight that a merged site becomes. A merged head of a tied model is a matrix of its own.
fn weight_of(site: Site) -> Weight {
    match site {
        Site::Embed => Weight::Embed,
        Site::Head => Weight::Head,
        Site::Block(layer, module) => Weight::Block(layer, Part::Linear(module)),
    }
}

fn matrix(
    base: &Packed<'_>,
    replaced: Option<MatrixView<'_>>,
    delta: Option<&Delta>,
    site: Site,
) -> Result<Private> {
    let format = if base.format.is_float() { Format::F32 } else { Format::Q8_0 };
    let size = base.panels() * format.panel_bytes(base.k);
    let mut private = Private::new(Section::new(format, base.n, base.k), size)?;
    let (mut row, mut codes) = (vec![0.0; base.k], Codes::default());
    for (at, panel) in private.bytes_mut().chunks_exact_mut(format.panel_bytes(base.k)).enumerate() {
        for lane in 0..PANEL.min(base.n - at * PANEL) {
            let place = at * PANEL + lane;
            match &replaced {
                Some(view) => floats(view, place * base.k, &mut row),
                None => base.row(place, &mut row),
            }
            if let Some(delta) = delta {
                delta.add(place, &mut row, site);
            }
            match format {
                Format::F32 => panels::put_floats(&row, lane, panel),
                _ => panels::put_quantised(&row, lane, panel, &mut codes),
            }
        }
    }
    private.freeze()
}

/// A low-rank change, widened to f32.
struct Delta {
    rank: usize,
    scale: f32,
    a: Vec<f32>,
    b: Vec<f32>,
    b_columns: usize,
    row_scale: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
}

impl Delta {
    fn new(view: DeltaView<'_>) -> Self {
        let wide = |view: &MatrixView<'_>| {
            let mut values = vec![0.0; view.rows * view.columns];
            floats(view, 0, &mut values);
            values
        };
        Self {
            rank: view.rank,
            scale: view.scale,
            a: wide(&view.a),
            b: wide(&view.b),
            b_columns: view.b.columns,
            row_scale: view.row_scale.map(<[f32]>::to_vec),
            bias: view.bias.map(<[f32]>::to_vec),
        }
    }

    /// Adds the change to row `at` of the matrix.
    fn add(&self, at: usize, row: &mut [f32], site: Site) {
        let columns = row.len();
        for rank in 0..self.rank {
            // A token's row of the embedding is its own row of A times B; elsewhere an output's row is its column of B
            // times A.
            let (factor, values) = if site == Site::Embed {
                (self.a[at * self.rank + rank], &self.b[rank * columns..][..columns])
            } else {
                (self.b[rank * self.b_columns + at], &self.a[rank * columns..][..columns])
            };
            let factor = factor * self.scale;
            row.iter_mut().zip(values).for_each(|(value, change)| *value += factor * change);
        }
        match (&self.row_scale, site) {
            (Some(scales), Site::Embed) => {
                row.iter_mut().zip(scales).for_each(|(value, scale)| *value *= scale)
            }
            (Some(scales), _) => row.iter_mut().for_each(|value| *value *= scales[at]),
            (None, _) => {}
        }
    }
}

/// Elements of a matrix from element `start`, as f32.
fn floats(view: &MatrixView<'_>, start: usize, out: &mut [f32]) {
    let halves = || view.bytes.as_chunks::<2>().0[start..].iter();
    match view.dtype {
        Dtype::F32 => {
            let elements = view.bytes.as_chunks::<4>().0[start..].iter();
            out.iter_mut().zip(elements).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes));
        }
        Dtype::F16 => {
            out.iter_mut().zip(halves()).for_each(|(out, bytes)| *out = f16::from_le_bytes(*bytes).to_f32());
        }
        Dtype::Bf16 => {
            out.iter_mut().zip(halves()).for_each(|(out, bytes)| *out = bf16::from_le_bytes(*bytes).to_f32());
        }
    }
}

impl Private {
    /// Room for a section.
    fn new(section: Section, size: usize) -> Result<Self> {
        let map = memmap2::MmapMut::map_anon(size.max(1))
            .map_err(|source| Error::Io { path: "memory for a merged adapter".into(), source })?;
        // Private panels are read like the model's own, by every step.
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self::Draft(Section { range: 0..size, ..section }, map))
    }
}
