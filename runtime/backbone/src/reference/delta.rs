//! An adapter's matrices as tensors on the device, and what they do to a product.

use crate::adapter::{Adapter, DeltaView, Dtype, MatrixView};
use crate::model::ModelConfig;
use crate::site::{Module, Site};
use candle_core::{DType, Device, Result, Tensor};
use std::collections::HashMap;

/// A low-rank change of one matrix, f32.
pub struct Delta {
    /// `[rank, in]`; `[vocab, rank]` at the embedding.
    a: Tensor,
    /// `[rank, out]`.
    b: Tensor,
    scale: f64,
    row_scale: Option<Tensor>,
    bias: Option<Tensor>,
}

impl Delta {
    fn new(view: &DeltaView<'_>, device: &Device) -> Result<Self> {
        let vector = |values: Option<&[f32]>| {
            values.map(|values| Tensor::from_slice(values, values.len(), device)).transpose()
        };
        Ok(Self {
            a: matrix(&view.a, device)?,
            b: matrix(&view.b, device)?,
            scale: f64::from(view.scale),
            row_scale: vector(view.row_scale)?,
            bias: vector(view.bias)?,
        })
    }

    /// `row_scale * (base + scale * B (A x)) + bias`, where `base` is the base model's product without its bias.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn apply(&self, x: &Tensor, base: &Tensor) -> Result<Tensor> {
        self.finish(&x.matmul(&self.a.t()?)?, base)
    }

    /// The same at the embedding, where A's product with a token is a row of A.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn apply_to_rows(&self, tokens: &Tensor, base: &Tensor) -> Result<Tensor> {
        self.finish(&self.a.index_select(tokens, 0)?, base)
    }

    fn finish(&self, shrunk: &Tensor, base: &Tensor) -> Result<Tensor> {
        let mut y = (base + (shrunk.matmul(&self.b)? * self.scale)?)?;
        if let Some(row_scale) = &self.row_scale {
            y = y.broadcast_mul(row_scale)?;
        }
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// Everything an adapter changes.
pub struct Deltas {
    deltas: HashMap<Site, Delta>,
    replaced: HashMap<Site, Tensor>,
}

impl Deltas {
    /// Copies an adapter to the device.
    ///
    /// # Errors
    /// Only those of the device: no memory.
    pub fn new(adapter: &Adapter, config: &ModelConfig, device: &Device) -> Result<Self> {
        let mut all = Self { deltas: HashMap::new(), replaced: HashMap::new() };
        for site in sites(config) {
            if let Some(view) = adapter.delta(site) {
                all.deltas.insert(site, Delta::new(&view, device)?);
            }
            if let Some(view) = adapter.replaced(site) {
                all.replaced.insert(site, matrix(&view, device)?);
            }
        }
        Ok(all)
    }

    /// The change at a site.
    pub fn delta(&self, site: Site) -> Option<&Delta> {
        self.deltas.get(&site)
    }

    /// The matrix that takes the base model's place at a site, f32 `[vocab, width]`.
    pub fn replaced(&self, site: Site) -> Option<&Tensor> {
        self.replaced.get(&site)
    }
}

fn sites(config: &ModelConfig) -> impl Iterator<Item = Site> {
    let blocks =
        (0..config.layers as u32).flat_map(|layer| Module::ALL.map(|module| Site::Block(layer, module)));
    [Site::Embed, Site::Head].into_iter().chain(blocks)
}

fn matrix(view: &MatrixView<'_>, device: &Device) -> Result<Tensor> {
    let dtype = match view.dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::Bf16 => DType::BF16,
    };
    Tensor::from_raw_buffer(view.bytes, dtype, &[view.rows, view.columns], device)?.to_dtype(DType::F32)
}
