//! How many instances: whether a request that found a place should start another one instead.
//!
//! Where the new one goes is the routing part's question.

use crate::units::Nanos;
use serde::{Deserialize, Serialize};

/// What the part sees when the best existing instance is known.
pub struct Demand {
    /// Requests queued or running at the best instance.
    pub pending: u64,
    /// Waiting, queue and contention there, `w + M T(b)`: a start under way is not in it, since another start would not be sooner.
    pub service: Nanos,
    /// The function's TTFT limit.
    pub slo: Nanos,
    /// Instances the function has.
    pub instances: u64,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleDecision {
    /// Use the best instance there is.
    Stay,
    /// Start another one if a device could answer sooner or has room.
    Another,
}

/// The scaling part.
pub trait Scaling {
    /// Whether to add an instance.
    fn decide(&self, demand: &Demand) -> ScaleDecision;
}

/// Every scaling rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ScalingPart {
    /// Serverful: replicas per backbone, started before the run; 0 fills the fleet.
    Fixed {
        /// Replicas of each backbone.
        replicas: u32,
    },
    /// Another instance when each has this many requests.
    Concurrency {
        /// Requests an instance takes before another one starts.
        target: u64,
        /// Most instances of a function.
        max_instances: u64,
    },
    /// Another instance when queue and contention at the best one exceed the TTFT limit (a negative deadline margin).
    SloMargin {
        /// Most instances of a function.
        max_instances: u64,
    },
}

impl Scaling for ScalingPart {
    fn decide(&self, d: &Demand) -> ScaleDecision {
        let another = match *self {
            Self::Fixed { .. } => false,
            Self::Concurrency { target, max_instances } => d.pending >= target && d.instances < max_instances,
            Self::SloMargin { max_instances } => d.service > d.slo && d.instances < max_instances,
        };
        if another { ScaleDecision::Another } else { ScaleDecision::Stay }
    }
}
