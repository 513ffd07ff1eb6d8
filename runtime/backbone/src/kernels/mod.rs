//! Matrix products over packed weights: int8 VNNI, AVX2 and portable, chosen once at start.
//!
//! Every output is summed in one fixed order over k whatever the batch, so that a row's numbers never depend on its
//! neighbours: for quantised weights group by group, exact integers within a group and fused f32 additions between
//! them; for float weights one fused addition for each k. Threads are the caller's: it hands each a range of panels.

mod acts;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod layout;
pub mod peaks;
mod portable;
mod tier;

pub use acts::{Acts, ActsWriter};
pub use peaks::{Peaks, peaks};
pub use tier::{Features, Tier, features};

use crate::pack::{Format, PANEL, Packed, Quant};
use acts::Integers;
use std::ops::Range;

/// Products of rows `rows` of `acts` with panels `panels` of `weight`: `out[(row - rows.start) * stride + (panel -
/// panels.start) * 16 + lane]` is overwritten. Lanes past `n` are zero.
///
/// # Panics
/// Where a range or `out` does not fit the shapes.
pub fn tile(
    weight: &Packed<'_>,
    acts: &Acts,
    rows: Range<usize>,
    panels: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    tile_on(Tier::best(), weight, acts, rows, panels, out, stride);
}

/// [`tile`] on a given tier.
///
/// # Panics
/// As [`tile`], and where this CPU does not run the tier.
pub fn tile_on(
    tier: Tier,
    weight: &Packed<'_>,
    acts: &Acts,
    rows: Range<usize>,
    panels: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    if rows.is_empty() || panels.is_empty() {
        return;
    }
    assert!(tier.runs(), "this CPU does not run {tier}");
    assert!(rows.end <= acts.rows() && acts.k() == weight.k, "rows {rows:?}, k {} of {}", acts.k(), weight.k);
    let run = Run { format: weight.format, k: weight.k, bytes: weight.panel_range(panels.clone()) };
    let mut grid = Grid::new(out, stride, rows.len(), panels.len());
    match weight.format.quant() {
        Some(quant) => quantised(tier, run, quant, acts.integers(quant.group), rows, &mut grid),
        None => float(tier, run, acts.values(), rows, &mut grid),
    }
}

/// A run of panels of one matrix.
#[derive(Debug, Clone, Copy)]
struct Run<'a> {
    format: Format,
    k: usize,
    bytes: &'a [u8],
}

impl<'a> Run<'a> {
    fn panels(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.format.panel_bytes(self.k))
    }

    /// The code of the value 0 is `1 << zero`.
    fn zero(&self) -> u32 {
        self.format.quant().map_or(0, |quant| quant.zero)
    }
}

/// Where the products go: `rows` rows, `stride` apart, of `panels` cells of 16.
#[derive(Debug)]
struct Grid<'a> {
    out: &'a mut [f32],
    stride: usize,
    panels: usize,
}

impl<'a> Grid<'a> {
    fn new(out: &'a mut [f32], stride: usize, rows: usize, panels: usize) -> Self {
        let (width, needed) = (panels * PANEL, (rows - 1) * stride + panels * PANEL);
        assert!(stride >= width || rows == 1, "stride {stride} of rows of {width}");
        assert!(out.len() >= needed, "room for {} of {needed} products", out.len());
        Self { out, stride, panels }
    }

    fn cell(&mut self, row: usize, panel: usize) -> &mut [f32; PANEL] {
        debug_assert!(panel < self.panels, "panel {panel} of {}", self.panels);
        let at = row * self.stride + panel * PANEL;
        self.out[at..].first_chunk_mut().expect("the grid's size was checked when it was made")
    }
}

#[expect(unsafe_code, reason = "the kernels of a tier need its CPU features")]
fn quantised(
    tier: Tier,
    w: Run<'_>,
    quant: Quant,
    acts: Integers<'_>,
    rows: Range<usize>,
    grid: &mut Grid<'_>,
) {
    match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `tile_on` asserts that this CPU runs the tier, and checked the ranges against the shapes.
        Tier::Avx512Vnni => unsafe { avx512::quantised(w, acts, rows, grid) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::AvxVnni => unsafe { avx2::vnni::quantised(w, acts, rows, grid) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::Avx2 => unsafe { avx2::plain::quantised(w, acts, rows, grid) },
        _ => portable::quantised(w, quant, acts, rows, grid),
    }
}

#[expect(unsafe_code, reason = "the kernels of a tier need its CPU features")]
fn float(tier: Tier, w: Run<'_>, values: &[f32], rows: Range<usize>, grid: &mut Grid<'_>) {
    match tier {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `tile_on` asserts that this CPU runs the tier, and checked the ranges against the shapes.
        Tier::Avx512Vnni => unsafe { avx512::float(w, values, rows, grid) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::AvxVnni | Tier::Avx2 => unsafe { avx2::float(w, values, rows, grid) },
        _ => portable::float(w, values, rows, grid),
    }
}
