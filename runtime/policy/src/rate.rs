//! Arrival rate of a function over a sliding window, from its last few arrivals.
//!
//! Sixteen arrivals are enough to rank functions; more would only cost memory.

use crate::units::Nanos;

const KEPT: usize = 16;

/// The last arrivals of one function.
#[derive(Clone, Debug)]
pub struct Arrivals {
    ring: [u64; KEPT],
    /// Arrivals in all.
    pub total: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { ring: [0; KEPT], total: 0 }
    }
}

impl Arrivals {
    /// Notes an arrival.
    pub fn push(&mut self, now: Nanos) {
        self.ring[(self.total % KEPT as u64) as usize] = now.0;
        self.total += 1;
    }

    /// The latest arrival.
    pub fn last(&self) -> Option<Nanos> {
        (self.total > 0).then(|| Nanos(self.ring[((self.total - 1) % KEPT as u64) as usize]))
    }

    /// Arrivals per 10^6 seconds within the last `window`: the count over the window or, where the ring does not
    /// reach back that far, the count kept over the time it spans.
    pub fn per_megasecond(&self, now: Nanos, window: Nanos) -> u64 {
        let start = now.0.saturating_sub(window.0);
        let kept = self.total.min(KEPT as u64) as usize;
        let recent = self.ring[..kept].iter().filter(|&&t| t >= start);
        let (count, oldest) = recent.fold((0u64, u64::MAX), |(n, old), &t| (n + 1, old.min(t)));
        if count == 0 {
            return 0;
        }
        let span = if count == KEPT as u64 { (now.0 - oldest).max(1) } else { window.0.max(1) };
        (u128::from(count) * 1_000_000_000_000_000 / u128::from(span)).min(u128::from(u64::MAX)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arrivals_s: &[u64], now_s: u64, window_s: u64, per_megasecond: u64) {
        let mut a = Arrivals::default();
        arrivals_s.iter().for_each(|&s| a.push(Nanos(s * 1_000_000_000)));
        let got = a.per_megasecond(Nanos(now_s * 1_000_000_000), Nanos(window_s * 1_000_000_000));
        assert_eq!(got, per_megasecond);
    }

    #[test]
    fn counts_only_the_window() {
        check(&[], 5, 10, 0);
        check(&[0], 5, 10, 100_000);
        check(&[0], 11, 10, 0);
        check(&[0, 8, 9], 11, 10, 200_000);
    }

    #[test]
    fn a_full_ring_uses_the_time_it_spans() {
        let times: Vec<u64> = (0..100).collect();
        check(&times, 100, 1000, 1_000_000);
    }
}
