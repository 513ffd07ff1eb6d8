//! The products with 256-bit registers: a panel is two halves of eight rows.
//!
//! Two flavours: with integer dot products (`vnni`), or with byte multiply-adds and their 16-bit sums (`plain`). A
//! 16-bit sum of two products must not saturate: nibbles stay far below, and full bytes are taken as signed numbers, whose
//! largest product is 128 * 127. The integer results are those of the dot products.

#![expect(unsafe_code, reason = "intrinsics on borrowed bytes")]
#![expect(clippy::needless_range_loop, reason = "register blocks are indexed so that they stay in registers")]

use super::acts::{GROUP, Integers, scale_of};
use super::layout::{Layout, Place, blocks, with_layout};
use super::{Grid, Run};
use crate::pack::{Format, PANEL};
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows of activations in a block of integer products.
const ROWS: usize = 4;
/// Rows of activations in a block of float products.
const FLOAT_ROWS: usize = 6;
/// Lanes of a register; two make a panel.
const LANES: usize = 8;

/// Quantises a group: its scale, and the sums of the first and second 16 codes.
#[target_feature(enable = "avx2")]
pub(super) fn quantise(values: &[f32; GROUP], codes: &mut [i8; GROUP]) -> (f32, [i32; 2]) {
    // SAFETY: the loads and stores stay within the two arrays.
    unsafe {
        let mut lanes = [_mm256_setzero_ps(); 4];
        let mut largest = _mm256_setzero_si256();
        for (at, lanes) in lanes.iter_mut().enumerate() {
            *lanes = _mm256_loadu_ps(values.as_ptr().add(at * LANES));
            let bits = _mm256_and_si256(_mm256_castps_si256(*lanes), _mm256_set1_epi32(0x7fff_ffff));
            largest = _mm256_max_epu32(largest, bits);
        }
        let half = _mm_max_epu32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
        let half = _mm_max_epu32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
        let half = _mm_max_epu32(half, _mm_shuffle_epi32::<0b10_11_00_01>(half));
        let (scale, factor) = scale_of(_mm_cvtsi128_si32(half) as u32);
        let factor = _mm256_set1_ps(factor);
        let integers = lanes.map(|lanes| _mm256_cvtps_epi32(_mm256_mul_ps(lanes, factor)));
        // The packs work within 128-bit halves; the permutation puts the bytes back in order.
        let low = _mm256_packs_epi32(integers[0], integers[1]);
        let high = _mm256_packs_epi32(integers[2], integers[3]);
        let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        let packed = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
        _mm256_storeu_si256(codes.as_mut_ptr().cast(), packed);
        let sum = |a, b| add_lanes(_mm256_add_epi32(a, b));
        (scale, [sum(integers[0], integers[1]), sum(integers[2], integers[3])])
    }
}

#[target_feature(enable = "avx2")]
fn add_lanes(lanes: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256::<1>(lanes));
    let half = _mm_add_epi32(half, _mm_shuffle_epi32::<0b01_00_11_10>(half));
    _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32::<0b10_11_00_01>(half)))
}

/// Weights of a line: with `NIBBLES` or dot products the unsigned codes, twice; else magnitudes and signed values.
type Line = (__m256i, __m256i);

/// A dot product of unsigned codes with signed ones, four to a lane, added to `total`.
#[target_feature(enable = "avx2,avxvnni")]
fn dot_vnni<L: Layout>(total: __m256i, line: Line, four: __m256i) -> __m256i {
    _mm256_dpbusd_avx_epi32(total, line.0, four)
}

