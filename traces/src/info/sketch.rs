//! Quantiles in fixed memory: logarithmic buckets for times, exact counts for tokens.
//!
//! A time's quantile is within 0.1 % of a value of that rank; token quantiles are exact up to 262,143 tokens.

/// Growth of a bucket: 0.2 % wide, so its middle is within 0.1 %.
const GROWTH: f64 = 1.002;
/// Buckets for 1 ns up to 2^64 ns.
const BUCKETS: usize = 22_300;

/// Counts of ns values in buckets of equal ratio; 0 has its own.
#[derive(Clone, Debug)]
pub struct LogSketch {
    zeros: u64,
    counts: Vec<u64>,
    total: u64,
    /// Index of the bucket whose lower bound is 2^k, and beyond: a cheap logarithm.
    inverse_log_growth: f64,
}

impl Default for LogSketch {
    fn default() -> Self {
        Self { zeros: 0, counts: vec![0; BUCKETS], total: 0, inverse_log_growth: 1.0 / libm::log(GROWTH) }
    }
}

impl LogSketch {
    /// Takes a value.
    pub fn add(&mut self, value: u64) {
        self.total += 1;
        if value == 0 {
            self.zeros += 1;
            return;
        }
        let at = (libm::log(value as f64) * self.inverse_log_growth) as usize;
        self.counts[at.min(BUCKETS - 1)] += 1;
    }

    /// The value of rank `q` × (n - 1), 0..=1; 0 when empty.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.total.saturating_sub(1) as f64).round() as u64;
        let mut seen = self.zeros;
        if self.total == 0 || rank < seen {
            return 0.0;
        }
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if rank < seen {
                return libm::exp((at as f64 + 0.5) / self.inverse_log_growth);
            }
        }
        0.0
    }

    /// Counts over `n` bins equal in the logarithm between the least and greatest value above 0: bin middles and counts.
    pub fn histogram(&self, n: usize) -> Vec<(f64, u64)> {
        let first = self.counts.iter().position(|c| *c > 0);
        let (Some(first), Some(last)) = (first, self.counts.iter().rposition(|c| *c > 0)) else {
            return vec![];
        };
        let width = (last - first + 1).div_ceil(n.max(1)).max(1);
        let bins = self.counts[first..=last].chunks(width).enumerate();
        bins.map(|(i, bin)| {
            let middle = (first + i * width) as f64 + bin.len() as f64 / 2.0;
            (libm::exp(middle / self.inverse_log_growth), bin.iter().sum())
        })
        .collect()
    }
}

/// Tokens counted one by one.
const EXACT: usize = 1 << 18;

/// Exact counts of token lengths; lengths from 262,144 up share the last place.
#[derive(Clone, Debug)]
pub struct TokenCounts {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
    max: u32,
}

impl Default for TokenCounts {
    fn default() -> Self {
        Self { counts: vec![0; EXACT], total: 0, sum: 0, max: 0 }
    }
}

impl TokenCounts {
    /// Takes a length.
    pub fn add(&mut self, tokens: u32) {
        self.counts[(tokens as usize).min(EXACT - 1)] += 1;
        self.total += 1;
        self.sum += u64::from(tokens);
        self.max = self.max.max(tokens);
    }

    /// Greatest length.
    pub fn max(&self) -> u32 {
        self.max
    }

    /// Sum of lengths.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Mean length.
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.total.max(1) as f64
    }

    /// Quantile `q` (0..=1) by linear interpolation between the neighbouring ranks.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = q * self.total.saturating_sub(1) as f64;
        let (low, part) = (rank.floor() as u64, rank - rank.floor());
        let at_low = self.at_rank(low);
        if part == 0.0 { at_low } else { at_low + (self.at_rank(low + 1) - at_low) * part }
    }

    fn at_rank(&self, rank: u64) -> f64 {
        let mut seen = 0;
        for (tokens, count) in self.counts.iter().enumerate() {
            seen += count;
            if rank < seen {
                return if tokens == EXACT - 1 { f64::from(self.max) } else { tokens as f64 };
            }
        }
        0.0
    }

    /// Counts over at most `n` bins equal in the logarithm: bin starts and counts. Length 0 counts as 1.
    pub fn histogram(&self, n: usize) -> Vec<(f64, u64)> {
        if self.total == 0 || n == 0 {
            return vec![];
        }
        let top = f64::from(self.max.max(2)) + 1.0;
        let edge = |i: usize| libm::pow(top, i as f64 / n as f64);
        let mut bins: Vec<(f64, u64)> = (0..n).map(|i| (edge(i), 0)).collect();
        for (tokens, count) in self.counts.iter().enumerate().filter(|(_, c)| **c > 0) {
            let at = libm::log(tokens.max(1) as f64) / libm::log(top) * n as f64;
            bins[(at as usize).min(n - 1)].1 += count;
        }
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_quantiles_are_within_their_bound() {
        let mut sketch = LogSketch::default();
        (0..=100_000u64).for_each(|v| sketch.add(v * 1000));
        for q in [0.01, 0.5, 0.9, 0.99] {
            let exact = q * 100_000.0 * 1000.0;
            assert!((sketch.quantile(q) / exact - 1.0).abs() < 0.0015, "{q}");
        }
        assert_eq!(sketch.quantile(0.0), 0.0);
        sketch.add(u64::MAX);
        assert!((sketch.quantile(1.0) / u64::MAX as f64 - 1.0).abs() < 0.01);
        assert_eq!(LogSketch::default().quantile(0.5), 0.0);
        assert_eq!(sketch.histogram(50).iter().map(|b| b.1).sum::<u64>(), 100_001);
    }

    #[test]
    fn token_quantiles_are_exact() {
        let mut counts = TokenCounts::default();
        [5, 1, 9, 3].iter().for_each(|t| counts.add(*t));
        let check = |q: f64, want: f64| assert!((counts.quantile(q) - want).abs() < 1e-9, "{q}");
        check(0.0, 1.0);
        check(0.5, 4.0);
        check(1.0, 9.0);
        assert_eq!((counts.mean(), counts.max(), counts.sum()), (4.5, 9, 18));
        assert_eq!(counts.histogram(10).iter().map(|b| b.1).sum::<u64>(), 4);
    }
}
