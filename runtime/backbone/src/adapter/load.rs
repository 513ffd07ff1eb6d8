//! Carries out a plan: reads each tensor once into its place in the block, looks it over, and gives the whole its name.
//!
//! Beside the block a load needs a buffer of [`CHUNK`] bytes, and for DoRA and AdaMix the f32 form of one site. Nothing
//! is visible to anyone before every check has passed.

use super::block::Draft;
use super::config::name;
use super::dora::{Weight, norms};
use super::generation::Canon;
use super::limits::Limits;
use super::plan::{Fill, MatrixPlan, Plan, SitePlan, outputs};
use super::tensors::{Element, Tensor, TensorFile};
use super::values::{magnitude_max, widen};
use super::{BaseWeights, DeltaView, Generation, MatrixView};
use crate::error::{Error, Result};
use crate::site::Site;
use std::path::Path;

/// Bytes read at a time; arbitrary, a share of a core's cache.
const CHUNK: usize = 256 << 10;

/// A row scale this near 1 changes nothing that could be told from rounding: 16-bit magnitudes are this coarse.
const SCALE_TOLERANCE: f32 = 4e-3;

/// A filled block and the adapter's identity.
pub(crate) struct Filled {
    pub draft: Draft,
    pub generation: Generation,
    pub warnings: Vec<String>,
}

/// Fills a block.
pub(crate) fn fill(
    plan: &Plan,
    file: &TensorFile,
    base: &dyn BaseWeights,
    limits: &Limits,
    template: Option<&str>,
    adapter: &Path,
) -> Result<Filled> {
    let draft = Draft::new(plan.layout, adapter)?;
    let canon = Canon::new(template);
    let mut loader = Loader { plan, file, base, limits, adapter, draft, canon, idle: Vec::new() };
    for full in &plan.full {
        loader.matrix(&full.matrix)?;
        loader.canon.full(full.site, full.with_head);
        loader.hash(&full.matrix);
    }
    for site in &plan.sites {
        loader.site(site)?;
    }
    file.fence()?;
    loader.finish()
}

struct Loader<'a> {
    plan: &'a Plan,
    file: &'a TensorFile,
    base: &'a dyn BaseWeights,
    limits: &'a Limits,
    adapter: &'a Path,
    draft: Draft,
    canon: Canon,
    /// Sites whose delta is zero.
    idle: Vec<Site>,
}

