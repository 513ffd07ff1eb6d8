//! The kernels against candle's numbers, against each other, and against themselves in other batches.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use coldframe_backbone::kernels::{Acts, Tier, tile_on};
use coldframe_backbone::pack::{Format, PANEL, Packed, panels};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const DTYPES: [GgmlDType; 13] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// Values about a normal distribution's, some of them large, as activations are.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = || random.next_u32() as f32 / u32::MAX as f32 - 0.5;
    (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 2.0).collect()
}

/// A matrix of each kind: its bytes in panels, and its values as candle dequantises them.
struct Matrix {
    format: Format,
    n: usize,
    k: usize,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Matrix {
    fn new(dtype: GgmlDType, n: usize, k: usize) -> Self {
        let tensor = Tensor::from_vec(values(n * k, 7), (n, k), &Device::Cpu).unwrap();
        let tensor = QTensor::quantize(&tensor, dtype).unwrap();
        let values = tensor.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let data = tensor.data().unwrap().into_owned();
        let rows: Vec<&[u8]> = data.chunks_exact(data.len() / n).collect();
        let format = Format::of(dtype).unwrap();
        let mut bytes = Vec::new();
        for panel in rows.chunks(PANEL) {
            panels::append(format, k, panel.iter().copied(), &mut bytes);
        }
        Self { format, n, k, bytes, values }
    }

    fn packed(&self) -> Packed<'_> {
        Packed { format: self.format, n: self.n, k: self.k, bytes: &self.bytes }
    }

    fn product(&self, tier: Tier, acts: &Acts, rows: std::ops::Range<usize>) -> Vec<f32> {
        let panels = self.packed().panels();
        let mut out = vec![f32::NAN; rows.len() * panels * PANEL];
        tile_on(tier, &self.packed(), acts, rows, 0..panels, &mut out, panels * PANEL);
        out
    }
}

fn acts(rows: usize, k: usize, integers: bool) -> (Acts, Vec<f32>) {
    let values = values(rows * k, 11);
    let mut acts = Acts::default();
    acts.reshape(rows, k);
    values.chunks_exact(k).enumerate().for_each(|(row, values)| acts.put(row, values, integers));
    (acts, values)
}

fn tiers() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|tier| tier.runs())
}

/// The largest difference of two products, as a share of the largest product.
fn difference(left: &[f32], right: &[f32]) -> f32 {
    let largest = left.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let worst = left.iter().zip(right).fold(0.0f32, |worst, (a, b)| {
        assert!(a.is_finite() && b.is_finite());
        worst.max((a - b).abs())
    });
    worst / largest
}

#[test]
fn rows_come_back_as_candle_reads_them() {
    for dtype in DTYPES {
        let matrix = Matrix::new(dtype, 37, 512);
        let mut row = vec![0.0; 512];
        for (at, expected) in matrix.values.chunks_exact(512).enumerate() {
            matrix.packed().row(at, &mut row);
            assert!(difference(expected, &row) <= 1e-6, "{dtype:?} row {at}: {}", difference(expected, &row));
        }
    }
}

