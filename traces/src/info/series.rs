//! Counts over time: fixed windows for dispersion and peaks, and bins that double for a plot of any span.
//!
//! Windows are aligned to the trace's start; empty ones count. The window the last event falls in is unfinished: it can
//! hold the peak, but dispersion is taken without it.

/// Counts in windows of one width.
#[derive(Clone, Debug)]
pub struct Windows {
    width_ns: u64,
    at: u64,
    count: u64,
    sum: f64,
    squares: f64,
    peak: u64,
}

impl Windows {
    /// Windows `width_ns` long.
    pub fn new(width_ns: u64) -> Self {
        Self { width_ns, at: 0, count: 0, sum: 0.0, squares: 0.0, peak: 0 }
    }

    fn close(&mut self) {
        self.sum += self.count as f64;
        self.squares += (self.count as f64) * (self.count as f64);
        self.peak = self.peak.max(self.count);
        self.count = 0;
    }

    /// Takes an event; times ascend.
    #[inline]
    pub fn add(&mut self, at_ns: u64) {
        let at = at_ns / self.width_ns;
        if at != self.at {
            self.close();
            self.at = at;
        }
        self.count += 1;
    }

    /// Most events in a window, and variance / mean over the windows before the last event's.
    pub fn finish(self) -> (u64, f64) {
        let peak = self.peak.max(self.count);
        let n = self.at as f64;
        let mean = self.sum / n.max(1.0);
        if mean <= 0.0 {
            return (peak, 0.0);
        }
        (peak, (self.squares / n - mean * mean) / mean)
    }
}

/// Bins held by [`Bins`].
const BINS: usize = 2048;

/// Counts over the whole span in at most 2,048 bins, whose width doubles when the span outgrows them.
#[derive(Clone, Debug)]
pub struct Bins {
    width_ns: u64,
    counts: Vec<u64>,
}

impl Default for Bins {
    fn default() -> Self {
        Self { width_ns: 100_000_000, counts: vec![] }
    }
}

impl Bins {
    /// Takes an event.
    #[inline]
    pub fn add(&mut self, at_ns: u64) {
        while at_ns / self.width_ns >= BINS as u64 {
            let halved = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.counts = halved;
            // 2^64 ns are reached after a few dozen doublings.
            self.width_ns = self.width_ns.saturating_mul(2);
        }
        let at = (at_ns / self.width_ns) as usize;
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
    }

    /// At most `n` points: start of the bin in seconds, events per second in it.
    pub fn rates(&self, n: usize) -> Vec<(f64, f64)> {
        let merged = self.counts.len().div_ceil(n.max(1)).max(1);
        let width_s = self.width_ns as f64 / 1e9;
        let rate = |(i, bins): (usize, &[u64])| {
            (
                i as f64 * merged as f64 * width_s,
                bins.iter().sum::<u64>() as f64 / (bins.len() as f64 * width_s),
            )
        };
        self.counts.chunks(merged).enumerate().map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_count_the_empty_ones() {
        let mut windows = Windows::new(10);
        [0, 1, 2, 35, 36, 37, 38].iter().for_each(|t| windows.add(*t));
        // Counts 3, 0, 0 and an unfinished 4: mean 1, variance 2.
        assert_eq!(windows.finish(), (4, 2.0));
        assert_eq!(Windows::new(10).finish(), (0, 0.0));
    }

    #[test]
    fn bins_keep_every_event() {
        let mut bins = Bins::default();
        (0..1000u64).for_each(|i| bins.add(i * 1_000_000_000_000));
        bins.add(u64::MAX);
        let total: u64 = bins.counts.iter().sum();
        assert_eq!(total, 1001);
        assert!(bins.counts.len() <= BINS && bins.rates(100).len() <= 100);
    }
}
