//! The products with 512-bit integer dot products: 16 rows of weights are the 16 lanes of a register.
//!
//! A block of up to six rows of activations and two panels stays in registers: each line of weights is unpacked once
//! for the block, each broadcast of four activations feeds both panels. The first block of rows fetches every line
//! of its panels ahead, scales too, so that one row streams weights as fast as memory gives them.

#![expect(unsafe_code, reason = "intrinsics on borrowed bytes")]
#![expect(clippy::needless_range_loop, reason = "register blocks are indexed so that they stay in registers")]

use super::acts::{GROUP, Integers, scale_of};
use super::layout::{Layout, Place, blocks, with_layout};
use super::{Grid, Run};
use crate::pack::{Format, PANEL};
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of activations in a block of integer products.
const ROWS: usize = 6;
/// Rows of activations in a block of float products.
const FLOAT_ROWS: usize = 8;
/// How far ahead of its use a line of weights is fetched, bytes.
const AHEAD: usize = 2048;

/// Quantises a group: its scale, and the sums of the first and second 16 codes.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn quantise(values: &[f32; GROUP], codes: &mut [i8; GROUP]) -> (f32, [i32; 2]) {
    // SAFETY: the loads and stores stay within the two arrays.
    unsafe {
        let (low, high) = (_mm512_loadu_ps(values.as_ptr()), _mm512_loadu_ps(values.as_ptr().add(16)));
        let sign = _mm512_set1_epi32(0x7fff_ffff);
        let bits = |v| _mm512_and_si512(_mm512_castps_si512(v), sign);
        let (scale, factor) = scale_of(_mm512_reduce_max_epu32(_mm512_max_epu32(bits(low), bits(high))));
        let factor = _mm512_set1_ps(factor);
        let low = _mm512_cvtps_epi32(_mm512_mul_ps(low, factor));
        let high = _mm512_cvtps_epi32(_mm512_mul_ps(high, factor));
        _mm_storeu_si128(codes.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(low));
        _mm_storeu_si128(codes.as_mut_ptr().add(16).cast(), _mm512_cvtsepi32_epi8(high));
        (scale, [_mm512_reduce_add_epi32(low), _mm512_reduce_add_epi32(high)])
    }
}

/// Products of quantised panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn quantised(w: Run<'_>, acts: Integers<'_>, rows: Range<usize>, grid: &mut Grid<'_>) {
    with_layout!(w.format, sweep(w, acts, rows, grid));
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn sweep<L: Layout>(w: Run<'_>, acts: Integers<'_>, rows: Range<usize>, grid: &mut Grid<'_>) {
    let pairs = grid.panels / 2 * 2;
    for panel in (0..pairs).step_by(2) {
        rows_of::<L, 2>(w, acts, rows.clone(), panel, grid);
    }
    if pairs < grid.panels {
        rows_of::<L, 1>(w, acts, rows, pairs, grid);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn rows_of<L: Layout, const P: usize>(
    w: Run<'_>,
    acts: Integers<'_>,
    rows: Range<usize>,
    panel: usize,
    grid: &mut Grid<'_>,
) {
    for (count, place) in blocks(rows, ROWS, panel) {
        match count {
            1 => block::<L, 1, P>(w, acts, place, grid),
            2 => block::<L, 2, P>(w, acts, place, grid),
            3 => block::<L, 3, P>(w, acts, place, grid),
            4 => block::<L, 4, P>(w, acts, place, grid),
            5 => block::<L, 5, P>(w, acts, place, grid),
            _ => block::<L, ROWS, P>(w, acts, place, grid),
        }
    }
}

/// Products of `R` rows with `P` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn block<L: Layout, const R: usize, const P: usize>(
    w: Run<'_>,
    acts: Integers<'_>,
    place: Place,
    grid: &mut Grid<'_>,
) {
    let groups = w.k / L::GROUP;
    let stride = groups * L::BYTES;
    let nibble = _mm512_set1_epi8(15);
    let shift = _mm_cvtsi32_si128(w.zero() as i32);
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: `tile_on` checked that the panels, the rows and their groups are within the slices behind these pointers.
    unsafe {
        let weights = w.bytes.as_ptr().add(place.panel * stride);
        let codes = acts.codes.as_ptr().add(place.row * w.k);
        let scales = acts.scales.as_ptr().add(place.row * (w.k / GROUP));
        let group_sums = acts.sums.as_ptr().add(place.row * groups);
        let minus = acts.minus.as_ptr().add(place.row * groups);
        for group in 0..groups {
            let bytes = weights.add(group * L::BYTES);
            if place.at == 0 {
                for p in 0..P {
                    for line in (0..L::BYTES).step_by(64) {
                        _mm_prefetch::<_MM_HINT_T0>(bytes.wrapping_add(p * stride + line + AHEAD).cast());
                    }
                }
            }
            let mut dots = [[_mm512_setzero_si512(); P]; R];
            if !L::MIN {
                for r in 0..R {
                    let minus = _mm512_set1_epi32(*minus.add(r * groups + group));
                    dots[r] = [_mm512_sll_epi32(minus, shift); P];
                }
            }
            for line in 0..L::CODES / 64 {
                let mut lines = [[_mm512_setzero_si512(); P]; 2];
                for p in 0..P {
                    let address = bytes.add(p * stride + line * 64);
                    let packed = _mm512_loadu_si512(address.cast());
                    if L::NIBBLES {
                        lines[0][p] = _mm512_and_si512(packed, nibble);
                        lines[1][p] = _mm512_and_si512(_mm512_srli_epi16::<4>(packed), nibble);
                    } else {
                        lines[0][p] = packed;
                    }
                }
                for r in 0..R {
                    let step = if L::NIBBLES { 8 } else { 4 };
                    let four = codes.add(r * w.k + group * L::GROUP + line * step).cast::<i32>();
                    let low = _mm512_set1_epi32(four.read_unaligned());
                    for p in 0..P {
                        dots[r][p] = _mm512_dpbusd_epi32(dots[r][p], lines[0][p], low);
                    }
                    if L::NIBBLES {
                        let high = _mm512_set1_epi32(four.add(1).read_unaligned());
                        for p in 0..P {
                            dots[r][p] = _mm512_dpbusd_epi32(dots[r][p], lines[1][p], high);
                        }
                    }
                }
            }
            for p in 0..P {
                let at = bytes.add(p * stride + L::CODES);
                let scale = load_scales::<L>(at);
                for r in 0..R {
                    let factor = _mm512_set1_ps(*scales.add(r * (w.k / GROUP) + group * L::GROUP / GROUP));
                    let product = _mm512_mul_ps(_mm512_cvtepi32_ps(dots[r][p]), factor);
                    sums[r][p] = _mm512_fmadd_ps(scale, product, sums[r][p]);
                }
                if L::MIN {
                    let min = load_scales::<L>(at.add(L::SCALE));
                    for r in 0..R {
                        let sum = _mm512_set1_ps(*group_sums.add(r * groups + group));
                        sums[r][p] = _mm512_fmadd_ps(min, sum, sums[r][p]);
                    }
                }
            }
        }
    }
    store(sums, place, grid);
}

/// # Safety
/// 16 scales lie at `at`.
#[target_feature(enable = "avx512f")]
unsafe fn load_scales<L: Layout>(at: *const u8) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        if L::HALF_SCALES {
            _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()))
        } else {
            _mm512_loadu_ps(at.cast())
        }
    }
}

