//! Rotary positions: the frequencies of every scaling, and the rotation itself on tensors.
//!
//! Written from the definitions in transformers' `modeling_rope_utils.py`, apart from the native executor's own, so that
//! the two check each other. Angles are formed in f32 as transformers forms them.

use crate::model::{Rope, RopeScaling};
use candle_core::{Device, Tensor};
use std::f64::consts::TAU;

/// Inverse frequencies of the `head_dim / 2` pairs, and the factor on cos and sin.
pub fn frequencies(rope: &Rope, head_dim: usize) -> (Vec<f32>, f32) {
    let plain: Vec<f64> =
        (0..head_dim / 2).map(|i| rope.theta.powf(-2.0 * i as f64 / head_dim as f64)).collect();
    let (scaled, attention_factor) = match &rope.scaling {
        RopeScaling::None => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain.iter().map(|f| f / factor).collect(), 1.0),
        RopeScaling::Factors(divisors) => {
            (plain.iter().zip(divisors).map(|(f, divisor)| f / f64::from(*divisor)).collect(), 1.0)
        }
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let context = *original_context as f64;
            let scale = |f: &f64| llama3(*f, *factor, *low_freq_factor, *high_freq_factor, context);
            (plain.iter().map(scale).collect(), 1.0)
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, attention_factor } => {
            let bound = |rotations: f64| {
                let context = *original_context as f64;
                head_dim as f64 * (context / (rotations * TAU)).ln() / (2.0 * rope.theta.ln())
            };
            let low = bound(*beta_fast).floor().max(0.0);
            let high = bound(*beta_slow).ceil().min(head_dim as f64 - 1.0);
            (yarn(&plain, *factor, low, high), *attention_factor)
        }
    };
    (scaled.into_iter().map(|f| f as f32).collect(), attention_factor as f32)
}

fn llama3(frequency: f64, factor: f64, low: f64, high: f64, context: f64) -> f64 {
    let wavelength = TAU / frequency;
    if wavelength < context / high {
        return frequency;
    }
    if wavelength > context / low {
        return frequency / factor;
    }
    let smooth = (context / wavelength - low) / (high - low);
    (1.0 - smooth) * frequency / factor + smooth * frequency
}

/// Pairs below `low` keep their frequency, pairs above `high` are divided by `factor`, a ramp between.
fn yarn(plain: &[f64], factor: f64, low: f64, high: f64) -> Vec<f64> {
    // transformers widens an empty ramp by the same amount, against a division by zero.
    let high = if low == high { high + 0.001 } else { high };
    let ramp = |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
    plain.iter().enumerate().map(|(i, f)| f / factor * ramp(i) + f * (1.0 - ramp(i))).collect()
}

/// Cosines and sines of a run of positions, `[positions, 1, head_dim / 2]` each.
#[derive(Debug, Clone)]
pub struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// The angles of positions `start..start + count`.
    ///
    /// # Errors
    /// Only those of the device.
    pub fn new(
        rope: &Rope,
        head_dim: usize,
        start: usize,
        count: usize,
        device: &Device,
    ) -> candle_core::Result<Self> {
        let (frequencies, factor) = frequencies(rope, head_dim);
        let angles: Vec<f32> = (start..start + count)
            .flat_map(|position| frequencies.iter().map(move |frequency| position as f32 * frequency))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|angle| f(*angle) * factor).collect();
            Tensor::from_vec(values, (count, 1, frequencies.len()), device)
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }

    /// Rotates `x`, `[positions, heads, head_dim]`: element `i` of a head's first half is paired with element `i` of its
    /// second (Hugging Face order).
    ///
    /// # Errors
    /// Only those of the device.
    pub fn rotate(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let half = x.dim(2)? / 2;
        let (first, second) = (x.narrow(2, 0, half)?, x.narrow(2, half, half)?);
        let turned_first = (first.broadcast_mul(&self.cos)? - second.broadcast_mul(&self.sin)?)?;
        let turned_second = (second.broadcast_mul(&self.cos)? + first.broadcast_mul(&self.sin)?)?;
        Tensor::cat(&[turned_first, turned_second], 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scaling: RopeScaling, expected: [f32; 4]) {
        let (found, _) = frequencies(&Rope { theta: 10_000.0, scaling }, 8);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= expected * 1e-6, "{found} instead of {expected}");
        }
    }

    /// The expected values were worked out by hand from the definitions.
    #[test]
    fn each_scaling_gives_the_frequencies_of_its_definition() {
        check(RopeScaling::None, [1.0, 0.1, 0.01, 0.001]);
        check(RopeScaling::Linear { factor: 4.0 }, [0.25, 0.025, 0.0025, 0.00025]);
        check(RopeScaling::Factors(vec![1.0, 2.0, 4.0, 8.0]), [1.0, 0.05, 0.0025, 0.000125]);
        // Wavelengths 6.28, 62.8, 628, 6283 in a context of 1000: bounds 250 and 1000, smooth = (1000/628.3 - 1) / 3.
        check(
            RopeScaling::Llama3 {
                factor: 8.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 1000,
            },
            [1.0, 0.1, 0.002_975_352_5, 0.000_125],
        );
    }

    #[test]
    fn yarn_keeps_fast_pairs_divides_slow_ones_and_scales_the_angles() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_context: 4096,
            attention_factor: 1.25,
        };
        // Bounds: 8 ln(4096 / 64π) / 2 ln(10000) = 1.31 and 8 ln(4096 / 2π) / 2 ln(10000) = 2.81: a ramp from 1 to 3.
        check(scaling.clone(), [1.0, 0.1, 0.00625, 0.00025]);
        assert_eq!(frequencies(&Rope { theta: 10_000.0, scaling }, 8).1, 1.25);
    }
}
