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