#[test]
fn products_are_those_of_the_dequantised_weights() {
    for dtype in DTYPES {
        let (n, k, rows) = (37, 512, 5);
        let matrix = Matrix::new(dtype, n, k);
        let (acts, values) = acts(rows, k, !matrix.format.is_float());
        let exact = |row: usize, column: usize| -> f32 {
            let weights = matrix.values[column * k..][..k].iter();
            weights.zip(&values[row * k..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
        };
        let width = matrix.packed().panels() * PANEL;
        let expected: Vec<f32> = (0..rows * width)
            .map(|at| if at % width < n { exact(at / width, at % width) } else { 0.0 })
            .collect();
        for tier in tiers() {
            let found = matrix.product(tier, &acts, 0..rows);
            // Eight bits of activations round by about 1/250 of each group's largest, which averages out over k.
            let bound = if matrix.format.is_float() { 1e-5 } else { 0.01 };
            let difference = difference(&expected, &found);
            assert!(difference < bound, "{dtype:?} on {tier}: {difference}");
            assert!(found.chunks_exact(width).all(|row| row[n..].iter().all(|&lane| lane == 0.0)));
        }
    }
}

#[test]
fn the_tiers_agree() {
    for dtype in DTYPES {
        let matrix = Matrix::new(dtype, 80, 1536);
        let (acts, _) = acts(9, 1536, !matrix.format.is_float());
        let portable = matrix.product(Tier::Portable, &acts, 0..9);
        for tier in tiers() {
            let difference = difference(&portable, &matrix.product(tier, &acts, 0..9));
            assert!(difference < 1e-5, "{dtype:?} on {tier}: {difference}");
        }
    }
}

#[test]
fn a_row_is_the_same_to_the_bit_in_every_batch() {
    for dtype in DTYPES {
        let matrix = Matrix::new(dtype, 48, 256);
        let (acts, _) = acts(23, 256, !matrix.format.is_float());
        for tier in tiers() {
            let alone: Vec<f32> = (0..23).flat_map(|row| matrix.product(tier, &acts, row..row + 1)).collect();
            for batch in 2..=23 {
                let together = matrix.product(tier, &acts, 23 - batch..23);
                let expected = &alone[(23 - batch) * 48..];
                assert!(
                    together.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{dtype:?} {tier}"
                );
            }
        }
    }
}

#[test]
fn the_largest_codes_do_not_saturate() {
    // All-ones weights against all-127 activations: the sums that 16-bit arithmetic would clip.
    for (format, block) in
        [(Format::Q8_0, [vec![0, 0x3c], vec![127; 32]]), (Format::Q5_1, [vec![0, 0x3c, 0, 0], vec![255; 20]])]
    {
        let row = block.concat().repeat(2);
        let mut bytes = Vec::new();
        panels::append(format, 64, std::iter::repeat_n(row.as_slice(), PANEL), &mut bytes);
        let matrix = Matrix { format, n: PANEL, k: 64, bytes, values: Vec::new() };
        let mut acts = Acts::default();
        acts.reshape(2, 64);
        acts.put(0, &[127.0; 64], true);
        acts.put(1, &[-127.0; 64], true);
        let weight = if format == Format::Q8_0 { 127.0 } else { 31.0 };
        for tier in tiers() {
            let found = matrix.product(tier, &acts, 0..2);
            assert!(found[..16].iter().all(|&value| value == weight * 127.0 * 64.0), "{tier} {found:?}");
            assert!(found[16..].iter().all(|&value| value == weight * -127.0 * 64.0), "{tier} {found:?}");
        }
    }
}

#[test]
fn what_is_no_number_stays_in_its_row() {
    for dtype in [GgmlDType::F32, GgmlDType::Q4_1, GgmlDType::Q8_0] {
        let matrix = Matrix::new(dtype, 32, 64);
        let mut acts = Acts::default();
        acts.reshape(7, 64);
        let mut bad = [0.25; 64];
        bad[7] = f32::NAN;
        (0..7).for_each(|row| acts.put(row, if row == 3 { &bad } else { &[0.25; 64] }, true));
        for tier in tiers() {
            let found = matrix.product(tier, &acts, 0..7);
            for (row, products) in found.chunks_exact(32).enumerate() {
                assert_eq!(
                    products.iter().all(|value| value.is_finite()),
                    row != 3,
                    "{dtype:?} {tier} row {row}"
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_part_of_a_product_is_the_same_part_of_the_whole(
        n in 1usize..100, groups in 1usize..6, rows in 1usize..20, cut in any::<prop::sample::Index>(),
        dtype in prop::sample::select(&[GgmlDType::F32, GgmlDType::F16, GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0][..]),
    ) {
        let matrix = Matrix::new(dtype, n, groups * 32);
        let (acts, _) = acts(rows, groups * 32, true);
        let panels = matrix.packed().panels();
        let (row, panel) = (cut.index(rows), cut.index(panels));
        let (width, stride) = ((panels - panel) * PANEL, (panels - panel) * PANEL + 5);
        for tier in tiers() {
            let whole = matrix.product(tier, &acts, 0..rows);
            let mut part = vec![f32::NAN; (rows - row) * stride];
            tile_on(tier, &matrix.packed(), &acts, row..rows, panel..panels, &mut part, stride);
            for (at, part) in part.chunks_exact(stride).enumerate() {
                let expected = &whole[(row + at) * panels * PANEL + panel * PANEL..][..width];
                prop_assert!(part[..width].iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()));
                prop_assert!(part[width..].iter().all(|gap| gap.is_nan()), "the gap between rows is not written");
            }
        }
    }
}
