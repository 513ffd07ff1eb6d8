//! The model's weights as this executor holds them: dense tensors on a device, or matrices left in the map.

use super::mapped::Mapped;
use crate::checkpoint::{Checkpoint, Part, TensorView, Weight};
use crate::error::{Error, Result};
use crate::site::{Module, Site};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{DType, Device, Tensor};
use std::borrow::Cow;
use std::sync::Arc;

/// Where the matrices are to lie.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// Dequantised to a type on a device.
    Device(&'a Device, DType),
    /// In the map, on the CPU.
    Map(&'a Arc<Checkpoint>),
}

impl Place<'_> {
    fn device(&self) -> &Device {
        match self {
            Self::Device(device, _) => device,
            Self::Map(_) => &Device::Cpu,
        }
    }
}

/// A matrix `[out, in]`, its bias, and the order of its rows.
pub struct Linear {
    matrix: Matrix,
    /// Of a matrix in the map with llama.cpp's row order: the place of each Hugging Face row.
    order: Option<Tensor>,
    /// In Hugging Face order.
    pub bias: Option<Tensor>,
}

enum Matrix {
    Dense(Tensor),
    Mapped(Mapped),
}

impl Linear {
    /// `x` (f32 `[n, in]`) times the matrix, f32 `[n, out]` in Hugging Face order, without the bias.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn product(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = match &self.matrix {
            Matrix::Dense(matrix) => dense_product(x, matrix)?,
            Matrix::Mapped(mapped) => mapped.product(x)?,
        };
        match &self.order {
            Some(order) => y.index_select(order, 1),
            None => Ok(y),
        }
    }

    /// The rows `ids` (in Hugging Face order), f32 `[ids, in]`.
    ///
    /// # Errors
    /// Those of the device, and an id past the rows.
    pub fn gather(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        let ids = match &self.order {
            Some(order) => order.index_select(ids, 0)?,
            None => ids.clone(),
        };
        match &self.matrix {
            Matrix::Dense(matrix) => matrix.index_select(&ids, 0)?.to_dtype(DType::F32),
            Matrix::Mapped(mapped) => mapped.gather(&ids.to_vec1()?),
        }
    }
}

/// `x` times a dense `[out, in]` matrix, computed in the matrix's type, f32 out.
///
/// # Errors
/// Only those of the device.
pub fn dense_product(x: &Tensor, matrix: &Tensor) -> candle_core::Result<Tensor> {
    x.to_dtype(matrix.dtype())?.matmul(&matrix.t()?)?.to_dtype(DType::F32)
}

/// A transformer block's weights; vectors are f32 with the family's offset folded in.
pub struct Block {
    linears: Vec<Linear>,
    /// Norm before attention.
    pub attn_norm: Tensor,
    /// Norm before the feed-forward.
    pub ffn_norm: Tensor,
    /// Norm of the attention's output.
    pub post_attn_norm: Option<Tensor>,
    /// Norm of the feed-forward's output.
    pub post_ffn_norm: Option<Tensor>,
    /// Norm of each query head.
    pub q_norm: Option<Tensor>,
    /// Norm of each key head.
    pub k_norm: Option<Tensor>,
}

/// All weights.
pub struct Weights {
    embed: Linear,
    head: Option<Linear>,
    /// The blocks in order.
    pub blocks: Vec<Block>,
    /// Norm before the head.
    pub final_norm: Tensor,
}

impl Weights {
    /// Brings a model's weights to `place`.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a tensor that the family needs and the files lack, and those of the device.
    pub fn load(checkpoint: &Checkpoint, place: Place<'_>) -> Result<Self> {
        let loader = Loader { checkpoint, place };
        let config = checkpoint.config();
        let head = if config.tied { None } else { Some(loader.linear(Weight::Head, None, None)?) };
        Ok(Self {
            embed: loader.linear(Weight::Embed, None, None)?,
            head,
            blocks: (0..config.layers as u32).map(|layer| loader.block(layer)).collect::<Result<_>>()?,
            final_norm: loader.norm(Weight::FinalNorm)?,
        })
    }

    /// The matrix at a site; a tied model's head is its embedding.
    pub fn linear(&self, site: Site) -> &Linear {
        match site {
            Site::Embed => &self.embed,
            Site::Head => self.head.as_ref().unwrap_or(&self.embed),
            Site::Block(layer, module) => &self.blocks[layer as usize].linears[module.index()],
        }
    }
}

struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    place: Place<'a>,
}

