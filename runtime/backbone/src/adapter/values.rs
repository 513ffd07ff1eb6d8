//! Elements of adapter matrices: widened to f32, and looked over for numbers that are none.

use super::Dtype;
use half::{bf16, f16};

impl Dtype {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// Widens elements in the file's byte order (little-endian) to f32.
pub(crate) fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (value, &bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *value = f32::from_le_bytes(bytes);
            }
        }
        Dtype::F16 => {
            for (value, &bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = f16::from_le_bytes(bytes).to_f32();
            }
        }
        Dtype::Bf16 => {
            for (value, &bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *value = bf16::from_le_bytes(bytes).to_f32();
            }
        }
    }
}

/// Largest absolute value; NaN and infinities come out as infinity.
pub(crate) fn magnitude_max(dtype: Dtype, bytes: &[u8]) -> f32 {
    // Without the sign, the bits of a float order as integers do, and all that is not finite lies above.
    let wide = || bytes.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes) & 0x7fff_ffff);
    let narrow = || bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes) & 0x7fff);
    let max = match dtype {
        Dtype::F32 => f32::from_bits(wide().max().unwrap_or(0)),
        Dtype::F16 => f16::from_bits(narrow().max().unwrap_or(0)).to_f32(),
        Dtype::Bf16 => bf16::from_bits(narrow().max().unwrap_or(0)).to_f32(),
    };
    if max.is_finite() { max } else { f32::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_types_widen_and_show_what_is_not_finite() {
        let halves: Vec<u8> =
            [1.5, -2.0, f32::NAN].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let brains: Vec<u8> = [1.5, -2.0].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
        let floats: Vec<u8> = [1.5f32, f32::NEG_INFINITY].iter().flat_map(|x| x.to_le_bytes()).collect();
        let mut out = [0.0; 2];
        for (dtype, bytes) in [(Dtype::F16, &halves), (Dtype::Bf16, &brains)] {
            widen(dtype, bytes, &mut out);
            assert_eq!(out, [1.5, -2.0]);
            assert_eq!(magnitude_max(dtype, &bytes[..4]), 2.0);
        }
        assert_eq!(magnitude_max(Dtype::F16, &halves), f32::INFINITY);
        assert_eq!(magnitude_max(Dtype::F32, &floats), f32::INFINITY);
        assert_eq!(magnitude_max(Dtype::F32, &floats[..4]), 1.5);
        assert_eq!(magnitude_max(Dtype::F32, &[]), 0.0);
    }
}
