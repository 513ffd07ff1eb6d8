//! The row-wise operations of a step: norms, gates, rotary positions, LoRA shrink and expand.
//!
//! Each is written once over [`Lanes`] and compiled for every tier; [`Ops`] is the table the forward pass calls through.
//! An operation reads one row and its own weights, so a row's numbers do not depend on the batch.

#![expect(unsafe_code, reason = "compiled once for each set of CPU features and called through pointers")]

use super::attention::{self, Attend};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{LANES, Lanes, Plain};
use crate::adapter::{Dtype, MatrixView};
use half::{bf16, f16};

/// Function table of a tier.
///
/// Every pointer is safe to call on a machine that has the tier's features: [`Ops::best`] gives no other.
#[derive(Clone, Copy)]
pub struct Ops {
    /// The tier's name.
    pub name: &'static str,
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    silu_mul: unsafe fn(&[f32], &mut [f32]),
    gelu_mul: unsafe fn(&[f32], &mut [f32]),
    add: unsafe fn(&mut [f32], &[f32]),
    rotate: unsafe fn(&mut [f32], &[f32], &[f32]),
    shrink: unsafe fn(&MatrixView<'_>, &[f32], f32, &mut [f32]),
    expand: unsafe fn(&MatrixView<'_>, &[f32], &mut [f32]),
    attend: unsafe fn(&mut Attend<'_>),
}

impl std::fmt::Debug for Ops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ops({})", self.name)
    }
}

impl Ops {
    /// The fastest tier this machine can run.
    pub fn best() -> &'static Self {
        Self::all().last().expect("the portable tier is always there")
    }

    /// Every tier this machine can run, slowest first.
    pub fn all() -> Vec<&'static Self> {
        #[cfg_attr(not(target_arch = "x86_64"), expect(unused_mut, reason = "other machines have one tier"))]
        let mut tiers = vec![&portable::OPS];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2 && is_x86_feature_detected!("f16c") {
                tiers.push(&avx2::OPS);
                let wide = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
                if wide && is_x86_feature_detected!("avx512dq") && is_x86_feature_detected!("avx512vl") {
                    tiers.push(&avx512::OPS);
                }
            }
        }
        tiers
    }

    /// `out = x / rms(x) * weight`, rms over the row with `eps` under the root.
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        debug_assert!(x.len() == weight.len() && x.len() == out.len());
        // SAFETY: the table was chosen for this machine; so below.
        unsafe { (self.rms_norm)(x, weight, eps, out) }
    }

    /// `up = silu(gate) * up`.
    pub fn silu_mul(&self, gate: &[f32], up: &mut [f32]) {
        debug_assert_eq!(gate.len(), up.len());
        unsafe { (self.silu_mul)(gate, up) }
    }

    /// `up = gelu_tanh(gate) * up`.
    pub fn gelu_mul(&self, gate: &[f32], up: &mut [f32]) {
        debug_assert_eq!(gate.len(), up.len());
        unsafe { (self.gelu_mul)(gate, up) }
    }

    /// `x += y`.
    pub fn add(&self, x: &mut [f32], y: &[f32]) {
        debug_assert_eq!(x.len(), y.len());
        unsafe { (self.add)(x, y) }
    }

    /// Rotates the pairs `(x[i], x[i + half])` of a head by the angles of `cos` and `sin` (`half` values each).
    pub fn rotate(&self, head: &mut [f32], cos: &[f32], sin: &[f32]) {
        debug_assert!(head.len() == 2 * cos.len() && cos.len() == sin.len());
        unsafe { (self.rotate)(head, cos, sin) }
    }

    /// `t = scale * A x`: A is `[rank, in]`, t has `rank` values.
    pub fn shrink(&self, a: &MatrixView<'_>, x: &[f32], scale: f32, t: &mut [f32]) {
        assert!(a.columns == x.len() && a.rows == t.len() && whole(a), "shapes of a LoRA A");
        unsafe { (self.shrink)(a, x, scale, t) }
    }

    /// `y += t B`: B is `[rank, out]`, t has `rank` values, y `out`.
    pub fn expand(&self, b: &MatrixView<'_>, t: &[f32], y: &mut [f32]) {
        assert!(b.rows == t.len() && b.columns == y.len() && whole(b), "shapes of a LoRA B");
        unsafe { (self.expand)(b, t, y) }
    }

    /// Attention of a tile of rows over the pages of its sequence.
    pub(super) fn attend(&self, attend: &mut Attend<'_>) {
        unsafe { (self.attend)(attend) }
    }
}

/// Whether a matrix's bytes are as many as its shape says, so that raw reads stay inside.
fn whole(matrix: &MatrixView<'_>) -> bool {
    let size = match matrix.dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::Bf16 => 2,
    };
    matrix.bytes.len() == matrix.rows * matrix.columns * size
        && (matrix.bytes.as_ptr() as usize).is_multiple_of(size)
}

