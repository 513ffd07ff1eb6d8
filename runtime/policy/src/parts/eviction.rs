//! What leaves a device when a batch needs memory that is not free.
//!
//! Source: ServerlessLoRA section 4.3 (lowest value density first, with dependants). It only scores; the core walks the
//! candidates, never touches what is in use, and takes dependants along.

use crate::units::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

/// What the part sees of a candidate.
pub struct Candidate {
    /// Time a later load would take.
    pub saved: Nanos,
    /// Arrivals per 10^6 s of all functions it serves.
    pub rate: u64,
    /// What evicting it frees.
    pub bytes: Bytes,
    /// Since when it has been idle.
    pub idle_since: Nanos,
}

/// The eviction part.
pub trait Eviction {
    /// Smallest leaves first; `None` never leaves under pressure.
    fn score(&self, candidate: &Candidate) -> Option<u64>;
}

/// Every eviction rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum EvictionPart {
    /// Pressure evicts nothing: wait for keep-alives.
    None {},
    /// Least `saved × rate / bytes` first.
    LowestDensity {
        /// Keep kernels in host memory when they leave, so that they come back by a copy.
        offload_kernels: bool,
    },
    /// Longest idle first.
    Lru {},
}

/// Value density `delay saved × rate / bytes`, in ns × (1/10^6 s) per KiB: integer, so that ties are exact.
pub fn density(saved: Nanos, rate: u64, bytes: Bytes) -> u64 {
    let value = u128::from(saved.0) * u128::from(rate);
    (value / u128::from((bytes.0 >> 10).max(1))).min(u128::from(u64::MAX)) as u64
}

impl Eviction for EvictionPart {
    fn score(&self, candidate: &Candidate) -> Option<u64> {
        match self {
            Self::None {} => None,
            Self::LowestDensity { .. } => Some(density(candidate.saved, candidate.rate, candidate.bytes)),
            Self::Lru {} => Some(candidate.idle_since.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(part: EvictionPart, saved_s: u64, rate: u64, kib: u64, idle_s: u64, score: Option<u64>) {
        let second = 1_000_000_000;
        let candidate = Candidate {
            saved: Nanos(saved_s * second),
            rate,
            bytes: Bytes(kib << 10),
            idle_since: Nanos(idle_s * second),
        };
        assert_eq!(part.score(&candidate), score, "{part:?}");
    }

    #[test]
    fn scores() {
        check(EvictionPart::None {}, 1, 1, 1, 1, None);
        check(EvictionPart::Lru {}, 9, 9, 9, 2, Some(2_000_000_000));
        let density = || EvictionPart::LowestDensity { offload_kernels: true };
        check(density(), 2, 3, 6, 0, Some(1_000_000_000));
        check(density(), 2, 0, 6, 0, Some(0)); // never called: first to go
        check(density(), 2, 3, 0, 0, Some(6_000_000_000)); // a mapping without bytes counts as one KiB
    }
}