impl Loader<'_> {
    fn invalid(&self, place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::adapter(self.adapter, place, problem)
    }

    fn site(&mut self, site: &SitePlan) -> Result<()> {
        let (a, b) = (self.matrix(&site.a)?, self.matrix(&site.b)?);
        let changes = a > 0.0 && b > 0.0 && site.scale != 0.0;
        self.canon.site(site.site, site.rank, site.scale);
        self.hash(&site.a);
        self.hash(&site.b);
        let biased = self.bias(site)?;
        let scaled = self.row_scale(site)?;
        if !changes && !biased && !scaled {
            self.idle.push(site.site);
        }
        Ok(())
    }

    /// Reads, scales and hashes the bias; tells whether it is more than zeros.
    fn bias(&mut self, site: &SitePlan) -> Result<bool> {
        let Some((tensor, at)) = &site.bias else { return Ok(false) };
        let mut values = self.vector(*tensor)?;
        values.iter_mut().for_each(|value| *value *= site.scale);
        self.canon.vector("bias", &values);
        self.draft.write_f32(at, &values);
        Ok(values.iter().any(|&value| value != 0.0))
    }

    /// Works out DoRA's row scale; tells whether it is more than ones.
    fn row_scale(&mut self, site: &SitePlan) -> Result<bool> {
        let Some((tensor, at)) = &site.magnitude else { return Ok(false) };
        let mut values = self.vector(*tensor)?;
        self.canon.vector("magnitude", &values);
        let replaced = self
            .plan
            .full
            .iter()
            .find(|full| full.site == site.site || (full.with_head && site.site == Site::Head));
        // A tied head has no matrix of its own.
        let tied = self.base.config().tied && site.site == Site::Head;
        let weight = Weight {
            base: self.base,
            site: if tied { Site::Embed } else { site.site },
            replaced: replaced.map(|full| self.view(&full.matrix)),
        };
        let delta = DeltaView {
            rank: site.rank,
            scale: site.scale,
            a: self.view(&site.a),
            b: self.view(&site.b),
            row_scale: None,
            bias: None,
        };
        let norms = norms(&weight, &delta, site.site == Site::Embed, self.threads());
        debug_assert_eq!(norms.len(), outputs(self.base.config(), site.site));
        values.iter_mut().zip(norms).for_each(|(value, norm)| *value /= norm);
        if let Some(row) = values.iter().position(|value| !value.is_finite()) {
            let problem =
                format!("row {row} of the adapted weight has no length, so its magnitude cannot be applied");
            return Err(self.invalid(name(&self.file.tensors[*tensor].name), problem));
        }
        self.draft.write_f32(at, &values);
        Ok(values.iter().any(|value| (value - 1.0).abs() > SCALE_TOLERANCE))
    }

    fn hash(&mut self, matrix: &MatrixPlan) {
        self.canon.matrix(stored(&self.draft, matrix));
    }

    fn threads(&self) -> usize {
        match self.limits.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }

    fn view(&self, matrix: &MatrixPlan) -> MatrixView<'_> {
        stored(&self.draft, matrix)
    }

    /// Fills a matrix and gives its largest absolute value.
    fn matrix(&mut self, matrix: &MatrixPlan) -> Result<f32> {
        let source = match &matrix.fill {
            Fill::Rows(tensor) => {
                self.file.read(self.file.tensors[*tensor].at, self.draft.bytes_mut(&matrix.at))?;
                *tensor
            }
            Fill::Columns { tensor, interleaved } => {
                self.transpose(matrix, *tensor, *interleaved)?;
                *tensor
            }
            Fill::Shards { pool, index } => {
                self.gather(matrix, *pool, *index)?;
                *pool
            }
            Fill::Mean { tensors, transposed } => {
                self.mean(matrix, tensors, *transposed)?;
                tensors[0]
            }
        };
        self.check(source, magnitude_max(matrix.dtype, self.draft.bytes(&matrix.at)))
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
    fn transpose(&mut self, matrix: &MatrixPlan, tensor: usize, interleaved: Option<usize>) -> Result<()> {
        let (size, tensor) = (matrix.dtype.bytes(), &self.file.tensors[tensor]);
        let row_bytes = matrix.rows * size;
        let step = (CHUNK / row_bytes).max(1);
        let mut buffer = vec![0; step * row_bytes];
        for first in (0..matrix.columns).step_by(step) {
            let count = step.min(matrix.columns - first);
            let chunk = &mut buffer[..count * row_bytes];
            self.file.read(tensor.at + (first * row_bytes) as u64, chunk)?;
            let out = self.draft.bytes_mut(&matrix.at);
            for (offset, row) in chunk.chunks_exact(row_bytes).enumerate() {
                let row_index = interleaved.map_or(first + offset, |head| straight(first + offset, head));
                for (rank, value) in row.chunks_exact(size).enumerate() {
                    out[(rank * matrix.columns + row_index) * size..][..size].copy_from_slice(value);
                }
            }
        }
        Ok(())
    }

    /// Gathers MoS vectors from their shards.
    fn gather(&mut self, matrix: &MatrixPlan, pool: usize, index: usize) -> Result<()> {
        let (pool, index) = (&self.file.tensors[pool], &self.file.tensors[index]);
        let shard = pool.shape[1] * matrix.dtype.bytes();
        let at = matrix.at.start;
        for (slot, picked) in self.indices(index)?.into_iter().enumerate() {
            let Some(picked) = usize::try_from(picked).ok().filter(|&picked| picked < pool.shape[0]) else {
                let problem = format!("picks shard {picked} of a pool of {}", pool.shape[0]);
                return Err(self.invalid(name(&index.name), problem));
            };
            let place = at + slot * shard..at + (slot + 1) * shard;
            self.file.read(pool.at + (picked * shard) as u64, self.draft.bytes_mut(&place))?;
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
    fn mean(&mut self, matrix: &MatrixPlan, tensors: &[usize], transposed: bool) -> Result<()> {
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
        self.draft.write_f32(&matrix.at, &sum);
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

    fn finish(self) -> Result<Filled> {
        let zero = !self.plan.sites.is_empty()
            && self.idle.len() == self.plan.sites.len()
            && self.plan.full.is_empty();
        if zero && !self.limits.allow_zero {
            let problem = "every delta is zero (an untrained adapter?): it would answer as the base does";
            return Err(self.invalid("tensors", problem));
        }
        let mut warnings = Vec::new();
        if let Some(first) = self.idle.first() {
            warnings.push(format!("{} modules have a delta of zero, the first is {first}", self.idle.len()));
        }
        Ok(Filled { draft: self.draft, generation: self.canon.finish(), warnings })
    }
}

fn stored<'a>(draft: &'a Draft, matrix: &MatrixPlan) -> MatrixView<'a> {
    let MatrixPlan { dtype, rows, columns, .. } = *matrix;
    MatrixView { dtype, rows, columns, bytes: draft.bytes(&matrix.at) }
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
}
