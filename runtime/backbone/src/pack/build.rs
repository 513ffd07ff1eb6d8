//! A checkpoint's tensors into sections: q and k rows in Hugging Face order, norms with their offset folded in.
//!
//! A matrix is re-laid a few megabytes at a time by two threads, so that memory stays flat whatever the model's size.

use super::blocks::Codes;
use super::file::{Section, Sections};
use super::format::{Format, PANEL};
use super::panels;
use crate::checkpoint::{Checkpoint, Part, TensorView, Weight};
use crate::error::Result;
use crate::site::Module;

/// Bytes of panels that are made at a time.
const CHUNK: usize = 8 << 20;
/// Threads that make them.
const THREADS: usize = 2;

/// The sections that a checkpoint gives, without places.
///
/// # Errors
/// What [`Checkpoint::weight`] says.
pub fn plan(checkpoint: &Checkpoint) -> Result<Sections> {
    let mut sections = Sections::new();
    for weight in checkpoint.weights() {
        let Some(view) = checkpoint.weight(weight)? else { continue };
        let section = if is_matrix(weight) {
            Section::new(Format::of(view.dtype).unwrap_or(Format::F32), view.rows, view.columns)
        } else {
            Section::new(Format::F32, view.rows * view.columns, 0)
        };
        sections.insert(weight, section);
    }
    Ok(sections)
}

fn is_matrix(weight: Weight) -> bool {
    matches!(weight, Weight::Embed | Weight::Head | Weight::Block(_, Part::Linear(_)))
}

/// Makes the bytes of one section and gives them to `write`, piece after piece.
///
/// # Errors
/// What `write` says, and what [`Checkpoint::weight`] says.
pub fn section(
    checkpoint: &Checkpoint,
    weight: Weight,
    section: &Section,
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let Some(view) = checkpoint.weight(weight)? else { return Ok(()) };
    let order = Order::of(checkpoint, weight);
    if section.k == 0 {
        return write(&vector(checkpoint, weight, &view, order));
    }
    let size = section.format.panel_bytes(section.k);
    let step = (CHUNK / size).clamp(1, section.n.div_ceil(PANEL));
    let mut buffer = Vec::new();
    let count = section.n.div_ceil(PANEL);
    for first in (0..count).step_by(step) {
        let here = step.min(count - first);
        buffer.clear();
        buffer.resize(here * size, 0);
        let share = here.div_ceil(THREADS);
        std::thread::scope(|scope| {
            for (thread, part) in buffer.chunks_mut(share * size).enumerate() {
                scope.spawn(move || fill(&view, section, order, first + thread * share, part));
            }
        });
        write(&buffer)?;
    }
    Ok(())
}

/// Makes consecutive panels from panel `first`.
fn fill(view: &TensorView<'_>, section: &Section, order: Order, first: usize, out: &mut [u8]) {
    let own = Format::of(view.dtype).is_some();
    let mut codes = Codes::default();
    let mut wide = vec![0.0; if own { 0 } else { section.k }];
    for (at, panel) in out.chunks_exact_mut(section.format.panel_bytes(section.k)).enumerate() {
        let start = (first + at) * PANEL;
        for row in start..(start + PANEL).min(section.n) {
            let source = order.source(row);
            if own {
                let bytes = view.rows_bytes(source..source + 1);
                panels::put_row(section.format, bytes, row % PANEL, panel, &mut codes);
            } else {
                view.dequantise(source..source + 1, &mut wide);
                panels::put_floats(&wide, row % PANEL, panel);
            }
        }
    }
}

fn vector(checkpoint: &Checkpoint, weight: Weight, view: &TensorView<'_>, order: Order) -> Vec<u8> {
    let mut values = vec![0.0; view.rows * view.columns];
    view.dequantise(0..view.rows, &mut values);
    let offset =
        if matches!(weight, Weight::Block(_, Part::Bias(_))) { 0.0 } else { checkpoint.norm_offset() };
    let ordered = (0..values.len()).map(|at| values[order.source(at)] + offset);
    ordered.flat_map(f32::to_le_bytes).collect()
}

/// Where the rows of a tensor lie in the file.
#[derive(Clone, Copy)]
enum Order {
    /// As they are.
    Plain,
    /// In llama.cpp's interleaved order, heads of this width.
    Interleaved(usize),
}

impl Order {
    fn of(checkpoint: &Checkpoint, weight: Weight) -> Self {
        let rotary = matches!(
            weight,
            Weight::Block(_, Part::Linear(Module::Q | Module::K) | Part::Bias(Module::Q | Module::K))
        );
        if rotary && checkpoint.rows_interleaved() {
            Self::Interleaved(checkpoint.config().head_dim)
        } else {
            Self::Plain
        }
    }

    /// The file's row of row `row` in Hugging Face order.
    fn source(self, row: usize) -> usize {
        match self {
            Self::Plain => row,
            Self::Interleaved(width) => {
                let (head, within) = (row / width, row % width);
                head * width + 2 * (within % (width / 2)) + within / (width / 2)
            }
        }
    }
}
