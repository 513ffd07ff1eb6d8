//! Matrices read where they lie in the mapped file, by candle's own block kernels.
//!
//! candle's loaders end in a `Vec`; its quantised storage is a trait object, so [`Blocks`] implements that trait over a
//! slice of the map instead. Only a tensor that lies askew for its type (a safetensors file whose header is not padded)
//! is copied. candle's repacked kernels are passed by on purpose: they keep a private copy of the matrix.
#![expect(unsafe_code, reason = "blocks are read from the map in place")]

use crate::checkpoint::{Checkpoint, TensorView, Weight};
use crate::error::Result;
use candle_core::backend::BackendStorage;
use candle_core::quantized::k_quants::{
    self, BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0, BlockQ8_1, BlockQ8K,
};
use candle_core::quantized::{GgmlDType, GgmlType, QuantizedType};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
use half::{bf16, f16};
use std::sync::Arc;

/// A quantised or plain matrix `[rows, columns]` in the map.
pub struct Mapped {
    blocks: Box<dyn QuantizedType>,
    rows: usize,
    columns: usize,
}

impl Mapped {
    /// Borrows a tensor of `checkpoint`, which the matrix keeps mapped as long as it lives; `None` where the model has no
    /// such tensor.
    ///
    /// # Errors
    /// Those of [`Checkpoint::weight`].
    pub fn new(checkpoint: &Arc<Checkpoint>, weight: Weight) -> Result<Option<Self>> {
        let Some(view) = checkpoint.weight(weight)? else {
            return Ok(None);
        };
        let blocks = borrow(checkpoint, &view);
        Ok(Some(Self { blocks, rows: view.rows, columns: view.columns }))
    }

    /// The rows `ids`, dequantised, `[ids, columns]`.
    ///
    /// # Errors
    /// Those of candle: an id past the rows.
    pub fn gather(&self, ids: &[u32]) -> candle_core::Result<Tensor> {
        match self.blocks.embedding(ids, self.rows, self.columns)? {
            CpuStorage::F32(values) => Tensor::from_vec(values, (ids.len(), self.columns), &Device::Cpu),
            other => candle_core::bail!("rows came as {:?} instead of f32", other.dtype()),
        }
    }

    /// `x` (f32, `[n, columns]`) times the matrix, `[n, rows]`.
    ///
    /// # Errors
    /// Those of candle: shapes that don't fit.
    pub fn product(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        x.contiguous()?.apply_op1_no_bwd(self)
    }
}

impl CustomOp1 for Mapped {
    fn name(&self) -> &'static str {
        "mapped product"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let (n, k) = layout.shape().dims2()?;
        if k != self.columns {
            candle_core::bail!("{k} columns against a mapped matrix of {}", self.columns);
        }
        let x = &storage.as_slice::<f32>()?[layout.start_offset()..][..n * k];
        let mut out = vec![0f32; n * self.rows];
        self.blocks.matmul_t((n, k, self.rows), x, &mut out)?;
        Ok((CpuStorage::F32(out), Shape::from((n, self.rows))))
    }
}

/// Blocks of one type in the map of `_owner`.
struct Blocks<T: 'static> {
    blocks: &'static [T],
    _owner: Arc<Checkpoint>,
}

