//! The products in plain Rust: what every other tier is tested against, and what other CPUs run.

use super::acts::{GROUP, Integers};
use super::{Grid, Run};
use crate::pack::{Format, PANEL, Quant, panels};
use std::ops::Range;

type Lanes = [f32; PANEL];

/// Products of quantised panels.
pub(super) fn quantised(
    w: Run<'_>,
    quant: Quant,
    acts: Integers<'_>,
    rows: Range<usize>,
    grid: &mut Grid<'_>,
) {
    for (row, at) in rows.zip(0..) {
        for (panel, bytes) in w.panels().enumerate() {
            *grid.cell(at, panel) = quantised_cell(quant, bytes, acts, row);
        }
    }
}

fn quantised_cell(quant: Quant, panel: &[u8], acts: Integers<'_>, row: usize) -> Lanes {
    let codes = &acts.codes[row * acts.k..];
    let groups = acts.k / quant.group;
    let mut sums = [0.0; PANEL];
    for (group, bytes) in panel.chunks_exact(quant.group_bytes()).enumerate() {
        let (lines, scales) = bytes.split_at(quant.codes_bytes());
        let start = if quant.min { 0 } else { acts.minus[row * groups + group] << quant.zero };
        let dots = group_dots(quant.bits, lines, &codes[group * quant.group..], start);
        let factor = acts.scales[row * (acts.k / GROUP) + group * quant.group / GROUP];
        let sum = acts.sums[row * groups + group];
        for (lane, total) in sums.iter_mut().enumerate() {
            *total += panels::scale(quant, scales, lane) * (factor * dots[lane] as f32);
            if quant.min {
                *total += panels::scale(quant, &scales[PANEL * quant.scale..], lane) * sum;
            }
        }
    }
    sums
}

fn group_dots(bits: usize, lines: &[u8], codes: &[i8], start: i32) -> [i32; PANEL] {
    let mut dots = [start; PANEL];
    for (line, codes) in lines.chunks_exact(4 * PANEL).zip(codes.chunks_exact(32 / bits)) {
        for (dot, four) in dots.iter_mut().zip(line.as_chunks::<4>().0) {
            for (at, &byte) in four.iter().enumerate() {
                if bits == 8 {
                    *dot += i32::from(byte) * i32::from(codes[at]);
                } else {
                    *dot += i32::from(byte & 15) * i32::from(codes[at]);
                    *dot += i32::from(byte >> 4) * i32::from(codes[at + 4]);
                }
            }
        }
    }
    dots
}

/// Products of float panels.
pub(super) fn float(w: Run<'_>, values: &[f32], rows: Range<usize>, grid: &mut Grid<'_>) {
    let mut wide: Vec<f32> = vec![0.0; w.k * PANEL];
    for (panel, bytes) in w.panels().enumerate() {
        widen(w.format, bytes, &mut wide);
        for (row, at) in rows.clone().zip(0..) {
            *grid.cell(at, panel) = float_cell(&wide, &values[row * w.k..(row + 1) * w.k]);
        }
    }
}

fn widen(format: Format, panel: &[u8], wide: &mut [f32]) {
    wide.iter_mut().enumerate().for_each(|(at, value)| *value = panels::element(format, panel, at));
}

fn float_cell(panel: &[f32], values: &[f32]) -> Lanes {
    let mut sums = [0.0; PANEL];
    for (weights, value) in panel.as_chunks::<PANEL>().0.iter().zip(values) {
        sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight * value);
    }
    sums
}
