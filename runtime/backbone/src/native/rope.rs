//! Rotary position embeddings: the frequencies of every scaling rule, and their angles by position.
//!
//! Sources: Su et al. 2021 (RoPE), Peng et al. 2023 (YaRN), `modeling_rope_utils.py` of Hugging Face transformers for the
//! rules' exact forms.

use crate::model::{Rope, RopeScaling};
use std::f64::consts::PI;

/// Frequencies of one head, radians per position, and the factor on cos and sin.
#[derive(Debug, Clone)]
pub struct Frequencies {
    /// `head_dim / 2` values.
    pub inverse: Vec<f64>,
    /// 1, or YaRN's attention factor.
    pub factor: f64,
}

impl Frequencies {
    /// The frequencies of a head of `head_dim`.
    pub fn new(rope: &Rope, head_dim: usize) -> Self {
        let plain = |i: usize| rope.theta.powf(-((2 * i) as f64) / head_dim as f64);
        let inverse = (0..head_dim / 2).map(plain);
        let mut factor = 1.0;
        let inverse = match &rope.scaling {
            RopeScaling::None => inverse.collect(),
            RopeScaling::Linear { factor } => inverse.map(|f| f / factor).collect(),
            RopeScaling::Factors(factors) => inverse.zip(factors).map(|(f, by)| f / f64::from(*by)).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                let context = *original_context as f64;
                let blend = |f: f64| {
                    let rotations = context * f / (2.0 * PI);
                    let smooth = (rotations - low_freq_factor) / (high_freq_factor - low_freq_factor);
                    let smooth = smooth.clamp(0.0, 1.0);
                    (1.0 - smooth) * f / factor + smooth * f
                };
                inverse.map(blend).collect()
            }
            RopeScaling::Yarn { factor: by, beta_fast, beta_slow, original_context, attention_factor } => {
                factor = *attention_factor;
                let edge = |rotations: f64| {
                    let wave = *original_context as f64 / (rotations * 2.0 * PI);
                    head_dim as f64 * wave.ln() / (2.0 * rope.theta.ln())
                };
                let low = edge(*beta_fast).floor().max(0.0);
                let high = edge(*beta_slow).ceil().min(head_dim as f64 - 1.0);
                let high = if low == high { high + 0.001 } else { high };
                let ramp = |i: usize| ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
                inverse.enumerate().map(|(i, f)| f / by * ramp(i) + f * (1.0 - ramp(i))).collect()
            }
        };
        Self { inverse, factor }
    }

    /// Writes the cosines and sines of `position`.
    pub fn angles(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((inverse, cos), sin) in self.inverse.iter().zip(cos).zip(sin) {
            let (s, c) = (position as f64 * inverse).sin_cos();
            (*cos, *sin) = ((c * self.factor) as f32, (s * self.factor) as f32);
        }
    }
}
