//! A log-linear histogram of nanoseconds: fixed memory, quantiles to within 0.4 %, exact mean and maximum.

use crate::report::model::Quantiles;

const BITS: u32 = 8;
const SUB: usize = 1 << BITS;

/// The histogram.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    over: u64,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; SUB * 48], over: 0, count: 0, sum: 0, max: 0 }
    }
}

fn bucket(ns: u64) -> usize {
    let top = 63 - (ns | SUB as u64).leading_zeros();
    let shift = top - BITS;
    ((shift as usize) << BITS) + (ns >> shift) as usize
}

/// Largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    if bucket < 2 * SUB {
        return bucket as u64;
    }
    let shift = (bucket >> BITS) - 1;
    ((((bucket & (SUB - 1)) + SUB + 1) as u64) << shift) - 1
}

impl Histogram {
    /// Adds one value.
    pub fn add(&mut self, ns: u64) {
        match self.counts.get_mut(bucket(ns)) {
            Some(c) if *c < u32::MAX => *c += 1,
            _ => self.over += 1,
        }
        self.count += 1;
        self.sum += u128::from(ns);
        self.max = self.max.max(ns);
    }

    /// Values so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sum of the values, ns.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// The value at or below which a share of the values lies, ns.
    pub fn quantile(&self, share: f64) -> u64 {
        let rank = ((share * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (n, &c) in self.counts.iter().enumerate() {
            seen += u64::from(c);
            if seen >= rank {
                return upper(n).min(self.max);
            }
        }
        self.max
    }

    /// For the report.
    pub fn quantiles(&self) -> Quantiles {
        if self.count == 0 {
            return Quantiles::default();
        }
        let q = |share| self.quantile(share) as f64 / 1e9;
        Quantiles {
            count: self.count,
            mean: self.sum as f64 / self.count as f64 / 1e9,
            p50: q(0.5),
            p90: q(0.9),
            p95: q(0.95),
            p99: q(0.99),
            max: self.max as f64 / 1e9,
        }
    }

    /// Points (seconds, share at or below), at most `limit`, the last at share 1.
    pub fn cdf(&self, limit: usize) -> Vec<(f64, f64)> {
        let mut points = Vec::new();
        let (mut seen, mut shown) = (0u64, 0u64);
        let step = (self.count / limit.max(2) as u64).max(1);
        for (n, &c) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            seen += u64::from(c);
            if points.is_empty() || seen - shown >= step || seen == self.count {
                points.push((upper(n).min(self.max) as f64 / 1e9, seen as f64 / self.count as f64));
                shown = seen;
            }
        }
        points.truncate(limit);
        if let Some(last) = points.last_mut() {
            *last = (self.max as f64 / 1e9, 1.0);
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_values_to_within_0_4_percent() {
        for exponent in 0..55 {
            for offset in [0u64, 1, 77, 12345] {
                let v = (1u64 << exponent) + offset;
                let up = upper(bucket(v));
                assert!(up >= v && (up - v) as f64 <= 0.004 * v as f64, "{v} → {up}");
            }
        }
    }

    #[test]
    fn quantiles_of_a_ramp() {
        let mut h = Histogram::default();
        (1..=1000).for_each(|v| h.add(v * 1_000_000));
        let q = h.quantiles();
        assert!((q.mean - 0.5005).abs() < 1e-9 && (q.p50 / 0.5 - 1.0).abs() < 0.005 && q.max == 1.0);
        let cdf = h.cdf(200);
        assert!(cdf.len() <= 200 && cdf.last() == Some(&(1.0, 1.0)));
        assert!(cdf.windows(2).all(|w| w[0].0 <= w[1].0 && w[0].1 <= w[1].1));
    }
}
