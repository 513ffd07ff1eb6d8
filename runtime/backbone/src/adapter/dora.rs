//! DoRA's row scale: each output's magnitude over the norm of its row of `W + s B A`, worked out once at load.
//!
//! For a given base it is a constant, so that a batch needs a row-wise multiply and nothing else. On a quantised backbone
//! the norm is that of the dequantised weight. Products in f32, sums of squares in f64. For the embedding PEFT takes the
//! norm over the vocabulary, one per dimension of the model (`DoraEmbeddingLayer`).

use super::values::widen;
use super::{BaseWeights, DeltaView, MatrixView};
use crate::site::Site;
use std::thread;

/// Where rows of the weight under a delta come from.
pub(crate) struct Weight<'a> {
    /// The base.
    pub base: &'a dyn BaseWeights,
    /// The site whose rows to ask for.
    pub site: Site,
    /// A matrix of the adapter in the base's place.
    pub replaced: Option<MatrixView<'a>>,
}

impl Weight<'_> {
    fn row(&self, row: usize, out: &mut [f32]) {
        match self.replaced {
            None => self.base.row(self.site, row, out),
            Some(matrix) => {
                let bytes = matrix.columns * matrix.dtype.bytes();
                widen(matrix.dtype, &matrix.bytes[row * bytes..][..bytes], out);
            }
        }
    }
}

/// Norms of the rows of `W + s B A`, of its columns for the embedding.
pub(crate) fn norms(weight: &Weight<'_>, delta: &DeltaView<'_>, embed: bool, threads: usize) -> Vec<f32> {
    let (a, b) = (widened(delta.a), widened(delta.b));
    let squares =
        if embed { columns(weight, delta, &a, &b, threads) } else { rows(weight, delta, &a, &b, threads) };
    squares.into_iter().map(|square| square.sqrt() as f32).collect()
}

/// Squared norms of the rows.
fn rows(weight: &Weight<'_>, delta: &DeltaView<'_>, a: &[f32], b: &[f32], threads: usize) -> Vec<f64> {
    let (outputs, inputs) = (delta.b.columns, delta.a.columns);
    let mut squares = vec![0.0; outputs];
    let share = outputs.div_ceil(threads);
    thread::scope(|scope| {
        for (part, squares) in squares.chunks_mut(share).enumerate() {
            scope.spawn(move || {
                let mut row = vec![0.0; inputs];
                for (offset, square) in squares.iter_mut().enumerate() {
                    let output = part * share + offset;
                    weight.row(output, &mut row);
                    for (rank, a) in a.chunks_exact(inputs).enumerate() {
                        add(&mut row, delta.scale * b[rank * outputs + output], a);
                    }
                    *square = row.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
                }
            });
        }
    });
    squares
}

/// Squared norms of the columns: A is `[vocab, rank]`, a row of the weight is a token.
fn columns(weight: &Weight<'_>, delta: &DeltaView<'_>, a: &[f32], b: &[f32], threads: usize) -> Vec<f64> {
    let (tokens, width) = (delta.a.rows, delta.b.columns);
    let share = tokens.div_ceil(threads);
    let partial = |first: usize| {
        let (mut row, mut squares) = (vec![0.0; width], vec![0.0; width]);
        for token in first..tokens.min(first + share) {
            weight.row(token, &mut row);
            for (rank, b) in b.chunks_exact(width).enumerate() {
                add(&mut row, delta.scale * a[token * delta.rank + rank], b);
            }
            for (square, &value) in squares.iter_mut().zip(&row) {
                *square += f64::from(value) * f64::from(value);
            }
        }
        squares
    };
    thread::scope(|scope| {
        let partial = &partial;
        let parts: Vec<_> =
            (0..tokens).step_by(share).map(|first| scope.spawn(move || partial(first))).collect();
        let mut total = vec![0.0; width];
        for part in parts {
            let squares = part.join().expect("a base gives its rows without panicking");
            total.iter_mut().zip(squares).for_each(|(total, square)| *total += square);
        }
        total
    })
}

fn add(row: &mut [f32], factor: f32, direction: &[f32]) {
    for (value, direction) in row.iter_mut().zip(direction) {
        *value += factor * direction;
    }
}

fn widened(matrix: MatrixView<'_>) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows * matrix.columns];
    widen(matrix.dtype, matrix.bytes, &mut values);
    values
}
