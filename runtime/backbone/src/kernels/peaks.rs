//! What this machine can do at most: the roofline that speeds are told against.
//!
//! Each peak is the best of several short runs on one thread of a loop that does nothing else, so other load on the
//! machine lowers it less than an average. Together they take about a third of a second.

#![expect(unsafe_code, reason = "measuring loops of intrinsics, and an anonymous map")]

use super::tier::Tier;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Peaks of one thread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peaks {
    /// 8-bit integer dot products of the tier in use, operations a second (a multiply and an addition are two).
    pub int8: f64,
    /// bf16 dot products, operations a second, where the CPU has them.
    pub bf16: Option<f64>,
    /// Fused f32 multiply-adds, operations a second.
    pub f32: f64,
    /// Reading memory far larger than the caches' private parts, bytes a second.
    pub read: f64,
}

/// Bytes that the reading loop goes over.
pub const READ_BYTES: usize = 1 << 30;

/// Measures the peaks on this thread.
pub fn peaks() -> Peaks {
    Peaks { int8: int8(), bf16: bf16(), f32: f32(), read: read(READ_BYTES) }
}

/// Best of `runs` times of `work`, seconds.
fn best(runs: usize, mut work: impl FnMut()) -> f64 {
    let mut best = Duration::MAX;
    for _ in 0..runs {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed());
    }
    best.as_secs_f64()
}

/// Rounds of a measuring loop.
const ROUNDS: usize = 200_000;
/// Independent registers of a measuring loop: enough to hide the latency of two units.
const CHAINS: usize = 16;

fn rate(operations_a_round: usize, work: impl FnMut()) -> f64 {
    (operations_a_round * CHAINS * ROUNDS) as f64 / best(8, work)
}

#[cfg(target_arch = "x86_64")]
mod loops {
    use super::{CHAINS, ROUNDS};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    macro_rules! measuring_loop {
        ($name:ident, $features:literal, $chain:expr, |$total:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            pub fn $name() {
                let mut totals = [$chain; CHAINS];
                for _ in 0..ROUNDS {
                    for $total in &mut totals {
                        *$total = $step;
                    }
                }
                black_box(totals);
            }
        };
    }

    measuring_loop!(int8_512, "avx512f,avx512vnni", _mm512_setzero_si512(), |total| {
        _mm512_dpbusd_epi32(*total, _mm512_set1_epi8(3), _mm512_set1_epi8(5))
    });
    measuring_loop!(int8_256, "avx2,avxvnni", _mm256_setzero_si256(), |total| {
        _mm256_dpbusd_avx_epi32(*total, _mm256_set1_epi8(3), _mm256_set1_epi8(5))
    });
    measuring_loop!(f32_512, "avx512f", _mm512_setzero_ps(), |total| {
        _mm512_fmadd_ps(*total, _mm512_set1_ps(0.5), _mm512_set1_ps(1.5))
    });
    measuring_loop!(f32_256, "avx2,fma", _mm256_setzero_ps(), |total| {
        _mm256_fmadd_ps(*total, _mm256_set1_ps(0.5), _mm256_set1_ps(1.5))
    });

    /// As the others, with operands that have no constructor from bits of their own.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn bf16() {
        let half = bits(_mm512_cvtneps_pbh(_mm512_set1_ps(0.5)));
        let operand = pairs(_mm512_broadcast_i64x4(half));
        let mut totals = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..ROUNDS {
            for total in &mut totals {
                *total = _mm512_dpbf16_ps(*total, operand, operand);
            }
        }
        black_box(totals);
    }

    fn bits(operand: __m256bh) -> __m256i {
        // SAFETY: both are 32 bytes of plain bits.
        unsafe { std::mem::transmute(operand) }
    }

    fn pairs(operand: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes of plain bits.
        unsafe { std::mem::transmute(operand) }
    }
}

fn int8() -> f64 {
    match Tier::best() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier was found on this CPU.
        Tier::Avx512Vnni => rate(128, || unsafe { loops::int8_512() }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::AvxVnni => rate(64, || unsafe { loops::int8_256() }),
        _ => portable_int8(),
    }
}

fn f32() -> f64 {
    match Tier::best() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier was found on this CPU.
        Tier::Avx512Vnni => rate(32, || unsafe { loops::f32_512() }),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Tier::AvxVnni | Tier::Avx2 => rate(16, || unsafe { loops::f32_256() }),
        _ => portable_f32(),
    }
}

fn bf16() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") {
        // SAFETY: just found; every CPU with it has AVX-512F.
        return Some(rate(64, || unsafe { loops::bf16() }));
    }
    None
}

/// Dot products over arrays that fit the first cache, as the compiler makes them.
fn portable_int8() -> f64 {
    let (a, b) = (black_box([3u8; 4096]), black_box([5i8; 4096]));
    let dot = || a.iter().zip(&b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum::<i32>();
    2.0 * 4096.0 * 100.0
        / best(8, || {
            (0..100).for_each(|_| {
                black_box(dot());
            })
        })
}

fn portable_f32() -> f64 {
    let (a, mut b) = (black_box([0.5f32; 4096]), black_box([1.5f32; 4096]));
    let work = || {
        for _ in 0..100 {
            b.iter_mut().zip(&a).for_each(|(b, a)| *b = *b * 0.5 + a);
            black_box(&mut b);
        }
    };
    2.0 * 4096.0 * 100.0 / best(8, work)
}

/// Bytes a second of reading `bytes` bytes of memory; 0 where the system gives no memory.
fn read(bytes: usize) -> f64 {
    let Ok(mut map) = memmap2::MmapMut::map_anon(bytes) else { return 0.0 };
    // Huge pages where the system has them: the page walks of small ones are not the memory's.
    let _ = map.advise(memmap2::Advice::HugePage);
    map.chunks_mut(4096).for_each(|page| page[0] = 1);
    let words = map.as_chunks::<64>().0;
    bytes as f64
        / best(3, || {
            black_box(sum_of(words));
        })
}

fn sum_of(lines: &[[u8; 64]]) -> u64 {
    match Tier::best() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the tier was found on this CPU.
        Tier::Avx512Vnni | Tier::AvxVnni | Tier::Avx2 => unsafe { sum_avx2(lines) },
        _ => sum_lines(lines),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(lines: &[[u8; 64]]) -> u64 {
    sum_lines(lines)
}

#[inline(always)]
fn sum_lines(lines: &[[u8; 64]]) -> u64 {
    let mut sums = [0u64; 32];
    for four in lines.as_chunks::<4>().0 {
        for (sum, word) in sums.iter_mut().zip(four.as_flattened().as_chunks::<8>().0) {
            *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
        }
    }
    sums.iter().fold(0, |total, sum| total.wrapping_add(*sum))
}
