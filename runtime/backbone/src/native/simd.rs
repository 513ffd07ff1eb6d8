//! Sixteen f32 lanes on three kinds of machine, behind one trait.
//!
//! The bodies of [`super::ops`] and [`super::attention`] are written once over [`Lanes`] and compiled for AVX-512, AVX2
//! and portable Rust. Integer matrix products are not here: they have kernels of their own in [`crate::kernels`].

#![expect(unsafe_code, reason = "vector registers are loaded from and stored to raw memory")]

use half::{bf16, f16};

/// Lanes of one value.
pub const LANES: usize = 16;

/// Sixteen f32 values.
///
/// # Safety
/// Every method needs the CPU features of its type, and pointers to sixteen readable (or writable) elements.
pub unsafe trait Lanes: Copy {
    /// All lanes `value`.
    unsafe fn splat(value: f32) -> Self;
    /// From sixteen f32.
    unsafe fn load(from: *const f32) -> Self;
    /// From sixteen f16.
    unsafe fn load_f16(from: *const f16) -> Self;
    /// From sixteen bf16.
    unsafe fn load_bf16(from: *const bf16) -> Self;
    /// From sixteen i8.
    unsafe fn load_i8(from: *const i8) -> Self;
    /// To sixteen f32.
    unsafe fn store(self, to: *mut f32);
    /// Lane sums.
    unsafe fn add(self, other: Self) -> Self;
    /// Lane differences.
    unsafe fn sub(self, other: Self) -> Self;
    /// Lane products.
    unsafe fn mul(self, other: Self) -> Self;
    /// Lane quotients.
    unsafe fn div(self, other: Self) -> Self;
    /// `self * other + sum`.
    unsafe fn fma(self, other: Self, sum: Self) -> Self;
    /// Larger of each lane.
    unsafe fn max(self, other: Self) -> Self;
    /// Smaller of each lane.
    unsafe fn min(self, other: Self) -> Self;
    /// Nearest integers, ties to even.
    unsafe fn round(self) -> Self;
    /// `self * 2^exponent` for whole exponents in -126..=127.
    unsafe fn scale_by_power(self, exponent: Self) -> Self;
    /// Sum of the lanes, in a fixed order.
    unsafe fn sum(self) -> f32;
    /// Largest lane.
    unsafe fn largest(self) -> f32;

    /// e^x of each lane, within 2 units in the last place for x in -87..=88; clamped outside.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        // Cephes: x = n ln2 + r, |r| <= ln2 / 2, then a polynomial of degree 5 for e^r.
        unsafe {
            let x = self.max(Self::splat(-87.0)).min(Self::splat(88.0));
            let n = x.mul(Self::splat(std::f32::consts::LOG2_E)).round();
            let r = n.fma(Self::splat(-0.693_359_4), x);
            let r = n.fma(Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 5e-1] {
                p = p.fma(r, Self::splat(c));
            }
            let e = p.fma(r.mul(r), r).add(Self::splat(1.0));
            e.scale_by_power(n)
        }
    }
}

/// Portable lanes.
#[derive(Clone, Copy)]
pub struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| f(self.0[lane], other.0[lane])))
    }
}

// SAFETY: plain Rust needs no CPU feature.
unsafe impl Lanes for Plain {
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller gives sixteen elements; so below.
        Self(std::array::from_fn(|lane| unsafe { *from.add(lane) }))
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        Self(std::array::from_fn(|lane| unsafe { *from.add(lane) }.to_f32()))
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        Self(std::array::from_fn(|lane| unsafe { *from.add(lane) }.to_f32()))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(std::array::from_fn(|lane| f32::from(unsafe { *from.add(lane) })))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller gives sixteen elements.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn fma(self, other: Self, sum: Self) -> Self {
        // Without the instruction a fused multiply-add is a slow library call: round twice.
        Self(std::array::from_fn(|lane| self.0[lane] * other.0[lane] + sum.0[lane]))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    unsafe fn scale_by_power(self, exponent: Self) -> Self {
        self.zip(exponent, |value, power| {
            let bits = ((power as i32 + 127) as u32) << 23;
            value * f32::from_bits(bits)
        })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a })
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The lanes of x86-64: one 512-bit register, or two of 256.

    use super::{Lanes, bf16, f16};
    use std::arch::x86_64::*;

    /// One 512-bit register. Needs avx512f, avx512bw, avx512dq, avx512vl.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    /// Two 256-bit registers. Needs avx2, fma, f16c.
    #[derive(Clone, Copy)]
    pub struct Avx2(__m256, __m256);

    // SAFETY: the caller has checked the CPU features and the pointers, as the trait says.
    unsafe impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm512_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm512_loadu_ps(from)) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            unsafe {
                let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide)))
            }
        }
        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))) }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Self(_mm512_div_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn fma(self, other: Self, sum: Self) -> Self {
            unsafe { Self(_mm512_fmadd_ps(self.0, other.0, sum.0)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Self(_mm512_min_ps(self.0, other.0)) }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            unsafe { Self(_mm512_roundscale_ps::<0>(self.0)) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(self, exponent: Self) -> Self {
            unsafe { Self(_mm512_scalef_ps(self.0, exponent.0)) }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe { _mm512_reduce_add_ps(self.0) }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe { _mm512_reduce_max_ps(self.0) }
        }
    }

    // SAFETY: as above.
    unsafe impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            unsafe { Self(_mm256_set1_ps(value), _mm256_set1_ps(value)) }
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
        }
        #[inline(always)]
        unsafe fn load_f16(from: *const f16) -> Self {
            unsafe {
                let low = _mm_loadu_si128(from.cast());
                let high = _mm_loadu_si128(from.add(8).cast());
                Self(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
            }
        }
        #[inline(always)]
        unsafe fn load_bf16(from: *const bf16) -> Self {
            unsafe {
                let widen = |at: *const bf16| {
                    let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                };
                Self(widen(from), widen(from.add(8)))
            }
        }
        #[inline(always)]
        unsafe fn load_i8(from: *const i8) -> Self {
            unsafe {
                let widen =
                    |at: *const i8| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.cast())));
                Self(widen(from), widen(from.add(8)))
            }
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe {
                _mm256_storeu_ps(to, self.0);
                _mm256_storeu_ps(to.add(8), self.1);
            }
        }
        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            unsafe { Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            unsafe { Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            unsafe { Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            unsafe { Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn fma(self, other: Self, sum: Self) -> Self {
            unsafe { Self(_mm256_fmadd_ps(self.0, other.0, sum.0), _mm256_fmadd_ps(self.1, other.1, sum.1)) }
        }
        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            unsafe { Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            unsafe { Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)) }
        }
        #[inline(always)]
        unsafe fn round(self) -> Self {
            unsafe { Self(_mm256_round_ps::<8>(self.0), _mm256_round_ps::<8>(self.1)) }
        }
        #[inline(always)]
        unsafe fn scale_by_power(self, exponent: Self) -> Self {
            unsafe {
                let power = |e: __m256| {
                    let bits = _mm256_add_epi32(_mm256_cvtps_epi32(e), _mm256_set1_epi32(127));
                    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
                };
                Self(_mm256_mul_ps(self.0, power(exponent.0)), _mm256_mul_ps(self.1, power(exponent.1)))
            }
        }
        #[inline(always)]
        unsafe fn sum(self) -> f32 {
            unsafe {
                let eight = _mm256_add_ps(self.0, self.1);
                let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
            }
        }
        #[inline(always)]
        unsafe fn largest(self) -> f32 {
            unsafe {
                let eight = _mm256_max_ps(self.0, self.1);
                let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
                let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
            }
        }
    }
}