macro_rules! tier {
    ($tier:ident, $name:literal, $lanes:ty $(, $feature:literal)?) => {
        mod $tier {
            //! The operations compiled for one tier.
            use super::*;

            pub static OPS: Ops =
                Ops { name: $name, rms_norm, silu_mul, gelu_mul, add, rotate, shrink, expand, attend };

            $(#[target_feature(enable = $feature)])?
            unsafe fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
                unsafe { body::rms_norm::<$lanes>(x, weight, eps, out) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn silu_mul(gate: &[f32], up: &mut [f32]) {
                unsafe { body::silu_mul::<$lanes>(gate, up) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn gelu_mul(gate: &[f32], up: &mut [f32]) {
                unsafe { body::gelu_mul::<$lanes>(gate, up) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn add(x: &mut [f32], y: &[f32]) {
                unsafe { body::add::<$lanes>(x, y) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32]) {
                unsafe { body::rotate::<$lanes>(head, cos, sin) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn shrink(a: &MatrixView<'_>, x: &[f32], scale: f32, t: &mut [f32]) {
                unsafe {
                    match a.dtype {
                        Dtype::F32 => body::shrink::<$lanes, f32>(a, x, scale, t),
                        Dtype::F16 => body::shrink::<$lanes, f16>(a, x, scale, t),
                        Dtype::Bf16 => body::shrink::<$lanes, bf16>(a, x, scale, t),
                    }
                }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn expand(b: &MatrixView<'_>, t: &[f32], y: &mut [f32]) {
                unsafe {
                    match b.dtype {
                        Dtype::F32 => body::expand::<$lanes, f32>(b, t, y),
                        Dtype::F16 => body::expand::<$lanes, f16>(b, t, y),
                        Dtype::Bf16 => body::expand::<$lanes, bf16>(b, t, y),
                    }
                }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn attend(attend: &mut Attend<'_>) {
                unsafe { attention::attend::<$lanes>(attend) }
            }
        }
    };
}

tier!(portable, "portable", Plain);
#[cfg(target_arch = "x86_64")]
tier!(avx2, "avx2", Avx2, "avx2,fma,f16c");
#[cfg(target_arch = "x86_64")]
tier!(avx512, "avx512", Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c");

/// An element type that sixteen lanes can be loaded from.
trait Element: Copy {
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L;
    fn value(self) -> f32;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        unsafe { L::load(from) }
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        unsafe { L::load_f16(from) }
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self.to_f32()
    }
}

impl Element for bf16 {
    #[inline(always)]
    unsafe fn lanes<L: Lanes>(from: *const Self) -> L {
        unsafe { L::load_bf16(from) }
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self.to_f32()
    }
}

mod body {
    //! The operations over any lanes. Whole registers first, then the elements left over.

    use super::{Element, LANES, Lanes, MatrixView};

    #[inline(always)]
    pub unsafe fn rms_norm<L: Lanes>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        unsafe {
            let whole = x.len() / LANES * LANES;
            let mut squares = L::splat(0.0);
            for at in (0..whole).step_by(LANES) {
                let lanes = L::load(x.as_ptr().add(at));
                squares = lanes.fma(lanes, squares);
            }
            let rest: f32 = x[whole..].iter().map(|value| value * value).sum();
            let factor = 1.0 / ((squares.sum() + rest) / x.len() as f32 + eps).sqrt();
            let factors = L::splat(factor);
            for at in (0..whole).step_by(LANES) {
                let lanes = L::load(x.as_ptr().add(at)).mul(factors);
                lanes.mul(L::load(weight.as_ptr().add(at))).store(out.as_mut_ptr().add(at));
            }
            for at in whole..x.len() {
                out[at] = x[at] * factor * weight[at];
            }
        }
    }

    #[inline(always)]
    unsafe fn gate_mul<L: Lanes>(gate: &[f32], up: &mut [f32], act: impl Fn(L) -> L) {
        unsafe {
            let whole = gate.len() / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let lanes = act(L::load(gate.as_ptr().add(at))).mul(L::load(up.as_ptr().add(at)));
                lanes.store(up.as_mut_ptr().add(at));
            }
            let left = gate.len() - whole;
            if left > 0 {
                let mut lanes = [0.0; LANES];
                lanes[..left].copy_from_slice(&gate[whole..]);
                act(L::load(lanes.as_ptr())).store(lanes.as_mut_ptr());
                up[whole..].iter_mut().zip(lanes).for_each(|(up, gate)| *up *= gate);
            }
        }
    }

    #[inline(always)]
    unsafe fn sigmoid<L: Lanes>(x: L) -> L {
        unsafe {
            let one = L::splat(1.0);
            one.div(one.add(L::splat(0.0).sub(x).exp()))
        }
    }

    #[inline(always)]
    pub unsafe fn silu_mul<L: Lanes>(gate: &[f32], up: &mut [f32]) {
        unsafe { gate_mul::<L>(gate, up, |x| x.mul(sigmoid(x))) }
    }

    #[inline(always)]
    pub unsafe fn gelu_mul<L: Lanes>(gate: &[f32], up: &mut [f32]) {
        // gelu_tanh(x) = x * sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 x^3)).
        unsafe {
            gate_mul::<L>(gate, up, |x| {
                let cube = x.mul(x).mul(x);
                let inner = cube.fma(L::splat(0.044_715), x).mul(L::splat(1.595_769));
                x.mul(sigmoid(inner))
            });
        }
    }

    #[inline(always)]
    pub unsafe fn add<L: Lanes>(x: &mut [f32], y: &[f32]) {
        unsafe {
            let whole = x.len() / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                L::load(x.as_ptr().add(at)).add(L::load(y.as_ptr().add(at))).store(x.as_mut_ptr().add(at));
            }
            for at in whole..x.len() {
                x[at] += y[at];
            }
        }
    }

    #[inline(always)]
    pub unsafe fn rotate<L: Lanes>(head: &mut [f32], cos: &[f32], sin: &[f32]) {
        unsafe {
            let half = cos.len();
            let (low, high) = head.split_at_mut(half);
            let whole = half / LANES * LANES;
            for at in (0..whole).step_by(LANES) {
                let (c, s) = (L::load(cos.as_ptr().add(at)), L::load(sin.as_ptr().add(at)));
                let (a, b) = (L::load(low.as_ptr().add(at)), L::load(high.as_ptr().add(at)));
                a.mul(c).sub(b.mul(s)).store(low.as_mut_ptr().add(at));
                b.mul(c).add(a.mul(s)).store(high.as_mut_ptr().add(at));
            }
            for at in whole..half {
                let (a, b) = (low[at], high[at]);
                low[at] = a * cos[at] - b * sin[at];
                high[at] = b * cos[at] + a * sin[at];
            }
        }
    }

    /// Dot products of `N` rows with x; four rows at a time share the loads of x.
    #[inline(always)]
    unsafe fn dots<L: Lanes, E: Element, const N: usize>(rows: *const E, x: &[f32]) -> [f32; N] {
        unsafe {
            let (k, whole) = (x.len(), x.len() / LANES * LANES);
            let mut sums = [L::splat(0.0); N];
            for at in (0..whole).step_by(LANES) {
                let lanes = L::load(x.as_ptr().add(at));
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = E::lanes::<L>(rows.add(n * k + at)).fma(lanes, *sum);
                }
            }
            let mut dots = [0.0; N];
            for (n, dot) in dots.iter_mut().enumerate() {
                let rest: f32 = (whole..k).map(|at| (*rows.add(n * k + at)).value() * x[at]).sum();
                *dot = sums[n].sum() + rest;
            }
            dots
        }
    }

    #[inline(always)]
    pub unsafe fn shrink<L: Lanes, E: Element>(a: &MatrixView<'_>, x: &[f32], scale: f32, t: &mut [f32]) {
        unsafe {
            let rows = a.bytes.as_ptr().cast::<E>();
            let fours = t.len() / 4 * 4;
            for row in (0..fours).step_by(4) {
                let dots = dots::<L, E, 4>(rows.add(row * x.len()), x);
                for (n, dot) in dots.into_iter().enumerate() {
                    t[row + n] = scale * dot;
                }
            }
            for (row, t) in t.iter_mut().enumerate().skip(fours) {
                *t = scale * dots::<L, E, 1>(rows.add(row * x.len()), x)[0];
            }
        }
    }

    /// `y += sum of N rows, each times its factor`.
    #[inline(always)]
    unsafe fn add_rows<L: Lanes, E: Element, const N: usize>(rows: *const E, factors: &[f32], y: &mut [f32]) {
        unsafe {
            let (n_out, whole) = (y.len(), y.len() / LANES * LANES);
            let mut lanes = [L::splat(0.0); N];
            for (n, lane) in lanes.iter_mut().enumerate() {
                *lane = L::splat(factors[n]);
            }
            for at in (0..whole).step_by(LANES) {
                let mut sum = L::load(y.as_ptr().add(at));
                for (n, factor) in lanes.iter().enumerate() {
                    sum = E::lanes::<L>(rows.add(n * n_out + at)).fma(*factor, sum);
                }
                sum.store(y.as_mut_ptr().add(at));
            }
            for (at, y) in y.iter_mut().enumerate().skip(whole) {
                for (n, factor) in factors.iter().enumerate() {
                    *y += (*rows.add(n * n_out + at)).value() * factor;
                }
            }
        }
    }

    #[inline(always)]
    pub unsafe fn expand<L: Lanes, E: Element>(b: &MatrixView<'_>, t: &[f32], y: &mut [f32]) {
        unsafe {
            let rows = b.bytes.as_ptr().cast::<E>();
            let eights = t.len() / 8 * 8;
            for row in (0..eights).step_by(8) {
                add_rows::<L, E, 8>(rows.add(row * y.len()), &t[row..row + 8], y);
            }
            for row in eights..t.len() {
                add_rows::<L, E, 1>(rows.add(row * y.len()), &t[row..row + 1], y);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u32) -> Vec<f32> {
        let step = |state: u32| state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut state = step(seed);
        let mut next = || {
            state = step(state);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn close(name: &str, found: &[f32], expected: &[f32]) {
        for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= 2e-5 * (1.0 + expected.abs()),
                "{name}[{at}]: {found} {expected}"
            );
        }
    }

    #[test]
    fn every_tier_computes_the_formulas() {
        for ops in Ops::all() {
            for n in [8, 16, 50, 576] {
                let (x, w) = (noise(n, 1), noise(n, 2));
                let mut out = vec![0.0; n];
                ops.rms_norm(&x, &w, 1e-5, &mut out);
                let rms = (x.iter().map(|v| v * v).sum::<f32>() / n as f32 + 1e-5).sqrt();
                close(ops.name, &out, &x.iter().zip(&w).map(|(x, w)| x / rms * w).collect::<Vec<_>>());

                let (mut silu, mut gelu) = (w.clone(), w.clone());
                ops.silu_mul(&x, &mut silu);
                ops.gelu_mul(&x, &mut gelu);
                close(
                    ops.name,
                    &silu,
                    &x.iter().zip(&w).map(|(x, w)| x / (1.0 + (-x).exp()) * w).collect::<Vec<_>>(),
                );
                let tanh = |x: f32| 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x.powi(3))).tanh());
                close(ops.name, &gelu, &x.iter().zip(&w).map(|(x, w)| tanh(*x) * w).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn shrink_and_expand_are_matrix_products_in_every_element_type() {
        let (rank, k) = (11, 50);
        let (a, x) = (noise(rank * k, 3), noise(k, 4));
        let half: Vec<f16> = a.iter().map(|v| f16::from_f32(*v)).collect();
        let brain: Vec<bf16> = a.iter().map(|v| bf16::from_f32(*v)).collect();
        let forms: [(Dtype, Vec<u8>, Vec<f32>); 3] = [
            (Dtype::F32, a.iter().flat_map(|v| v.to_ne_bytes()).collect(), a.clone()),
            (
                Dtype::F16,
                half.iter().flat_map(|v| v.to_ne_bytes()).collect(),
                half.iter().map(|v| v.to_f32()).collect(),
            ),
            (
                Dtype::Bf16,
                brain.iter().flat_map(|v| v.to_ne_bytes()).collect(),
                brain.iter().map(|v| v.to_f32()).collect(),
            ),
        ];
        for (ops, (dtype, bytes, exact)) in
            Ops::all().iter().flat_map(|ops| forms.iter().map(move |form| (ops, form)))
        {
            // A Vec of bytes is aligned well enough in practice, but not by promise: copy to where it is.
            let mut aligned = vec![0_u32; bytes.len().div_ceil(4)];
            let place =
                unsafe { std::slice::from_raw_parts_mut(aligned.as_mut_ptr().cast::<u8>(), bytes.len()) };
            place.copy_from_slice(bytes);
            let matrix = MatrixView { dtype: *dtype, rows: rank, columns: k, bytes: place };
            let mut t = vec![0.0; rank];
            ops.shrink(&matrix, &x, 0.5, &mut t);
            let dot = |row: usize| 0.5 * (0..k).map(|at| exact[row * k + at] * x[at]).sum::<f32>();
            close(ops.name, &t, &(0..rank).map(dot).collect::<Vec<_>>());

            let mut y = noise(k, 5);
            let sum = |at: usize| y[at] + (0..rank).map(|row| exact[row * k + at] * t[row]).sum::<f32>();
            let expected: Vec<f32> = (0..k).map(sum).collect();
            ops.expand(&matrix, &t, &mut y);
            close(ops.name, &y, &expected);
        }
    }

    #[test]
    fn exp_is_exact_to_two_units() {
        for x in (-860..=870).map(|tenth| tenth as f32 / 10.0) {
            let mut lanes = [0.0; LANES];
            unsafe { Plain::splat(x).exp().store(lanes.as_mut_ptr()) };
            assert!((lanes[0] / x.exp() - 1.0).abs() < 3e-7, "{x}: {} {}", lanes[0], x.exp());
        }
    }
}
