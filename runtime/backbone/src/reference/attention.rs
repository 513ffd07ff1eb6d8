//! Norms and attention, as plain tensor expressions.

use candle_core::{D, Device, Result, Tensor};

/// `x / rms(x) * weight` over the last dimension.
///
/// # Errors
/// Only those of the device.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f32) -> Result<Tensor> {
    let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
    let rms = mean_square.affine(1.0, f64::from(eps))?.sqrt()?;
    x.broadcast_div(&rms)?.broadcast_mul(weight)
}

/// What the rows of one run see: 0 where visible, minus infinity elsewhere, `[count, start + count]`.
///
/// # Errors
/// Only those of the device.
pub fn mask(start: usize, count: usize, window: Option<usize>, device: &Device) -> Result<Tensor> {
    let seen = |row: usize, column: usize| {
        let position = start + row;
        column <= position && window.is_none_or(|window| position - column < window)
    };
    let total = start + count;
    let values: Vec<f32> = (0..count * total)
        .map(|at| if seen(at / total, at % total) { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    Tensor::from_vec(values, (count, total), device)
}

/// Attention of one run: `q` `[count, heads, head_dim]` over `k` and `v` `[total, kv_heads, head_dim]`, all f32; gives
/// `[count, heads * head_dim]`. Query head `h` reads key head `h / (heads / kv_heads)`.
///
/// # Errors
/// Only those of the device.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, scale: f32) -> Result<Tensor> {
    let ((count, heads, head_dim), (total, kv_heads, _)) = (q.dims3()?, k.dims3()?);
    let group = heads / kv_heads;
    let q = q.reshape((count, kv_heads, group, head_dim))?.permute((1, 2, 0, 3))?.contiguous()?;
    let q = q.reshape((kv_heads, group * count, head_dim))?;
    let k = k.permute((1, 2, 0))?.contiguous()?;
    let v = v.permute((1, 0, 2))?.contiguous()?;
    let scores = (q.matmul(&k)? * f64::from(scale))?.reshape((kv_heads, group, count, total))?;
    let shares = softmax(&scores.broadcast_add(mask)?)?.reshape((kv_heads, group * count, total))?;
    let mixed = shares.matmul(&v)?.reshape((kv_heads, group, count, head_dim))?;
    mixed.permute((2, 0, 1, 3))?.contiguous()?.reshape((count, heads * head_dim))
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    let weights = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
    weights.broadcast_div(&weights.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_counts_the_row_itself() {
        let mask = mask(2, 2, Some(2), &Device::Cpu).expect("mask").to_vec2::<f32>().expect("rows");
        let hidden = f32::NEG_INFINITY;
        assert_eq!(mask, [[hidden, 0.0, 0.0, hidden], [hidden, hidden, 0.0, 0.0]]);
    }

    #[test]
    fn query_heads_share_key_heads_in_order() {
        let device = Device::Cpu;
        // One position, so attention gives back the value of the key head that each query head reads.
        let q = Tensor::ones((1, 4, 2), candle_core::DType::F32, &device).expect("q");
        let v = Tensor::new(&[[[1f32, 2.0], [3.0, 4.0]]], &device).expect("v");
        let mask = mask(0, 1, None, &device).expect("mask");
        let out = attend(&q, &v, &v, &mask, 1.0).expect("out").to_vec2::<f32>().expect("rows");
        assert_eq!(out, [[1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]]);
    }
}
