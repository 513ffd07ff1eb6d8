//! Where a request goes: a score per candidate, smallest wins, ties to the lowest id.
//!
//! Whether a further instance is started is the scaling part's question.

use crate::units::Nanos;
use serde::{Deserialize, Serialize};

/// What the part sees of a place that could serve the request.
pub struct Place {
    /// Classes already in place there (0..=5).
    pub present: u64,
    /// Of those, how many are on the device.
    pub on_device: u64,
    /// Requests queued or running there.
    pub pending: u64,
    /// Estimated time until it could answer: missing stages, queue and contention.
    pub estimate: Nanos,
}

/// The routing part.
pub trait Routing {
    /// Smallest wins.
    fn score(&self, place: &Place) -> i64;
}

/// Every routing rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RoutingPart {
    /// Fewest pending requests (a serverful load balancer).
    LeastLoaded {},
    /// Least estimated time to answer (ServerlessLLM's start-up-time scheduler).
    LeastEstimate {},
    /// Highest pre-load score: +10 an artifact, +20 if on the device, −5 a pending request. The numbers are those of
    /// a public re-implementation of ServerlessLoRA; the paper's are not known.
    PreloadScore {},
}

impl Routing for RoutingPart {
    fn score(&self, place: &Place) -> i64 {
        match self {
            Self::LeastLoaded {} => place.pending as i64,
            Self::LeastEstimate {} => place.estimate.0.min(i64::MAX as u64) as i64,
            Self::PreloadScore {} => {
                5 * place.pending as i64 - 10 * place.present as i64 - 20 * place.on_device as i64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(part: RoutingPart, places: &[(u64, u64, u64, u64)], best: usize) {
        let place = |&(present, on_device, pending, seconds): &(u64, u64, u64, u64)| Place {
            present,
            on_device,
            pending,
            estimate: Nanos(seconds * 1_000_000_000),
        };
        let scores: Vec<i64> = places.iter().map(|p| part.score(&place(p))).collect();
        let found = (0..scores.len()).min_by_key(|&n| (scores[n], n));
        assert_eq!(found, Some(best), "{part:?}: {scores:?}");
    }

    #[test]
    fn each_rule_takes_its_best() {
        let places = [(5, 3, 30, 1), (2, 0, 0, 9), (2, 1, 1, 5)];
        check(RoutingPart::LeastLoaded {}, &places, 1);
        check(RoutingPart::LeastEstimate {}, &places, 0);
        check(RoutingPart::PreloadScore {}, &places, 2); // 5·30−50−60 = 40, −20, 5−20−20 = −35
    }

    #[test]
    fn ties_go_to_the_first() {
        check(RoutingPart::LeastLoaded {}, &[(0, 0, 3, 0), (0, 0, 3, 0)], 0);
    }
}
