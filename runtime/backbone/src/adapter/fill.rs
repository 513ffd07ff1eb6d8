//! Reads an adapter's numbers from its file into their places, scaled, turned, averaged and looked over as planned.
//!
//! Beside the places themselves this needs a buffer of [`CHUNK`] bytes, and for DoRA and AdaMix the f32 form of one site.

use super::block::write_f32;
use super::config::name;
use super::dora::{Weight, norms};
use super::limits::Limits;
use super::plan::{Fill, MatrixPlan, SitePlan, outputs};
use super::tensors::{Element, Tensor, TensorFile};
use super::values::{magnitude_max, widen};
use super::{BaseWeights, DeltaView, MatrixView};
use crate::error::{Error, Result};
use crate::site::Site;
use std::ops::Range;
use std::path::Path;

/// Bytes read at a time; arbitrary, a share of a core's cache.
const CHUNK: usize = 256 << 10;

/// Rows that are turned at a time, so that what is read and written stays in a core's first cache.
const TURN: usize = 64;

/// A row scale this near 1 changes nothing that could be told from rounding: 16-bit magnitudes are this coarse.
const SCALE_TOLERANCE: f32 = 4e-3;

/// Where numbers come from, and what they must be.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    pub file: &'a TensorFile,
    pub base: &'a dyn BaseWeights,
    pub limits: &'a Limits,
    pub adapter: &'a Path,
}

/// A replacement in place, and whether a tied head changes with it.
#[derive(Clone, Copy)]
pub(crate) struct Replaced<'a> {
    pub site: Site,
    pub with_head: bool,
    pub matrix: MatrixView<'a>,
}

/// A site in place.
pub(crate) struct FilledSite<'a> {
    pub a: MatrixView<'a>,
    pub b: MatrixView<'a>,
    /// The bias, scaled.
    pub bias: Option<Vec<f32>>,
    /// DoRA's magnitude as the file has it.
    pub magnitude: Option<Vec<f32>>,
    /// Its delta is zero.
    pub idle: bool,
}

/// The part of the block that a site's places are in.
pub(crate) fn extent(site: &SitePlan) -> Range<usize> {
    let vectors = [&site.magnitude, &site.bias].into_iter().flatten().map(|(_, at)| at);
    let places = [&site.a.at, &site.b.at].into_iter().chain(vectors);
    places.fold(site.a.at.clone(), |all, at| all.start.min(at.start)..all.end.max(at.end))
}

impl<'a> Source<'a> {
    fn invalid(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::adapter(self.adapter, place, problem)
    }