impl Loader<'_> {
    fn block(&self, layer: u32) -> Result<Block> {
        let vector = |part| self.optional_norm(Weight::Block(layer, part));
        Ok(Block {
            linears: Module::ALL
                .iter()
                .map(|module| self.block_linear(layer, *module))
                .collect::<Result<_>>()?,
            attn_norm: self.norm(Weight::Block(layer, Part::AttnNorm))?,
            ffn_norm: self.norm(Weight::Block(layer, Part::FfnNorm))?,
            post_attn_norm: vector(Part::PostAttnNorm)?,
            post_ffn_norm: vector(Part::PostFfnNorm)?,
            q_norm: vector(Part::QNorm)?,
            k_norm: vector(Part::KNorm)?,
        })
    }

    fn block_linear(&self, layer: u32, module: Module) -> Result<Linear> {
        let interleaved = self.checkpoint.rows_interleaved() && matches!(module, Module::Q | Module::K);
        let (rows, _) = self.checkpoint.config().shape(Site::Block(layer, module));
        let order = interleaved.then(|| row_order(rows, self.checkpoint.config().head_dim));
        let order = order.map(|order| Tensor::new(order, self.place.device())).transpose()?;
        let bias = Weight::Block(layer, Part::Bias(module));
        self.linear(Weight::Block(layer, Part::Linear(module)), Some(bias), order)
    }

    fn linear(&self, weight: Weight, bias: Option<Weight>, order: Option<Tensor>) -> Result<Linear> {
        let bias = bias.map(|bias| self.vector(bias)).transpose()?.flatten();
        let bias = match (bias, &order) {
            (Some(bias), Some(order)) => Some(bias.index_select(order, 0)?),
            (bias, _) => bias,
        };
        match self.place {
            Place::Map(owner) => {
                let mapped = Mapped::new(owner, weight)?.ok_or_else(|| missing(weight))?;
                Ok(Linear { matrix: Matrix::Mapped(mapped), order, bias })
            }
            Place::Device(device, dtype) => {
                let view = self.checkpoint.weight(weight)?.ok_or_else(|| missing(weight))?;
                let mut matrix = dequantised(&view, device)?;
                if let Some(order) = &order {
                    matrix = matrix.index_select(order, 0)?;
                }
                Ok(Linear { matrix: Matrix::Dense(matrix.to_dtype(dtype)?), order: None, bias })
            }
        }
    }

    fn norm(&self, weight: Weight) -> Result<Tensor> {
        self.optional_norm(weight)?.ok_or_else(|| missing(weight))
    }

    fn optional_norm(&self, weight: Weight) -> Result<Option<Tensor>> {
        let offset = f64::from(self.checkpoint.norm_offset());
        self.vector(weight)?.map(|values| Ok(values.affine(1.0, offset)?)).transpose()
    }

    fn vector(&self, weight: Weight) -> Result<Option<Tensor>> {
        let view = self.checkpoint.weight(weight)?;
        view.map(|view| Ok(dequantised(&view, self.place.device())?.flatten_all()?)).transpose()
    }
}

fn missing(weight: Weight) -> Error {
    Error::NotFound {
        what: format!("{weight:?}"),
        hint: "the model's files lack it: fetch them again, or check that they belong together".to_owned(),
    }
}

/// For each row in Hugging Face order (`h*d + j*d/2 + i`), its place in llama.cpp's order (`h*d + 2*i + j`).
fn row_order(rows: usize, head_dim: usize) -> Vec<u32> {
    let half = head_dim / 2;
    let place = |row: usize| {
        let (head, within) = (row / head_dim, row % head_dim);
        (head * head_dim + 2 * (within % half) + within / half) as u32
    };
    (0..rows).map(place).collect()
}

/// A tensor's values, f32 `[rows, columns]` on `device`.
fn dequantised(view: &TensorView<'_>, device: &Device) -> Result<Tensor> {
    let shape = [view.rows, view.columns];
    let plain = match view.dtype {
        GgmlDType::F32 => Some(DType::F32),
        GgmlDType::F16 => Some(DType::F16),
        GgmlDType::BF16 => Some(DType::BF16),
        _ => None,
    };
    let values = match plain {
        Some(dtype) => {
            Tensor::from_raw_buffer(view.bytes, dtype, &shape, &Device::Cpu)?.to_dtype(DType::F32)?
        }
        None => {
            let blocks = QStorage::from_data(Cow::Borrowed(view.bytes), &Device::Cpu, view.dtype)?;
            QTensor::new(blocks, &shape)?.dequantize(&Device::Cpu)?
        }
    };
    Ok(values.to_device(device)?)
}

#[cfg(test)]
mod tests {
    use super::row_order;

    #[test]
    fn halves_of_a_head_are_interleaved_in_the_file() {
        assert_eq!(row_order(8, 4), [0, 2, 1, 3, 4, 6, 5, 7]);
    }
}