/// The same by multiply-adds.
#[target_feature(enable = "avx2")]
fn dot_plain<L: Layout>(total: __m256i, line: Line, four: __m256i) -> __m256i {
    let four = if L::NIBBLES { four } else { _mm256_sign_epi8(four, line.1) };
    let pairs = _mm256_maddubs_epi16(line.0, four);
    _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

#[target_feature(enable = "avx2")]
fn line_vnni<L: Layout>(codes: __m256i) -> Line {
    (codes, codes)
}

#[target_feature(enable = "avx2")]
fn line_plain<L: Layout>(codes: __m256i) -> Line {
    if L::NIBBLES {
        return (codes, codes);
    }
    let signed = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
    (_mm256_abs_epi8(signed), signed)
}

/// What a group's integer sums start from, given minus the sum of the activations' codes.
fn start<L: Layout>(plain: bool, minus: i32, zero: u32) -> i32 {
    let offset = if L::MIN { 0 } else { minus << zero };
    // Taking bytes as signed numbers leaves out 128 times the sum.
    if plain && !L::NIBBLES { offset - (minus << 7) } else { offset }
}

macro_rules! flavour {
    ($module:ident, $features:literal, $dot:ident, $line:ident, $plain:literal) => {
        /// The integer products of one flavour.
        pub(super) mod $module {
            use super::*;

            /// Products of quantised panels.
            #[target_feature(enable = $features)]
            pub fn quantised(w: Run<'_>, acts: Integers<'_>, rows: Range<usize>, grid: &mut Grid<'_>) {
                with_layout!(w.format, sweep(w, acts, rows, grid));
            }

            #[target_feature(enable = $features)]
            fn sweep<L: Layout>(w: Run<'_>, acts: Integers<'_>, rows: Range<usize>, grid: &mut Grid<'_>) {
                for panel in 0..grid.panels {
                    for (count, place) in blocks(rows.clone(), ROWS, panel) {
                        match count {
                            1 => block::<L, 1, 2>(w, acts, place, 0, grid),
                            2 => halves::<L, 2>(w, acts, place, grid),
                            3 => halves::<L, 3>(w, acts, place, grid),
                            _ => halves::<L, ROWS>(w, acts, place, grid),
                        }
                    }
                }
            }

            #[target_feature(enable = $features)]
            fn halves<L: Layout, const R: usize>(
                w: Run<'_>,
                acts: Integers<'_>,
                place: Place,
                grid: &mut Grid<'_>,
            ) {
                block::<L, R, 1>(w, acts, place, 0, grid);
                block::<L, R, 1>(w, acts, place, 1, grid);
            }

            /// Products of `R` rows with `H` halves of a panel, from half `first`.
            #[target_feature(enable = $features)]
            fn block<L: Layout, const R: usize, const H: usize>(
                w: Run<'_>,
                acts: Integers<'_>,
                place: Place,
                first: usize,
                grid: &mut Grid<'_>,
            ) {
                let groups = w.k / L::GROUP;
                let nibble = _mm256_set1_epi8(15);
                let mut sums = [[_mm256_setzero_ps(); H]; R];
                // SAFETY: `tile_on` checked that the panel, the rows and their groups are within the slices.
                unsafe {
                    let weights = w.bytes.as_ptr().add(place.panel * groups * L::BYTES);
                    let codes = acts.codes.as_ptr().add(place.row * w.k);
                    let scales = acts.scales.as_ptr().add(place.row * (w.k / GROUP));
                    let group_sums = acts.sums.as_ptr().add(place.row * groups);
                    let minus = acts.minus.as_ptr().add(place.row * groups);
                    for group in 0..groups {
                        let bytes = weights.add(group * L::BYTES);
                        let mut dots = [[_mm256_setzero_si256(); H]; R];
                        if !L::MIN || ($plain && !L::NIBBLES) {
                            for r in 0..R {
                                let start = start::<L>($plain, *minus.add(r * groups + group), w.zero());
                                dots[r] = [_mm256_set1_epi32(start); H];
                            }
                        }
                        for line in 0..L::CODES / 64 {
                            for h in 0..H {
                                let address = bytes.add(line * 64 + (first + h) * 32);
                                let packed = _mm256_loadu_si256(address.cast());
                                let step = if L::NIBBLES { 8 } else { 4 };
                                let at = codes.add(group * L::GROUP + line * step);
                                if L::NIBBLES {
                                    let low = $line::<L>(_mm256_and_si256(packed, nibble));
                                    let high = _mm256_srli_epi16::<4>(packed);
                                    let high = $line::<L>(_mm256_and_si256(high, nibble));
                                    for r in 0..R {
                                        let four = at.add(r * w.k).cast::<i32>();
                                        let [a, b] = [four, four.add(1)].map(|p| p.read_unaligned());
                                        dots[r][h] = $dot::<L>(dots[r][h], low, _mm256_set1_epi32(a));
                                        dots[r][h] = $dot::<L>(dots[r][h], high, _mm256_set1_epi32(b));
                                    }
                                } else {
                                    let line = $line::<L>(packed);
                                    for r in 0..R {
                                        let four = at.add(r * w.k).cast::<i32>().read_unaligned();
                                        dots[r][h] = $dot::<L>(dots[r][h], line, _mm256_set1_epi32(four));
                                    }
                                }
                            }
                        }
                        for h in 0..H {
                            let scale = load_scales::<L>(bytes.add(L::CODES), first + h);
                            for r in 0..R {
                                let factor = *scales.add(r * (w.k / GROUP) + group * L::GROUP / GROUP);
                                let product =
                                    _mm256_mul_ps(_mm256_cvtepi32_ps(dots[r][h]), _mm256_set1_ps(factor));
                                sums[r][h] = _mm256_fmadd_ps(scale, product, sums[r][h]);
                            }
                            if L::MIN {
                                let min = load_scales::<L>(bytes.add(L::CODES + L::SCALE), first + h);
                                for r in 0..R {
                                    let sum = _mm256_set1_ps(*group_sums.add(r * groups + group));
                                    sums[r][h] = _mm256_fmadd_ps(min, sum, sums[r][h]);
                                }
                            }
                        }
                    }
                }
                store(sums, place, first, grid);
            }
        }
    };
}

flavour!(vnni, "avx2,fma,f16c,avxvnni", dot_vnni, line_vnni, false);
flavour!(plain, "avx2,fma,f16c", dot_plain, line_plain, true);

/// The scales of a half panel.
///
/// # Safety
/// 16 scales lie at `at`.
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_scales<L: Layout>(at: *const u8, half: usize) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        if L::HALF_SCALES {
            _mm256_cvtph_ps(_mm_loadu_si128(at.add(half * LANES * 2).cast()))
        } else {
            _mm256_loadu_ps(at.add(half * LANES * 4).cast())
        }
    }
}

