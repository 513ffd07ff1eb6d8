//! GGUF's block types, taken apart: codes, scales and minimums of a row, exactly as the file has them.
//!
//! Scales of the K types are the products the format defines (`d * sc`): an f16 times a 6- or 8-bit integer, exact in
//! f32. Field orders are ggml's (`ggml-common.h`, `ggml-quants.c`).

use super::format::Format;
use half::f16;

/// A row taken apart.
#[derive(Debug, Default)]
pub struct Codes {
    /// Unsigned codes, one for each column.
    pub codes: Vec<u8>,
    /// Scale of each group.
    pub scales: Vec<f32>,
    /// Minimum of each group, added to the products; empty where the format has none.
    pub mins: Vec<f32>,
}

/// Elements and bytes of a block of the file's type behind a quantised format.
pub fn block(format: Format) -> (usize, usize) {
    match format {
        Format::F32 => (1, 4),
        Format::F16 | Format::Bf16 => (1, 2),
        Format::Q4_0 => (32, 18),
        Format::Q4_1 => (32, 20),
        Format::Q5_0 => (32, 22),
        Format::Q5_1 => (32, 24),
        Format::Q8_0 => (32, 34),
        Format::Q2K => (256, 84),
        Format::Q3K => (256, 110),
        Format::Q4K => (256, 144),
        Format::Q5K => (256, 176),
        Format::Q6K => (256, 210),
    }
}

impl Codes {
    /// Takes a row of blocks apart. `bytes` is whole blocks; the format is a quantised one.
    pub fn read(&mut self, format: Format, bytes: &[u8]) {
        self.codes.clear();
        self.scales.clear();
        self.mins.clear();
        for block in bytes.chunks_exact(block(format).1) {
            match format {
                Format::F32 | Format::F16 | Format::Bf16 => {}
                Format::Q4_0 | Format::Q4_1 => self.four(block, format == Format::Q4_1),
                Format::Q5_0 | Format::Q5_1 => self.five(block, format == Format::Q5_1),
                Format::Q8_0 => self.eight(block),
                Format::Q2K => self.two_k(block),
                Format::Q3K => self.three_k(block),
                Format::Q4K => self.four_k(block),
                Format::Q5K => self.five_k(block),
                Format::Q6K => self.six_k(block),
            }
        }
    }

    /// Reads the scale, and the minimum if there is one, at the head of a block; returns the rest.
    fn head<'a>(&mut self, block: &'a [u8], min: bool) -> &'a [u8] {
        self.scales.push(half(block, 0));
        if min {
            self.mins.push(half(block, 2));
        }
        &block[2 + 2 * usize::from(min)..]
    }

    fn four(&mut self, block: &[u8], min: bool) {
        let codes = self.head(block, min);
        self.codes.extend(codes.iter().map(|byte| byte & 15));
        self.codes.extend(codes.iter().map(|byte| byte >> 4));
    }

    fn five(&mut self, block: &[u8], min: bool) {
        let (high, low) = self.head(block, min).split_at(4);
        let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
        let fifth = |bit: usize| (high >> bit & 1) as u8 * 16;
        self.codes.extend(low.iter().enumerate().map(|(j, byte)| byte & 15 | fifth(j)));
        self.codes.extend(low.iter().enumerate().map(|(j, byte)| byte >> 4 | fifth(j + 16)));
    }

    fn eight(&mut self, block: &[u8]) {
        let codes = self.head(block, false);
        self.codes.extend(codes.iter().map(|byte| byte ^ 128));
    }

    /// Sixteen 4-bit scales and minimums, 64 bytes of 2-bit codes, `d`, `dmin`.
    fn two_k(&mut self, block: &[u8]) {
        let (d, dmin) = (half(block, 80), half(block, 82));
        for &scale in &block[..16] {
            self.scales.push(d * f32::from(scale & 15));
            self.mins.push(-dmin * f32::from(scale >> 4));
        }
        for codes in block[16..80].chunks_exact(32) {
            for shift in [0, 2, 4, 6] {
                self.codes.extend(codes.iter().map(|byte| byte >> shift & 3));
            }
        }
    }

    /// 32 bytes of third bits, 64 bytes of 2-bit codes, sixteen 6-bit scales in 12 bytes, `d`.
    fn three_k(&mut self, block: &[u8]) {
        let (thirds, scales, d) = (&block[..32], &block[96..108], half(block, 108));
        for j in 0..16 {
            let low = scales[j % 8] >> (j / 8 * 4) & 15;
            let high = scales[8 + j % 4] >> (j / 4 * 2) & 3;
            self.scales.push(d * (f32::from(low | high << 4) - 32.0));
        }
        for (half, codes) in block[32..96].chunks_exact(32).enumerate() {
            for part in 0..4 {
                let bit = half * 4 + part;
                let code = |(byte, third): (&u8, &u8)| byte >> (2 * part) & 3 | (third >> bit & 1) << 2;
                self.codes.extend(codes.iter().zip(thirds).map(code));
            }
        }
    }

    /// The eight scales and minimums of Q4_K and Q5_K: `d`, `dmin`, 12 bytes of 6-bit pairs.
    fn pairs(&mut self, block: &[u8]) {
        let (d, dmin, packed) = (half(block, 0), half(block, 2), &block[4..16]);
        for j in 0..8 {
            let (scale, min) = if j < 4 {
                (packed[j] & 63, packed[j + 4] & 63)
            } else {
                (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
            };
            self.scales.push(d * f32::from(scale));
            self.mins.push(-dmin * f32::from(min));
        }
    }

    fn four_k(&mut self, block: &[u8]) {
        self.pairs(block);
        for codes in block[16..].chunks_exact(32) {
            self.codes.extend(codes.iter().map(|byte| byte & 15));
            self.codes.extend(codes.iter().map(|byte| byte >> 4));
        }
    }

    fn five_k(&mut self, block: &[u8]) {
        self.pairs(block);
        let fifths = &block[16..48];
        for (quarter, codes) in block[48..].chunks_exact(32).enumerate() {
            for high in 0..2 {
                let code = |(byte, fifth): (&u8, &u8)| {
                    byte >> (4 * high) & 15 | (fifth >> (2 * quarter + high) & 1) << 4
                };
                self.codes.extend(codes.iter().zip(fifths).map(code));
            }
        }
    }

    /// 128 bytes of low nibbles, 64 of high bit pairs, sixteen signed scales, `d`.
    fn six_k(&mut self, block: &[u8]) {
        let (low, high, d) = (&block[..128], &block[128..192], half(block, 208));
        self.scales.extend(block[192..208].iter().map(|&scale| d * f32::from(scale as i8)));
        for (low, high) in low.chunks_exact(64).zip(high.chunks_exact(32)) {
            for part in 0..4 {
                let nibbles = &low[part % 2 * 32..][..32];
                let code =
                    |(low, high): (&u8, &u8)| low >> (part / 2 * 4) & 15 | (high >> (2 * part) & 3) << 4;
                self.codes.extend(nibbles.iter().zip(high).map(code));
            }
        }
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
