//! The KV pages as tensors on the device: for each layer a tensor of keys and one of values, `[slots, kv_heads,
//! head_dim]`, where slot `page * PAGE_TOKENS + i` is the `i`-th position of a page.

use crate::executor::{PAGE_TOKENS, PageId};
use crate::model::ModelConfig;
use candle_core::{DType, Device, Result, Tensor};
use half::{bf16, f16};

/// Keys and values of all pages.
pub struct Cache {
    layers: Vec<[Tensor; 2]>,
    pages: u32,
    dtype: DType,
}

/// Where the positions of one run lie.
pub struct Place {
    /// Slots of the positions `0..start + count`, `[start + count]`.
    slots: Tensor,
    /// The new positions in runs of consecutive slots: first slot, first row, rows.
    writes: Vec<(usize, usize, usize)>,
}

impl Place {
    /// The place of positions `start..start + count` in `pages`, which cover them.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn new(pages: &[PageId], start: usize, count: usize, device: &Device) -> Result<Self> {
        let slot =
            |position: usize| pages[position / PAGE_TOKENS].0 as usize * PAGE_TOKENS + position % PAGE_TOKENS;
        let slots: Vec<u32> = (0..start + count).map(|position| slot(position) as u32).collect();
        let mut writes = Vec::new();
        let mut row = 0;
        while row < count {
            let rows = (PAGE_TOKENS - (start + row) % PAGE_TOKENS).min(count - row);
            writes.push((slot(start + row), row, rows));
            row += rows;
        }
        Ok(Self { slots: Tensor::from_vec(slots, start + count, device)?, writes })
    }
}

impl Cache {
    /// `pages` pages of zeros.
    ///
    /// # Errors
    /// Only those of the device: no memory.
    pub fn new(config: &ModelConfig, pages: u32, dtype: DType, device: &Device) -> Result<Self> {
        let shape = (pages as usize * PAGE_TOKENS, config.kv_heads, config.head_dim);
        let side = || Tensor::zeros(shape, dtype, device);
        let layers = (0..config.layers).map(|_| Ok([side()?, side()?])).collect::<Result<_>>()?;
        Ok(Self { layers, pages, dtype })
    }

    /// Pages there are.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// What keys and values are kept as.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Writes a run's new keys and values (`[count, kv_heads, head_dim]`) and gives those of all its positions, f32.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn extend(&self, layer: usize, place: &Place, new: [&Tensor; 2]) -> Result<[Tensor; 2]> {
        let side = |side: usize| {
            let kept = &self.layers[layer][side];
            let new = new[side].to_dtype(kept.dtype())?.contiguous()?;
            for &(slot, row, rows) in &place.writes {
                kept.slice_set(&new.narrow(0, row, rows)?, 0, slot)?;
            }
            kept.index_select(&place.slots, 0)?.to_dtype(DType::F32)
        };
        Ok([side(0)?, side(1)?])
    }

    /// Copies a page.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn copy(&self, from: PageId, to: PageId) -> Result<()> {
        // Copied out first: a tensor cannot be written from a view of itself.
        self.sides().try_for_each(|kept| kept.slice_set(&page_of(kept, from)?.copy()?, 0, first_slot(to)))
    }

    /// Fills a page with zeros.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn clear(&self, page: PageId) -> Result<()> {
        self.sides()
            .try_for_each(|kept| kept.slice_set(&page_of(kept, page)?.zeros_like()?, 0, first_slot(page)))
    }

    /// Appends a page's bytes, layer by layer, keys before values.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn export(&self, page: PageId, out: &mut Vec<u8>) -> Result<()> {
        self.sides().try_for_each(|kept| append_bytes(&page_of(kept, page)?, out))
    }

    /// Fills a page from the bytes of [`Cache::export`].
    ///
    /// # Errors
    /// Only those of the device.
    pub fn import(&self, page: PageId, bytes: &[u8]) -> Result<()> {
        let of_a_side = bytes.len() / (2 * self.layers.len());
        self.sides().zip(bytes.chunks_exact(of_a_side)).try_for_each(|(kept, bytes)| {
            let shape = page_of(kept, page)?.shape().clone();
            let values = Tensor::from_raw_buffer(bytes, kept.dtype(), shape.dims(), kept.device())?;
            kept.slice_set(&values, 0, first_slot(page))
        })
    }

    fn sides(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flatten()
    }
}

fn first_slot(page: PageId) -> usize {
    page.0 as usize * PAGE_TOKENS
}

fn page_of(kept: &Tensor, page: PageId) -> Result<Tensor> {
    kept.narrow(0, first_slot(page), PAGE_TOKENS)
}

fn append_bytes(values: &Tensor, out: &mut Vec<u8>) -> Result<()> {
    let values = values.flatten_all()?;
    match values.dtype() {
        DType::F16 => values.to_vec1::<f16>()?.iter().for_each(|value| out.extend(value.to_le_bytes())),
        DType::BF16 => values.to_vec1::<bf16>()?.iter().for_each(|value| out.extend(value.to_le_bytes())),
        _ => values.to_vec1::<f32>()?.iter().for_each(|value| out.extend(value.to_le_bytes())),
    }
    Ok(())
}
