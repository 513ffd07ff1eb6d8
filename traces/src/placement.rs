//! From counts per minute to arrivals: where inside its minute an invocation happens.
//!
//! Holds the sparse count matrix and one minute of arrivals at a time, never all invocations.

use crate::record::TraceError;
use crate::rng::Stream;

/// Nanoseconds in a minute.
pub const MINUTE_NS: u64 = 60_000_000_000;
/// Most invocations in one minute over all functions (400 MB while it lasts). Arbitrary; Azure's busiest is near 10^6.
pub const MINUTE_COUNT_MAX: u64 = 50_000_000;
// The sort key packs an offset of 36 bits (60e9 < 2^36) over a row of 28.
const ROW_BITS: u32 = 28;

/// Where in the minute the invocations of a count go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Placement {
    /// In the middles of equal parts of the minute.
    Even,
    /// Uniformly at random, seeded: a Poisson process given its counts.
    #[default]
    Uniform,
    /// All at the minute's first instant.
    Start,
}

impl Placement {
    /// All placements by name.
    pub const ALL: [(&'static str, Self); 3] =
        [("even", Self::Even), ("uniform", Self::Uniform), ("start", Self::Start)];

    /// The name used on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, p)| *p == self).expect("all listed").0
    }
}

/// Sparse counts: per minute the rows that have any.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    minutes: Vec<Vec<(u32, u32)>>,
    rows: u32,
}

impl Counts {
    /// Adds `count` invocations of `row` in `minute` (from 0); rows must be added in ascending order.
    pub fn add(&mut self, minute: usize, row: u32, count: u32) {
        if count == 0 {
            return;
        }
        if self.minutes.len() <= minute {
            self.minutes.resize_with(minute + 1, Vec::new);
        }
        self.rows = self.rows.max(row + 1);
        self.minutes[minute].push((row, count));
    }
}

/// Gives out the arrivals of a count matrix in time order; ties go by row.
pub struct Placer {
    counts: Counts,
    placement: Placement,
    rng: Stream,
    keys: Vec<u64>,
    next: usize,
    minute: usize,
}

impl Placer {
    /// Arrivals of `counts`; `rng` is used by uniform placement only.
    pub fn new(counts: Counts, placement: Placement, rng: Stream) -> Result<Self, TraceError> {
        if counts.rows >= 1 << ROW_BITS {
            return Err(TraceError::Setting(format!(
                "more than {} functions in one count file",
                1u32 << ROW_BITS
            )));
        }
        let crowded = counts
            .minutes
            .iter()
            .position(|m| m.iter().map(|&(_, n)| u64::from(n)).sum::<u64>() > MINUTE_COUNT_MAX);
        if let Some(minute) = crowded {
            return Err(TraceError::Setting(format!(
                "minute {minute} holds more than {MINUTE_COUNT_MAX} invocations; take fewer functions or divide the counts"
            )));
        }
        Ok(Self { counts, placement, rng, keys: vec![], next: 0, minute: 0 })
    }

    /// The next arrival: ns since the first minute's start, and the row.
    #[inline]
    pub fn next_arrival(&mut self) -> Option<(u64, u32)> {
        while self.next == self.keys.len() {
            if self.minute == self.counts.minutes.len() {
                return None;
            }
            self.fill();
        }
        let key = self.keys[self.next];
        self.next += 1;
        Some(((self.minute as u64 - 1) * MINUTE_NS + (key >> ROW_BITS), (key & ((1 << ROW_BITS) - 1)) as u32))
    }

    /// Share of the minutes given out, 0..=1.
    pub fn progress(&self) -> f64 {
        self.minute as f64 / self.counts.minutes.len().max(1) as f64
    }

    fn fill(&mut self) {
        self.keys.clear();
        self.next = 0;
        for &(row, count) in &self.counts.minutes[self.minute] {
            let n = u64::from(count);
            for k in 0..n {
                let offset = match self.placement {
                    Placement::Even => MINUTE_NS * (2 * k + 1) / (2 * n),
                    Placement::Uniform => self.rng.below(MINUTE_NS),
                    Placement::Start => 0,
                };
                self.keys.push((offset << ROW_BITS) | u64::from(row));
            }
        }
        self.keys.sort_unstable();
        self.minute += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(placement: Placement, cells: &[(usize, u32, u32)]) -> Vec<(u64, u32)> {
        let mut counts = Counts::default();
        cells.iter().for_each(|&(minute, row, count)| counts.add(minute, row, count));
        let mut placer = Placer::new(counts, placement, Stream::new(1, "place")).expect("small");
        std::iter::from_fn(|| placer.next_arrival()).collect()
    }

    #[test]
    fn placements() {
        let cells = [(0, 0, 2), (0, 1, 1), (2, 1, 1)];
        assert_eq!(
            place(Placement::Even, &cells),
            [(15_000_000_000, 0), (30_000_000_000, 1), (45_000_000_000, 0), (150_000_000_000, 1)]
        );
        assert_eq!(place(Placement::Start, &cells), [(0, 0), (0, 0), (0, 1), (120_000_000_000, 1)]);
        let uniform = place(Placement::Uniform, &cells);
        assert!(uniform.is_sorted() && uniform.len() == 4);
        assert_eq!(uniform, place(Placement::Uniform, &cells));
    }

    #[test]
    fn a_crowded_minute_is_refused() {
        let mut counts = Counts::default();
        counts.add(0, 0, u32::MAX);
        assert!(Placer::new(counts, Placement::Even, Stream::new(1, "x")).is_err());
    }
}
