//! Per-function counts and burstiness, streamed: a few words per function, whatever the number of requests.
//!
//! CoV = standard deviation / mean of inter-arrival times; the classes are those of the window files.

use crate::record::Record;

/// Burstiness class by the CoV of inter-arrival times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CovClass {
    /// CoV at most 1.
    Predictable,
    /// CoV above 1 and at most 4.
    Normal,
    /// CoV above 4.
    Bursty,
    /// Fewer than 10 invocations: no class.
    Sparse,
}

impl CovClass {
    /// All classes by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("predictable", Self::Predictable),
        ("normal", Self::Normal),
        ("bursty", Self::Bursty),
        ("sparse", Self::Sparse),
    ];

    /// The class of a function with this many calls and this CoV.
    pub fn of(count: u64, cov: f64) -> Self {
        match cov {
            _ if count < 10 => Self::Sparse,
            c if c <= 1.0 => Self::Predictable,
            c if c <= 4.0 => Self::Normal,
            _ => Self::Bursty,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, c)| *c == self).expect("all listed").0
    }
}

/// Count, mean and CoV of gaps between events in time order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gaps {
    /// Events seen.
    pub count: u64,
    first_ns: u64,
    last_ns: u64,
    /// Welford's running mean and sum of squared deviations, seconds.
    mean_s: f64,
    squares: f64,
}

impl Gaps {
    /// Takes the next event; gives the gap before it, ns.
    #[inline]
    pub fn add(&mut self, at_ns: u64) -> Option<u64> {
        self.count += 1;
        if self.count == 1 {
            (self.first_ns, self.last_ns) = (at_ns, at_ns);
            return None;
        }
        let gap_ns = at_ns.saturating_sub(self.last_ns);
        self.last_ns = at_ns;
        let gap_s = gap_ns as f64 / 1e9;
        let delta = gap_s - self.mean_s;
        self.mean_s += delta / (self.count - 1) as f64;
        self.squares += delta * (gap_s - self.mean_s);
        Some(gap_ns)
    }

    /// Last event minus first, ns.
    pub fn span_ns(&self) -> u64 {
        self.last_ns - self.first_ns
    }

    /// Mean gap, seconds; 0 with fewer than two events.
    pub fn mean_s(&self) -> f64 {
        self.mean_s
    }

    /// Population CoV of the gaps; 0 when all events are at one instant.
    pub fn cov(&self) -> f64 {
        if self.count < 2 || self.mean_s <= 0.0 {
            return 0.0;
        }
        (self.squares / (self.count - 1) as f64).sqrt() / self.mean_s
    }
}

/// [`Gaps`] by function index.
#[derive(Clone, Debug, Default)]
pub struct FunctionStats {
    gaps: Vec<Gaps>,
}

impl FunctionStats {
    /// Takes the next record.
    #[inline]
    pub fn add(&mut self, record: &Record) {
        let at = record.function as usize;
        if at >= self.gaps.len() {
            self.gaps.resize(at + 1, Gaps::default());
        }
        self.gaps[at].add(record.arrival_ns);
    }

    /// Requests of function `i`.
    pub fn count(&self, i: u32) -> u64 {
        self.gaps.get(i as usize).map_or(0, |g| g.count)
    }

    /// Class of function `i`.
    pub fn class(&self, i: u32) -> CovClass {
        self.gaps.get(i as usize).map_or(CovClass::Sparse, |g| CovClass::of(g.count, g.cov()))
    }

    /// Functions seen, by index.
    pub fn all(&self) -> &[Gaps] {
        &self.gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_classes() {
        let check = |times: &[u64], cov: f64| {
            let mut gaps = Gaps::default();
            times.iter().for_each(|t| {
                gaps.add(t * 1_000_000_000);
            });
            assert!((gaps.cov() - cov).abs() < 1e-9, "{times:?}: {}", gaps.cov());
        };
        check(&[], 0.0);
        check(&[5, 5, 5], 0.0);
        check(&[0, 1, 2, 3], 0.0);
        // Gaps 1 and 3: mean 2, deviation 1.
        check(&[0, 1, 4], 0.5);
        assert_eq!(CovClass::of(9, 7.0), CovClass::Sparse);
        assert_eq!(CovClass::of(10, 1.0), CovClass::Predictable);
        assert_eq!(CovClass::of(10, 4.0), CovClass::Normal);
        assert_eq!(CovClass::of(10, 4.1), CovClass::Bursty);
    }
}