/// `view` is a tensor of `owner`.
fn borrow(owner: &Arc<Checkpoint>, view: &TensorView<'_>) -> Box<dyn QuantizedType> {
    match view.dtype {
        GgmlDType::F32 => blocks::<f32>(owner, view.bytes),
        GgmlDType::F16 => blocks::<f16>(owner, view.bytes),
        GgmlDType::BF16 => blocks::<bf16>(owner, view.bytes),
        GgmlDType::Q4_0 => blocks::<BlockQ4_0>(owner, view.bytes),
        GgmlDType::Q4_1 => blocks::<BlockQ4_1>(owner, view.bytes),
        GgmlDType::Q5_0 => blocks::<BlockQ5_0>(owner, view.bytes),
        GgmlDType::Q5_1 => blocks::<BlockQ5_1>(owner, view.bytes),
        GgmlDType::Q8_0 => blocks::<BlockQ8_0>(owner, view.bytes),
        GgmlDType::Q8_1 => blocks::<BlockQ8_1>(owner, view.bytes),
        GgmlDType::Q2K => blocks::<BlockQ2K>(owner, view.bytes),
        GgmlDType::Q3K => blocks::<BlockQ3K>(owner, view.bytes),
        GgmlDType::Q4K => blocks::<BlockQ4K>(owner, view.bytes),
        GgmlDType::Q5K => blocks::<BlockQ5K>(owner, view.bytes),
        GgmlDType::Q6K => blocks::<BlockQ6K>(owner, view.bytes),
        GgmlDType::Q8K => blocks::<BlockQ8K>(owner, view.bytes),
    }
}

fn blocks<T: GgmlType + 'static>(owner: &Arc<Checkpoint>, bytes: &[u8]) -> Box<dyn QuantizedType> {
    // SAFETY: every type in `borrow` is plain old data for which any bit pattern is a value, and `align_to` yields only
    // whole, aligned elements. The bytes lie in the map of `owner`, which is never written through, has a fixed address
    // and stays mapped while the `Arc` beside the slice lives; the slice never leaves `Blocks`.
    let (before, blocks, after) = unsafe { std::mem::transmute::<&[u8], &'static [u8]>(bytes).align_to() };
    if before.is_empty() && after.is_empty() {
        return Box::new(Blocks::<T> { blocks, _owner: Arc::clone(owner) });
    }
    let mut copy = vec![T::zeros(); bytes.len() / size_of::<T>()];
    // SAFETY: `copy` has room for that many whole elements, any bit pattern is one, and the two do not overlap.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), copy.as_mut_ptr().cast(), size_of_val(&copy[..]));
    }
    Box::new(copy)
}

impl<T: GgmlType> QuantizedType for Blocks<T> {
    fn dtype(&self) -> GgmlDType {
        T::DTYPE
    }

    fn matmul_t(&self, mkn: (usize, usize, usize), x: &[f32], out: &mut [f32]) -> candle_core::Result<()> {
        k_quants::matmul(mkn, x, self.blocks, out)
    }

    fn matmul_t_f16(
        &self,
        mkn: (usize, usize, usize),
        x: &[f16],
        out: &mut [f16],
    ) -> candle_core::Result<()> {
        k_quants::matmul_f16(mkn, x, self.blocks, out)
    }

    fn embedding(&self, ids: &[u32], rows: usize, columns: usize) -> candle_core::Result<CpuStorage> {
        let blocks_in_row = columns / T::BLCK_SIZE;
        let mut out = vec![0f32; ids.len() * columns];
        for (id, out) in ids.iter().zip(out.chunks_exact_mut(columns)) {
            let row = *id as usize;
            if row >= rows {
                candle_core::bail!("row {row} of a matrix of {rows}");
            }
            T::to_float(&self.blocks[row * blocks_in_row..][..blocks_in_row], out);
        }
        Ok(CpuStorage::F32(out))
    }

    fn dequantize(&self, elements: usize) -> candle_core::Result<CpuStorage> {
        let mut out = vec![0f32; elements];
        T::to_float(self.blocks, &mut out);
        Ok(CpuStorage::F32(out))
    }

    fn storage_size_in_bytes(&self) -> usize {
        size_of_val(self.blocks)
    }

    fn as_ptr(&self) -> *const u8 {
        self.blocks.as_ptr().cast()
    }

    fn block_size(&self) -> usize {
        T::BLCK_SIZE
    }

    fn from_float(&mut self, _: &[f32]) {
        unreachable!("nothing quantises into a read-only map");
    }

    fn from_float_imatrix(&mut self, _: &[f32], _: &[f32], _: usize) {
        unreachable!("nothing quantises into a read-only map");
    }

    fn size(&self) -> usize {
        size_of_val(self.blocks)
    }
}
