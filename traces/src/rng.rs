//! Seeded randomness: one labelled ChaCha8 stream per source, and the few laws the traces need.
//!
//! A stream's key is SHA-256(seed ‖ label), so adding a source never shifts another's draws. All transcendental
//! functions go through `libm`, so a seed gives the same trace on every machine. It leaves out cryptographic use.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};
use sha2::{Digest, Sha256};

/// A random stream of its own, named by a label.
#[derive(Clone, Debug)]
pub struct Stream {
    inner: ChaCha8Rng,
    /// Second normal of the last Marsaglia pair.
    spare: Option<f64>,
}

impl Stream {
    /// The stream of `seed` with this label.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(label.as_bytes());
        Self { inner: ChaCha8Rng::from_seed(hash.finalize().into()), spare: None }
    }

    /// 64 uniform bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.inner.next_u64()
    }

    /// Uniform in [0, 1), in steps of 2^-53.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// Uniform in (0, 1): never 0, so its logarithm is finite.
    fn open_unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) * (1.0 / (1u64 << 52) as f64)
    }

    /// Uniform integer in 0..n by multiply-shift; the bias is below n / 2^64.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Marsaglia's polar method).
    pub fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * self.unit() - 1.0, 2.0 * self.unit() - 1.0);
            let s = x * x + y * y;
            if s > 0.0 && s < 1.0 {
                let scale = (-2.0 * libm::log(s) / s).sqrt();
                self.spare = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Log-normal with natural-log mean `mu` and deviation `sigma`.
    pub fn log_normal(&mut self, mu: f64, sigma: f64) -> f64 {
        libm::exp(mu + sigma * self.normal())
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -libm::log(self.open_unit())
    }

    /// Gamma with this shape and scale 1 (Marsaglia and Tsang 2000; below shape 1 by the power of a uniform).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = libm::exp(libm::log(self.open_unit()) / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = 1.0 + c * x;
            if v <= 0.0 {
                continue;
            }
            let v = v * v * v;
            if libm::log(self.open_unit()) < 0.5 * x * x + d - d * v + d * libm::log(v) {
                return d * v;
            }
        }
    }
}

/// A discrete law over 0..n drawn by Walker's alias method: two draws and one comparison a sample.
#[derive(Clone, Debug)]
pub struct Weighted {
    keep: Vec<f64>,
    alias: Vec<u32>,
}

impl Weighted {
    /// The law with these weights, which must be finite, non-negative and not all zero; `None` otherwise.
    pub fn new(weights: &[f64]) -> Option<Self> {
        let total: f64 = weights.iter().sum();
        let bad = weights.iter().any(|w| !w.is_finite() || *w < 0.0);
        if bad || !total.is_finite() || total <= 0.0 || u32::try_from(weights.len()).is_err() {
            return None;
        }
        let n = weights.len();
        let mut keep: Vec<f64> = weights.iter().map(|w| w * n as f64 / total).collect();
        let mut alias: Vec<u32> = (0..n as u32).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..n).partition(|&i| keep[i] < 1.0);
        while let (Some(s), Some(&l)) = (small.pop(), large.last()) {
            alias[s] = l as u32;
            keep[l] -= 1.0 - keep[s];
            if keep[l] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
        // What is left over is 1 up to rounding.
        small.into_iter().chain(large).for_each(|i| keep[i] = 1.0);
        Some(Self { keep, alias })
    }

    /// p(rank) ~ rank^-s over ranks 1..=n, index 0 the most popular.
    pub fn zipf(n: u32, s: f64) -> Option<Self> {
        let weights: Vec<f64> = (1..=n).map(|rank| libm::pow(f64::from(rank), -s)).collect();
        Self::new(&weights)
    }

    /// One draw.
    #[inline]
    pub fn draw(&self, rng: &mut Stream) -> u32 {
        let i = rng.below(self.keep.len() as u64) as usize;
        if rng.unit() < self.keep[i] { i as u32 } else { self.alias[i] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let n = 200_000;
        let values: Vec<f64> = (0..n).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / f64::from(n);
        (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / f64::from(n))
    }

    #[test]
    fn laws_have_their_moments() {
        let mut rng = Stream::new(1, "test");
        let check = |(mean, var): (f64, f64), want: (f64, f64)| {
            assert!((mean / want.0 - 1.0).abs() < 0.03, "mean {mean}, expected {}", want.0);
            assert!((var / want.1 - 1.0).abs() < 0.06, "variance {var}, expected {}", want.1);
        };
        check(moments(|| rng.gamma(0.3)), (0.3, 0.3));
        check(moments(|| rng.gamma(4.0)), (4.0, 4.0));
        check(moments(|| rng.exponential()), (1.0, 1.0));
        check(moments(|| 5.0 + rng.normal()), (5.0, 1.0));
    }

    #[test]
    fn labels_separate_streams_and_seeds_repeat() {
        let first = |seed, label| Stream::new(seed, label).bits();
        assert_eq!(first(7, "a"), first(7, "a"));
        assert_ne!(first(7, "a"), first(7, "b"));
        assert_ne!(first(7, "a"), first(8, "a"));
    }

    #[test]
    fn zipf_shares_follow_the_law() {
        let law = Weighted::zipf(3, 1.0).expect("valid");
        let mut rng = Stream::new(3, "zipf");
        let mut counts = [0u32; 3];
        (0..110_000).for_each(|_| counts[law.draw(&mut rng) as usize] += 1);
        for (count, want) in counts.iter().zip([60_000.0, 30_000.0, 20_000.0]) {
            assert!((f64::from(*count) / want - 1.0).abs() < 0.03, "{counts:?}");
        }
        assert!(Weighted::new(&[]).is_none());
        assert!(Weighted::new(&[f64::NAN]).is_none());
    }
}
