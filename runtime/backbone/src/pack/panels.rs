//! Rows into panels, and panels back into rows.

use super::Packed;
use super::blocks::Codes;
use super::format::{Format, PANEL, Quant};
use half::{bf16, f16};

/// Appends one panel of `k` columns. `rows` are up to 16 rows in the bytes of the model file's type (`format` names it);
/// missing rows become zeros.
pub fn append<'a>(format: Format, k: usize, rows: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + format.panel_bytes(k), 0);
    let mut codes = Codes::default();
    for (lane, row) in rows.take(PANEL).enumerate() {
        put_row(format, row, lane, &mut out[start..], &mut codes);
    }
}

/// Writes one row, in the bytes of the model file's type, into its lane of a panel. `codes` is scratch memory.
pub fn put_row(format: Format, row: &[u8], lane: usize, panel: &mut [u8], codes: &mut Codes) {
    match (format, format.quant()) {
        (_, Some(quant)) => {
            codes.read(format, row);
            put_lane(quant, codes, lane, panel);
        }
        (Format::F32, None) => put_elements::<4>(row, lane, panel),
        (_, None) => put_elements::<2>(row, lane, panel),
    }
}

fn put_elements<const SIZE: usize>(row: &[u8], lane: usize, panel: &mut [u8]) {
    let columns = panel.as_chunks_mut::<SIZE>().0.chunks_exact_mut(PANEL);
    columns.zip(row.as_chunks::<SIZE>().0).for_each(|(column, element)| column[lane] = *element);
}

/// Writes one row of f32 into its lane of an f32 panel.
pub fn put_floats(row: &[f32], lane: usize, panel: &mut [u8]) {
    let columns = panel.as_chunks_mut::<4>().0.chunks_exact_mut(PANEL);
    columns.zip(row).for_each(|(column, value)| column[lane] = value.to_le_bytes());
}

/// Quantises one row of f32 to 8 bits in groups of 32, and writes it into its lane of a [`Format::Q8_0`] panel.
pub fn put_quantised(row: &[f32], lane: usize, panel: &mut [u8], codes: &mut Codes) {
    codes.codes.clear();
    codes.scales.clear();
    for group in row.chunks_exact(32) {
        let largest = group.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        // The scale that is stored decides the codes, so that its own rounding adds no error.
        let scale = f16::from_f32(largest / 127.0).to_f32();
        let factor = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let code = |value: &f32| ((value * factor).round().clamp(-127.0, 127.0) as i8 as u8) ^ 128;
        codes.scales.push(scale);
        codes.codes.extend(group.iter().map(code));
    }
    put_lane(Format::Q8_0.quant().expect("it is quantised"), codes, lane, panel);
}

/// Writes one row's codes, scales and minimums into its lane of a panel.
pub fn put_lane(quant: Quant, row: &Codes, lane: usize, panel: &mut [u8]) {
    let groups = panel.chunks_exact_mut(quant.group_bytes());
    for (at, (group, codes)) in groups.zip(row.codes.chunks_exact(quant.group)).enumerate() {
        let (lines, scales) = group.split_at_mut(quant.codes_bytes());
        for (line, codes) in lines.chunks_exact_mut(4 * PANEL).zip(codes.chunks_exact(32 / quant.bits)) {
            let mut four = [codes[0], codes[1], codes[2], codes[3]];
            if quant.bits == 4 {
                four.iter_mut().zip(&codes[4..]).for_each(|(low, high)| *low |= high << 4);
            }
            line[lane * 4..][..4].copy_from_slice(&four);
        }
        put_scale(quant, scales, lane, row.scales[at]);
        if quant.min {
            put_scale(quant, &mut scales[PANEL * quant.scale..], lane, row.mins[at]);
        }
    }
}

fn put_scale(quant: Quant, scales: &mut [u8], lane: usize, value: f32) {
    if quant.scale == 2 {
        scales[lane * 2..][..2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    } else {
        scales[lane * 4..][..4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The scale of a lane at the head of `scales`.
pub fn scale(quant: Quant, scales: &[u8], lane: usize) -> f32 {
    if quant.scale == 2 { half(&scales[lane * 2..]) } else { full(&scales[lane * 4..]) }
}

/// The code of column `at` (within the group) of a lane; `codes` are the group's lines.
pub fn code(quant: Quant, codes: &[u8], lane: usize, at: usize) -> u8 {
    if quant.bits == 8 {
        return codes[at / 4 * 64 + lane * 4 + at % 4];
    }
    codes[at / 8 * 64 + lane * 4 + at % 4] >> (at % 8 / 4 * 4) & 15
}

/// One element of a float panel.
pub fn element(format: Format, panel: &[u8], at: usize) -> f32 {
    match format {
        Format::F32 => full(&panel[at * 4..]),
        Format::F16 => half(&panel[at * 2..]),
        _ => bf16::from_le_bytes([panel[at * 2], panel[at * 2 + 1]]).to_f32(),
    }
}

/// Writes row `row` of a matrix, dequantised, to `out`.
pub fn read_row(matrix: &Packed<'_>, row: usize, out: &mut [f32]) {
    let (panel, lane) = (matrix.panel(row / PANEL), row % PANEL);
    let Some(quant) = matrix.format.quant() else {
        let values = out.iter_mut().take(matrix.k).enumerate();
        values.for_each(|(at, value)| *value = element(matrix.format, panel, at * PANEL + lane));
        return;
    };
    let zero = if quant.min { 0.0 } else { (1u32 << quant.zero) as f32 };
    for (group, out) in panel.chunks_exact(quant.group_bytes()).zip(out.chunks_mut(quant.group)) {
        let (codes, scales) = group.split_at(quant.codes_bytes());
        let factor = scale(quant, scales, lane);
        let min = if quant.min { scale(quant, &scales[PANEL * quant.scale..], lane) } else { 0.0 };
        for (at, value) in out.iter_mut().enumerate() {
            *value = factor * (f32::from(code(quant, codes, lane, at)) - zero) + min;
        }
    }
}

fn full(bytes: &[u8]) -> f32 {
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}