#[target_feature(enable = "avx2")]
fn store<const R: usize, const H: usize>(
    sums: [[__m256; H]; R],
    place: Place,
    first: usize,
    grid: &mut Grid<'_>,
) {
    for (r, sums) in sums.iter().enumerate() {
        let cell = grid.cell(place.at + r, place.panel);
        for (sum, lanes) in sums.iter().zip(cell.as_chunks_mut::<LANES>().0.iter_mut().skip(first)) {
            // SAFETY: a half cell is eight floats.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), *sum) };
        }
    }
}

/// Eight elements of a float panel.
///
/// # Safety
/// They lie at `at`.
#[target_feature(enable = "avx2,f16c")]
unsafe fn load_lanes<const FORMAT: u8>(at: *const u8) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        match FORMAT {
            FULL => _mm256_loadu_ps(at.cast()),
            HALF => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
            _ => {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits))
            }
        }
    }
}

const FULL: u8 = 0;
const HALF: u8 = 1;
const BRAIN: u8 = 2;

/// Products of float panels.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn float(w: Run<'_>, values: &[f32], rows: Range<usize>, grid: &mut Grid<'_>) {
    match w.format {
        Format::F16 => float_sweep::<HALF>(w, values, rows, grid),
        Format::Bf16 => float_sweep::<BRAIN>(w, values, rows, grid),
        _ => float_sweep::<FULL>(w, values, rows, grid),
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn float_sweep<const FORMAT: u8>(w: Run<'_>, values: &[f32], rows: Range<usize>, grid: &mut Grid<'_>) {
    for panel in 0..grid.panels {
        for (count, place) in blocks(rows.clone(), FLOAT_ROWS, panel) {
            match count {
                1 => float_block::<FORMAT, 1>(w, values, place, grid),
                2 => float_block::<FORMAT, 2>(w, values, place, grid),
                3 => float_block::<FORMAT, 3>(w, values, place, grid),
                4 => float_block::<FORMAT, 4>(w, values, place, grid),
                5 => float_block::<FORMAT, 5>(w, values, place, grid),
                _ => float_block::<FORMAT, FLOAT_ROWS>(w, values, place, grid),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn float_block<const FORMAT: u8, const R: usize>(
    w: Run<'_>,
    values: &[f32],
    place: Place,
    grid: &mut Grid<'_>,
) {
    let size = if FORMAT == FULL { 4 } else { 2 };
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    // SAFETY: `tile_on` checked that the panel and the rows are within the slices behind these pointers.
    unsafe {
        let weights = w.bytes.as_ptr().add(place.panel * w.k * PANEL * size);
        let values = values.as_ptr().add(place.row * w.k);
        for at in 0..w.k {
            let address = weights.add(at * PANEL * size);
            let lanes = [load_lanes::<FORMAT>(address), load_lanes::<FORMAT>(address.add(LANES * size))];
            for r in 0..R {
                let value = _mm256_set1_ps(*values.add(r * w.k + at));
                for h in 0..2 {
                    sums[r][h] = _mm256_fmadd_ps(lanes[h], value, sums[r][h]);
                }
            }
        }
    }
    store(sums, place, 0, grid);
}