    /// Fills a site's part of the block, `fulls` being in place already.
    pub fn site<'b>(
        &self,
        site: &SitePlan,
        part: &'b mut [u8],
        fulls: &[Replaced<'_>],
    ) -> Result<FilledSite<'b>> {
        let start = extent(site).start;
        let within = |at: &Range<usize>| at.start - start..at.end - start;
        let (at_a, at_b) = (within(&site.a.at), within(&site.b.at));
        let a = self.matrix(&site.a, &mut part[at_a.clone()])?;
        let b = self.matrix(&site.b, &mut part[at_b.clone()])?;
        let changes = a > 0.0 && b > 0.0 && site.scale != 0.0;
        let bias = site.bias.as_ref().map(|(tensor, at)| {
            let mut values = self.vector(*tensor)?;
            values.iter_mut().for_each(|value| *value *= site.scale);
            write_f32(&mut part[within(at)], &values);
            Ok::<_, Error>(values)
        });
        let bias = bias.transpose()?;
        let biased = bias.iter().flatten().any(|&value| value != 0.0);
        let (mut magnitude, mut scaled) = (None, false);
        if let Some((tensor, at)) = &site.magnitude {
            let values = self.vector(*tensor)?;
            let delta = DeltaView {
                rank: site.rank,
                scale: site.scale,
                a: site.a.view(&part[at_a.clone()]),
                b: site.b.view(&part[at_b.clone()]),
                row_scale: None,
                bias: None,
            };
            let scales = self.row_scale(site.site, &delta, *tensor, &values, fulls)?;
            scaled = scales.iter().any(|value| (value - 1.0).abs() > SCALE_TOLERANCE);
            write_f32(&mut part[within(at)], &scales);
            magnitude = Some(values);
        }
        let part = &*part;
        Ok(FilledSite {
            a: site.a.view(&part[at_a]),
            b: site.b.view(&part[at_b]),
            bias,
            magnitude,
            idle: !changes && !biased && !scaled,
        })
    }

    /// DoRA's row scale.
    fn row_scale(
        &self,
        site: Site,
        delta: &DeltaView<'_>,
        tensor: usize,
        magnitude: &[f32],
        fulls: &[Replaced<'_>],
    ) -> Result<Vec<f32>> {
        let replaced = fulls.iter().find(|full| full.site == site || (full.with_head && site == Site::Head));
        // A tied head has no matrix of its own.
        let tied = self.base.config().tied && site == Site::Head;
        let weight = Weight {
            base: self.base,
            site: if tied { Site::Embed } else { site },
            replaced: replaced.map(|full| full.matrix),
        };
        let norms = norms(&weight, delta, site == Site::Embed, self.threads());
        debug_assert_eq!(norms.len(), outputs(self.base.config(), site));
        let scales: Vec<f32> = magnitude.iter().zip(norms).map(|(value, norm)| value / norm).collect();
        if let Some(row) = scales.iter().position(|value| !value.is_finite()) {
            let problem =
                format!("row {row} of the adapted weight has no length, so its magnitude cannot be applied");
            return Err(self.invalid(name(&self.file.tensors[tensor].name), problem));
        }
        Ok(scales)
    }

    fn threads(&self) -> usize {
        match self.limits.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    /// Fills a matrix and gives its largest absolute value.
    pub fn matrix(&self, matrix: &MatrixPlan, out: &mut [u8]) -> Result<f32> {
        let source = match &matrix.fill {
            Fill::Rows(tensor) => {
                self.file.read(self.file.tensors[*tensor].at, out)?;
                *tensor
            }
            Fill::Columns { tensor, interleaved } => {
                self.transpose(matrix, *tensor, *interleaved, out)?;
                *tensor
            }
            Fill::Shards { pool, index } => {
                self.gather(matrix, *pool, *index, out)?;
                *pool
            }
            Fill::Mean { tensors, transposed } => {
                self.mean(matrix, tensors, *transposed, out)?;
                tensors[0]
            }
        };
        self.check(source, magnitude_max(matrix.dtype, out))
    }

    fn check(&self, tensor: usize, max: f32) -> Result<f32> {
        let place = || name(&self.file.tensors[tensor].name);
        if max.is_infinite() {
            return Err(self.invalid(place(), "holds NaN or infinite values; the training diverged"));
        }
        if max > self.limits.value_max {
            let problem = format!("holds a value of {max:e}, at most {:e} is served", self.limits.value_max);
            return Err(self.invalid(place(), problem));
        }
        Ok(max)
    }

    /// Reads a `[columns, rows]` tensor into a `[rows, columns]` matrix, some of its rows at a time.
    fn transpose(
        &self,
        matrix: &MatrixPlan,
        tensor: usize,
        interleaved: Option<usize>,
        out: &mut [u8],
    ) -> Result<()> {
        let (size, tensor) = (matrix.dtype.bytes(), &self.file.tensors[tensor]);
        let row_bytes = matrix.rows * size;
        let step = (CHUNK / row_bytes).clamp(1, matrix.columns.max(1));
        let mut buffer = vec![0; step * row_bytes];
        for first in (0..matrix.columns).step_by(step) {
            let count = step.min(matrix.columns - first);
            let chunk = &mut buffer[..count * row_bytes];
            self.file.read(tensor.at + (first * row_bytes) as u64, chunk)?;
            let place = Turned { rows: matrix.rows, columns: matrix.columns, first, interleaved };
            match size {
                2 => place.turn::<2>(chunk, out),
                _ => place.turn::<4>(chunk, out),
            }
        }
        Ok(())
    }

    /// Gathers MoS vectors from their shards.
    fn gather(&self, matrix: &MatrixPlan, pool: usize, index: usize, out: &mut [u8]) -> Result<()> {
        let (pool, index) = (&self.file.tensors[pool], &self.file.tensors[index]);
        let shard = pool.shape[1] * matrix.dtype.bytes();
        for (slot, picked) in self.indices(index)?.into_iter().enumerate() {
            let Some(picked) = usize::try_from(picked).ok().filter(|&picked| picked < pool.shape[0]) else {
                let problem = format!("picks shard {picked} of a pool of {}", pool.shape[0]);
                return Err(self.invalid(name(&index.name), problem));
            };
            self.file.read(pool.at + (picked * shard) as u64, &mut out[slot * shard..(slot + 1) * shard])?;
        }
        Ok(())
    }

    fn indices(&self, tensor: &Tensor) -> Result<Vec<i64>> {
        let size = if tensor.element == Element::I64 { 8 } else { 4 };
        let mut bytes = vec![0; tensor.len() * size];
        self.file.read(tensor.at, &mut bytes)?;
        Ok(match size {
            8 => bytes.as_chunks::<8>().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect(),
            _ => bytes.as_chunks::<4>().0.iter().map(|&bytes| i32::from_le_bytes(bytes).into()).collect(),
        })
    }

    /// Averages AdaMix's adaptations, each checked on its own.
    fn mean(&self, matrix: &MatrixPlan, tensors: &[usize], transposed: bool, out: &mut [u8]) -> Result<()> {
        let mut sum = vec![0.0; matrix.rows * matrix.columns];
        for &tensor in tensors {
            let values = self.vector(tensor)?;
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        let share = 1.0 / tensors.len() as f32;
        sum.iter_mut().for_each(|value| *value *= share);
        if transposed {
            let flat = &sum;
            let turned = (0..matrix.rows)
                .flat_map(|row| (0..matrix.columns).map(move |column| flat[column * matrix.rows + row]))
                .collect();
            sum = turned;
        }
        write_f32(out, &sum);
        Ok(())
    }

    /// A whole tensor as f32, checked.
    fn vector(&self, index: usize) -> Result<Vec<f32>> {
        let tensor = &self.file.tensors[index];
        let dtype = match tensor.element {
            Element::Weight(dtype) => dtype,
            _ => return Err(self.invalid(name(&tensor.name), "expected F32, F16 or BF16")),
        };
        let mut bytes = vec![0; tensor.len() * dtype.bytes()];
        self.file.read(tensor.at, &mut bytes)?;
        self.check(index, magnitude_max(dtype, &bytes))?;
        let mut values = vec![0.0; tensor.len()];
        widen(dtype, &bytes, &mut values);
        Ok(values)
    }
}

/// Where a piece of a file's matrix goes in the turned one.
struct Turned {
    /// Rows and columns of the turned matrix.
    rows: usize,
    columns: usize,
    /// The piece's first row, a column of the turned matrix.
    first: usize,
    /// The head's width, where rows are in llama.cpp's order.
    interleaved: Option<usize>,
}

impl Turned {
    /// Turns a piece of elements of `SIZE` bytes.
    fn turn<const SIZE: usize>(&self, piece: &[u8], out: &mut [u8]) {
        let (piece, out) = (piece.as_chunks::<SIZE>().0, out.as_chunks_mut::<SIZE>().0);
        for (block, rows) in piece.chunks(self.rows * TURN).enumerate() {
            let first = self.first + block * TURN;
            for rank in 0..self.rows {
                let values = rows.iter().skip(rank).step_by(self.rows);
                let line = &mut out[rank * self.columns..][..self.columns];
                match self.interleaved {
                    None => line[first..].iter_mut().zip(values).for_each(|(to, value)| *to = *value),
                    Some(head) => {
                        (first..).zip(values).for_each(|(row, value)| line[straight(row, head)] = *value);
                    }
                }
            }
        }
    }
}

/// The Hugging Face row of an interleaved row: within a head of width d, row `2 i + j` is row `j d / 2 + i`.
fn straight(row: usize, head: usize) -> usize {
    let (start, within) = (row / head * head, row % head);
    start + within % 2 * (head / 2) + within / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interleaved_rows_go_back_to_halves() {
        let order: Vec<_> = (0..12).map(|row| straight(row, 6)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]);
    }

    #[test]
    fn every_element_is_turned_whatever_the_pieces() {
        let (rows, columns) = (3, 150);
        for interleaved in [None, Some(6)] {
            for step in [1, 64, 100, 150] {
                let file: Vec<u8> = (0..rows * columns).flat_map(|i| (i as u16).to_le_bytes()).collect();
                let mut out = vec![0; file.len()];
                for (piece, bytes) in file.chunks(step * rows * 2).enumerate() {
                    let place = Turned { rows, columns, first: piece * step, interleaved };
                    place.turn::<2>(bytes, &mut out);
                }
                for row in 0..columns {
                    for rank in 0..rows {
                        let to = rank * columns + interleaved.map_or(row, |head| straight(row, head));
                        assert_eq!(out.as_chunks::<2>().0[to], ((row * rows + rank) as u16).to_le_bytes());
                    }
                }
            }
        }
    }
}
