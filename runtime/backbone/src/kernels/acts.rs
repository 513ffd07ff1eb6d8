//! The activations of a step: rows as f32, and as 8-bit integers for the quantised weights.
//!
//! A row is quantised per 32 values, symmetric: `scale = absmax / 127`, codes in -127..=127. Every tier rounds the same
//! way, so a row's codes are the same bits everywhere. A NaN or infinity makes its group's scale non-finite, so that
//! it comes out of the products and is not lost.

#![expect(unsafe_code, reason = "rows of one buffer are written by several threads")]

use super::tier::Tier;

/// Values that share a scale.
pub const GROUP: usize = 32;

/// The activations of a step's rows, as f32 and as 8-bit integers with a scale for every 32 of them.
#[derive(Debug, Default)]
pub struct Acts {
    rows: usize,
    k: usize,
    values: Vec<f32>,
    codes: Vec<i8>,
    scales: Vec<f32>,
    /// Per 32: scale times the sum of the codes.
    sums: Vec<f32>,
    /// Per 16: the same.
    half_sums: Vec<f32>,
    /// Per 32: minus the sum of the codes.
    minus: Vec<i32>,
    /// Per 16: the same.
    half_minus: Vec<i32>,
}

/// What an integer kernel reads of all rows: codes and scales, and sums for the group size of the weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Integers<'a> {
    /// Columns.
    pub k: usize,
    /// `[rows, k]`.
    pub codes: &'a [i8],
    /// `[rows, k / 32]`.
    pub scales: &'a [f32],
    /// `[rows, k / group]`: scale times the sum of the codes.
    pub sums: &'a [f32],
    /// `[rows, k / group]`: minus the sum of the codes.
    pub minus: &'a [i32],
}

impl Acts {
    /// Makes room for `rows` rows of `k` values; contents are undefined until each row is put.
    pub fn reshape(&mut self, rows: usize, k: usize) {
        (self.rows, self.k) = (rows, k);
        let (values, groups) = (rows * k, rows * (k / GROUP));
        grow(&mut self.values, values);
        grow(&mut self.codes, values);
        grow(&mut self.scales, groups);
        grow(&mut self.sums, groups);
        grow(&mut self.minus, groups);
        grow(&mut self.half_sums, 2 * groups);
        grow(&mut self.half_minus, 2 * groups);
    }

    /// Rows it has room for.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn k(&self) -> usize {
        self.k
    }

    /// A writer for this shape. The caller must not read rows until they are put.
    pub fn writer(&mut self) -> ActsWriter {
        ActsWriter {
            rows: self.rows,
            k: self.k,
            values: self.values.as_mut_ptr(),
            codes: self.codes.as_mut_ptr(),
            scales: self.scales.as_mut_ptr(),
            sums: self.sums.as_mut_ptr(),
            half_sums: self.half_sums.as_mut_ptr(),
            minus: self.minus.as_mut_ptr(),
            half_minus: self.half_minus.as_mut_ptr(),
        }
    }

    /// Puts one row from the only thread.
    pub fn put(&mut self, row: usize, values: &[f32], integers: bool) {
        // SAFETY: `&mut self` keeps every other thread out, and the writer does not outlive the call.
        unsafe { self.writer().put(row, values, integers) }
    }

    /// Row `row` as f32.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.k..(row + 1) * self.k]
    }

    /// All rows as f32, `[rows, k]`.
    pub(super) fn values(&self) -> &[f32] {
        &self.values[..self.rows * self.k]
    }

    /// All rows as integers, with the sums per `group` (16 or 32).
    pub(super) fn integers(&self, group: usize) -> Integers<'_> {
        let groups = self.rows * (self.k / GROUP);
        let (sums, minus) = if group == GROUP {
            (&self.sums[..groups], &self.minus[..groups])
        } else {
            (&self.half_sums[..2 * groups], &self.half_minus[..2 * groups])
        };
        let codes = &self.codes[..self.rows * self.k];
        Integers { k: self.k, codes, scales: &self.scales[..groups], sums, minus }
    }
}

fn grow<T: Default + Clone>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}

/// Writes rows of an [`Acts`] from several threads at once; each row is written by one thread only.
#[derive(Debug, Clone, Copy)]
pub struct ActsWriter {
    rows: usize,
    k: usize,
    values: *mut f32,
    codes: *mut i8,
    scales: *mut f32,
    sums: *mut f32,
    half_sums: *mut f32,
    minus: *mut i32,
    half_minus: *mut i32,
}

// SAFETY: the pointers are to plain numbers; `put`'s contract keeps threads off each other's rows.
unsafe impl Send for ActsWriter {}
// SAFETY: as above.
unsafe impl Sync for ActsWriter {}

/// The places of one row, each of the length its shape gives.
struct Row<'a> {
    codes: &'a mut [i8],
    scales: &'a mut [f32],
    sums: &'a mut [f32],
    half_sums: &'a mut [f32],
    minus: &'a mut [i32],
    half_minus: &'a mut [i32],
}

impl ActsWriter {
    /// Copies `values` (`k` of them) in and quantises them where a format of the model needs it (`k` is a multiple of 32
    /// then).
    ///
    /// # Safety
    /// The [`Acts`] outlives the call with its shape unchanged, and no other thread touches row `row` meanwhile.
    pub unsafe fn put(&self, row: usize, values: &[f32], integers: bool) {
        assert!(row < self.rows && values.len() == self.k, "row {row} of {} rows of {}", self.rows, self.k);
        // SAFETY: `reshape` made room for `rows` rows, `row` is one of them, and the caller keeps others off it.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(row * self.k), self.k) }
            .copy_from_slice(values);
        if integers {
            assert!(self.k.is_multiple_of(GROUP), "rows of {} cannot be quantised", self.k);
            // SAFETY: the caller's contract is the one of `parts`.
            quantise(Tier::best(), values, unsafe { self.parts(row) });
        }
    }

