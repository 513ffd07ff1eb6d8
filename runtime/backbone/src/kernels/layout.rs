//! The layouts of quantised groups as types, so that a kernel is compiled for each.

use crate::pack::PANEL;
use std::ops::Range;

/// A layout of quantised groups, known when the kernel is compiled.
pub(super) trait Layout {
    /// Whether a byte holds two codes.
    const NIBBLES: bool;
    /// Consecutive k with one scale.
    const GROUP: usize;
    /// Whether scales and minimums are f16; f32 otherwise.
    const HALF_SCALES: bool;
    /// Whether a group has minimums.
    const MIN: bool;

    /// Bytes of a group's codes.
    const CODES: usize = PANEL * Self::GROUP / if Self::NIBBLES { 2 } else { 1 };
    /// Bytes of a group's scales.
    const SCALE: usize = PANEL * if Self::HALF_SCALES { 2 } else { 4 };
    /// Bytes of a group.
    const BYTES: usize = Self::CODES + Self::SCALE * if Self::MIN { 2 } else { 1 };
}

macro_rules! layouts {
    ($($name:ident: $nibbles:literal $group:literal $half:literal $min:literal;)*) => {$(
        pub(super) struct $name;
        impl Layout for $name {
            const NIBBLES: bool = $nibbles;
            const GROUP: usize = $group;
            const HALF_SCALES: bool = $half;
            const MIN: bool = $min;
        }
    )*};
}

layouts! {
    Q4Zero: true 32 true false;
    Q4Min: true 32 true true;
    Q4KMin: true 32 false true;
    Q3KZero: true 16 false false;
    Q2KMin: true 16 false true;
    Q8Zero: false 32 true false;
    Q5Min: false 32 true true;
    Q5KMin: false 32 false true;
    Q6KZero: false 16 false false;
}

/// Calls `$sweep::<Layout>($args…)` with the layout of a format.
macro_rules! with_layout {
    ($format:expr, $sweep:ident($($argument:expr),*)) => {{
        use crate::kernels::layout::*;
        use crate::pack::Format;
        match $format {
            Format::Q4_0 => $sweep::<Q4Zero>($($argument),*),
            Format::Q4_1 => $sweep::<Q4Min>($($argument),*),
            Format::Q4K => $sweep::<Q4KMin>($($argument),*),
            Format::Q3K => $sweep::<Q3KZero>($($argument),*),
            Format::Q2K => $sweep::<Q2KMin>($($argument),*),
            Format::Q8_0 | Format::Q5_0 => $sweep::<Q8Zero>($($argument),*),
            Format::Q5_1 => $sweep::<Q5Min>($($argument),*),
            Format::Q5K => $sweep::<Q5KMin>($($argument),*),
            Format::Q6K => $sweep::<Q6KZero>($($argument),*),
            Format::F32 | Format::F16 | Format::Bf16 => {}
        }
    }};
}
pub(super) use with_layout;

/// A block's first row of activations, its row of the grid, and its first panel.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Row of the activations.
    pub row: usize,
    /// Row of the grid.
    pub at: usize,
    /// Panel, of the run and of the grid.
    pub panel: usize,
}

/// Rows cut into blocks of at most `most`, as even as can be: how many, and where.
pub(super) fn blocks(rows: Range<usize>, most: usize, panel: usize) -> impl Iterator<Item = (usize, Place)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let left = rows.len() - at;
        let count = (left > 0).then(|| left.div_ceil(left.div_ceil(most)))?;
        let place = Place { row: rows.start + at, at, panel };
        at += count;
        Some((count, place))
    })
}
