//! Blocks of any type candle reads, turned to f32 by candle's own routines, without copying the blocks.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K, BlockQ8_0,
    BlockQ8_1, BlockQ8K, GgmlType,
};
use half::{bf16, f16};

/// Writes the elements of `bytes`, whole blocks of `dtype`, to `out`.
///
/// # Panics
/// Where `out` has another length than the blocks have elements, or blocks are not aligned (GGUF's are).
pub(super) fn dequantise(dtype: GgmlDType, bytes: &[u8], out: &mut [f32]) {
    let blocks = bytes.len() / dtype.type_size();
    assert_eq!(
        out.len(),
        blocks * dtype.block_size(),
        "room for the elements of {blocks} blocks of {dtype:?}"
    );
    match dtype {
        GgmlDType::F32 => numbers(bytes, out, f32::from_le_bytes),
        GgmlDType::F16 => numbers(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        GgmlDType::BF16 => numbers(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        GgmlDType::Q4_0 => quantised::<BlockQ4_0>(bytes, out),
        GgmlDType::Q4_1 => quantised::<BlockQ4_1>(bytes, out),
        GgmlDType::Q5_0 => quantised::<BlockQ5_0>(bytes, out),
        GgmlDType::Q5_1 => quantised::<BlockQ5_1>(bytes, out),
        GgmlDType::Q8_0 => quantised::<BlockQ8_0>(bytes, out),
        GgmlDType::Q8_1 => quantised::<BlockQ8_1>(bytes, out),
        GgmlDType::Q2K => quantised::<BlockQ2K>(bytes, out),
        GgmlDType::Q3K => quantised::<BlockQ3K>(bytes, out),
        GgmlDType::Q4K => quantised::<BlockQ4K>(bytes, out),
        GgmlDType::Q5K => quantised::<BlockQ5K>(bytes, out),
        GgmlDType::Q6K => quantised::<BlockQ6K>(bytes, out),
        GgmlDType::Q8K => quantised::<BlockQ8K>(bytes, out),
    }
}

/// Plain numbers are read byte by byte: safetensors promises them no alignment.
fn numbers<const N: usize>(bytes: &[u8], out: &mut [f32], read: impl Fn([u8; N]) -> f32) {
    let (chunks, _) = bytes.as_chunks::<N>();
    for (value, &chunk) in out.iter_mut().zip(chunks) {
        *value = read(chunk);
    }
}

#[expect(unsafe_code, reason = "candle's block types take no bytes")]
fn quantised<B: GgmlType>(bytes: &[u8], out: &mut [f32]) {
    assert!(
        bytes.len().is_multiple_of(size_of::<B>()) && bytes.as_ptr().cast::<B>().is_aligned(),
        "whole, aligned blocks"
    );
    // SAFETY: the length and the alignment were checked; candle's blocks are `repr(C)` structs of integers and half
    // floats without padding (their sizes are asserted there), for which every bit pattern is valid.
    let blocks =
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast::<B>(), bytes.len() / size_of::<B>()) };
    B::to_float(blocks, out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::QTensor;
    use candle_core::{Device, Tensor};

    #[test]
    fn every_type_agrees_with_candle() {
        let values: Vec<f32> = (0..512).map(|i| ((i * 37 % 101) as f32 - 50.0) / 17.0).collect();
        let tensor = Tensor::from_vec(values, (2, 256), &Device::Cpu).expect("a tensor");
        use GgmlDType::*;
        for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1, Q2K, Q3K, Q4K, Q5K, Q6K, Q8K] {
            let quantised = QTensor::quantize(&tensor, dtype).expect("quantised");
            let expected = quantised.dequantize(&Device::Cpu).and_then(|t| t.flatten_all()?.to_vec1::<f32>());
            let mut found = vec![0.0; 512];
            dequantise(dtype, &quantised.data().expect("its bytes"), &mut found);
            assert_eq!(found, expected.expect("candle's numbers"), "{dtype:?}");
        }
    }
}