    /// # Safety
    /// As [`ActsWriter::put`].
    unsafe fn parts<'a>(&self, row: usize) -> Row<'a> {
        let groups = self.k / GROUP;
        // SAFETY: `reshape` made each buffer long enough for `rows` rows, and the caller keeps others off this one.
        unsafe {
            use std::slice::from_raw_parts_mut as slice;
            Row {
                codes: slice(self.codes.add(row * self.k), self.k),
                scales: slice(self.scales.add(row * groups), groups),
                sums: slice(self.sums.add(row * groups), groups),
                half_sums: slice(self.half_sums.add(row * 2 * groups), 2 * groups),
                minus: slice(self.minus.add(row * groups), groups),
                half_minus: slice(self.half_minus.add(row * 2 * groups), 2 * groups),
            }
        }
    }
}

fn quantise(tier: Tier, values: &[f32], mut row: Row<'_>) {
    for (group, values) in values.as_chunks::<GROUP>().0.iter().enumerate() {
        let (codes, _) = row.codes[group * GROUP..].split_first_chunk_mut().expect("the row has this group");
        let (scale, sums) = match tier {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Tier::best` found these features.
            Tier::Avx512Vnni => unsafe { super::avx512::quantise(values, codes) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Tier::best` found AVX2.
            Tier::Avx2 | Tier::AvxVnni => unsafe { super::avx2::quantise(values, codes) },
            _ => portable(values, codes),
        };
        // Codes of what is no number mean nothing: the scale alone carries it.
        let sums = if scale.is_finite() { sums } else { [0, 0] };
        row.scales[group] = scale;
        put_sums(&mut row, group, scale, sums);
    }
}

fn put_sums(row: &mut Row<'_>, group: usize, scale: f32, [low, high]: [i32; 2]) {
    row.sums[group] = scale * (low + high) as f32;
    row.minus[group] = -(low + high);
    row.half_sums[2 * group] = scale * low as f32;
    row.half_sums[2 * group + 1] = scale * high as f32;
    row.half_minus[2 * group] = -low;
    row.half_minus[2 * group + 1] = -high;
}

/// The scale of a group and what to multiply its values by, from the bits of its largest magnitude. As integers the bits
/// of positive floats sort as the floats do, infinity after them and NaN last.
pub(super) fn scale_of(largest: u32) -> (f32, f32) {
    let largest = f32::from_bits(largest);
    // Below this the factor would be infinite; such a group is zero to every format.
    if largest < 1e-35 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) }
}

fn portable(values: &[f32; GROUP], codes: &mut [i8; GROUP]) -> (f32, [i32; 2]) {
    let largest = values.iter().map(|value| value.to_bits() & 0x7fff_ffff).max().unwrap_or(0);
    let (scale, factor) = scale_of(largest);
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (value * factor).round_ties_even() as i8;
    }
    let sum = |codes: &[i8]| codes.iter().map(|&code| i32::from(code)).sum();
    (scale, [sum(&codes[..16]), sum(&codes[16..])])
}

#[cfg(test)]
mod tests {
    use super::*;

    type Quantised = (f32, [i32; 2], [i8; GROUP]);

    fn by(
        f: impl Fn(&[f32; GROUP], &mut [i8; GROUP]) -> (f32, [i32; 2]),
        values: &[f32; GROUP],
    ) -> Quantised {
        let mut codes = [0; GROUP];
        let (scale, sums) = f(values, &mut codes);
        (scale, sums, codes)
    }

    fn groups() -> Vec<[f32; GROUP]> {
        let ramp = |size: f32| std::array::from_fn(|i| ((i * 37 % 64) as f32 - 31.5) * size);
        let mut groups: Vec<_> = [0.0, 1e-39, 1e-36, 0.031, 1.0, 7e4, 1e36].map(ramp).to_vec();
        let mut ties = [0.5; GROUP];
        ties[3] = 127.0;
        ties[4] = -2.5;
        groups.push(ties);
        groups
    }

    #[test]
    fn the_tiers_give_the_same_bits() {
        for values in groups() {
            let expected = by(portable, &values);
            #[cfg(target_arch = "x86_64")]
            if Tier::Avx2.runs() {
                // SAFETY: just found.
                assert_eq!(expected, by(|v, c| unsafe { super::super::avx2::quantise(v, c) }, &values));
            }
            #[cfg(target_arch = "x86_64")]
            if Tier::Avx512Vnni.runs() {
                // SAFETY: just found.
                assert_eq!(expected, by(|v, c| unsafe { super::super::avx512::quantise(v, c) }, &values));
            }
            assert!(expected.2.iter().all(|&code| code > -128));
        }
    }

    #[test]
    fn codes_are_near_the_values() {
        for values in groups().into_iter().skip(2) {
            let (scale, _, codes) = by(portable, &values);
            for (value, code) in values.iter().zip(codes) {
                assert!((value - scale * f32::from(code)).abs() <= scale * 0.5001, "{value} {code} {scale}");
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut acts = Acts::default();
            acts.reshape(1, 64);
            let mut values = [1.0; 64];
            values[40] = bad;
            acts.put(0, &values, true);
            assert!(acts.scales[0].is_finite());
            assert!(!acts.scales[1].is_finite());
        }
    }
}
