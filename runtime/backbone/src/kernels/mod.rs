//! Matrix products over packed weights: int8 VNNI, AVX2 and portable, chosen once at start.
//!
//! Every output is summed in one fixed order over k whatever the batch, so that a row's numbers never depend on its
//! neighbours.

use crate::pack::Packed;
use std::ops::Range;

/// The activations of a step's rows, as f32 and as 8-bit integers with a scale for every 32 of them.
#[derive(Debug, Default)]
pub struct Acts {
    rows: usize,
    k: usize,
}

/// Writes rows of an [`Acts`] from several threads at once; each row is written by one thread only.
#[derive(Debug, Clone, Copy)]
pub struct ActsWriter {
    _private: (),
}

impl Acts {
    /// Makes room for `rows` rows of `k` values; contents are undefined until each row is put.
    pub fn reshape(&mut self, rows: usize, k: usize) {
        (self.rows, self.k) = (rows, k);
    }

    /// A writer for this shape. The caller must not read rows until they are put.
    pub fn writer(&mut self) -> ActsWriter {
        ActsWriter { _private: () }
    }

    /// Row `row` as f32.
    pub fn row(&self, row: usize) -> &[f32] {
        let _ = row;
        &[]
    }
}

impl ActsWriter {
    /// Copies `values` (`k` of them) in and quantises them where a format of the model needs it.
    ///
    /// # Safety
    /// The [`Acts`] outlives the call with its shape unchanged, and no other thread touches row `row` meanwhile.
    #[expect(unsafe_code, reason = "rows of one buffer are written by several threads")]
    pub unsafe fn put(&self, row: usize, values: &[f32], integers: bool) {
        let _ = (row, values, integers);
    }
}

/// Products of rows `rows` of `acts` with panels `panels` of `weight`: `out[(row - rows.start) * stride + (panel -
/// panels.start) * 16 + lane]` is overwritten. Lanes past `n` are zero.
pub fn tile(
    weight: &Packed<'_>,
    acts: &Acts,
    rows: Range<usize>,
    panels: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    let _ = (weight, acts, rows, panels, out, stride);
}

/// What this machine's CPU offers the kernels.
#[derive(Debug, Clone)]
pub struct Features {
    /// The kernels' tier.
    pub tier: &'static str,
}

/// The tier and features found at start.
pub fn features() -> Features {
    Features { tier: "portable" }
}