#[target_feature(enable = "avx512f")]
fn store<const R: usize, const P: usize>(sums: [[__m512; P]; R], place: Place, grid: &mut Grid<'_>) {
    for (r, sums) in sums.iter().enumerate() {
        for (p, &sum) in sums.iter().enumerate() {
            let cell = grid.cell(place.at + r, place.panel + p);
            // SAFETY: a cell is 16 floats.
            unsafe { _mm512_storeu_ps(cell.as_mut_ptr(), sum) };
        }
    }
}

/// An element type of float panels.
trait Element {
    const BYTES: usize;

    /// # Safety
    /// 16 elements lie at `at`, and the CPU has AVX-512.
    unsafe fn load(at: *const u8) -> __m512;
}

struct Full;
struct Half;
struct Brain;

impl Element for Full {
    const BYTES: usize = 4;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_loadu_ps(at.cast()) }
    }
}

impl Element for Half {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

impl Element for Brain {
    const BYTES: usize = 2;

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load(at: *const u8) -> __m512 {
        // SAFETY: the caller's.
        let bits = unsafe { _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast())) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
    }
}

/// Products of float panels.
#[target_feature(enable = "avx512f")]
pub(super) fn float(w: Run<'_>, values: &[f32], rows: Range<usize>, grid: &mut Grid<'_>) {
    match w.format {
        Format::F16 => float_sweep::<Half>(w, values, rows, grid),
        Format::Bf16 => float_sweep::<Brain>(w, values, rows, grid),
        _ => float_sweep::<Full>(w, values, rows, grid),
    }
}

#[target_feature(enable = "avx512f")]
fn float_sweep<E: Element>(w: Run<'_>, values: &[f32], rows: Range<usize>, grid: &mut Grid<'_>) {
    let pairs = grid.panels / 2 * 2;
    for panel in (0..pairs).step_by(2) {
        float_rows::<E, 2>(w, values, rows.clone(), panel, grid);
    }
    if pairs < grid.panels {
        float_rows::<E, 1>(w, values, rows, pairs, grid);
    }
}

#[target_feature(enable = "avx512f")]
fn float_rows<E: Element, const P: usize>(
    w: Run<'_>,
    values: &[f32],
    rows: Range<usize>,
    panel: usize,
    grid: &mut Grid<'_>,
) {
    for (count, place) in blocks(rows, FLOAT_ROWS, panel) {
        match count {
            1 => float_block::<E, 1, P>(w, values, place, grid),
            2 => float_block::<E, 2, P>(w, values, place, grid),
            3 => float_block::<E, 3, P>(w, values, place, grid),
            4 => float_block::<E, 4, P>(w, values, place, grid),
            5 => float_block::<E, 5, P>(w, values, place, grid),
            6 => float_block::<E, 6, P>(w, values, place, grid),
            7 => float_block::<E, 7, P>(w, values, place, grid),
            _ => float_block::<E, FLOAT_ROWS, P>(w, values, place, grid),
        }
    }
}

#[target_feature(enable = "avx512f")]
fn float_block<E: Element, const R: usize, const P: usize>(
    w: Run<'_>,
    values: &[f32],
    place: Place,
    grid: &mut Grid<'_>,
) {
    let stride = w.k * PANEL * E::BYTES;
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: `tile_on` checked that the panels and the rows are within the slices behind these pointers.
    unsafe {
        let weights = w.bytes.as_ptr().add(place.panel * stride);
        let values = values.as_ptr().add(place.row * w.k);
        for at in 0..w.k {
            let mut lanes = [_mm512_setzero_ps(); P];
            for p in 0..P {
                let address = weights.add(p * stride + at * PANEL * E::BYTES);
                if place.at == 0 {
                    _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(AHEAD).cast());
                }
                lanes[p] = E::load(address);
            }
            for r in 0..R {
                let value = _mm512_set1_ps(*values.add(r * w.k + at));
                for p in 0..P {
                    sums[r][p] = _mm512_fmadd_ps(lanes[p], value, sums[r][p]);
                }
            }
        }
    }
    store(sums, place, grid);
}
