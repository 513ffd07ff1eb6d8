//! What a replay of invocations says: counts, instance time that adds up exactly, latency, and a digest of its events.
//!
//! It leaves out money: tariffs price GPUs, and there are none here.

use super::Settings;
use crate::report::model::Quantiles;
use serde::{Deserialize, Serialize};

/// Nanoseconds of all instances together; `cold + busy + idle = alive`, exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceTime {
    /// Starting.
    pub cold_ns: u128,
    /// Running an invocation.
    pub busy_ns: u128,
    /// Kept for the next one.
    pub idle_ns: u128,
    /// From the start of each instance to its stop, counted apart from the three above.
    pub alive_ns: u128,
}

/// Counts of one class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCount {
    /// Its name.
    pub class: String,
    /// Functions in it; 0 for service classes, which belong to invocations.
    pub functions: u64,
    /// Invocations that arrived.
    pub arrivals: u64,
    /// Those that waited for an instance to start.
    pub cold_starts: u64,
    /// Those that were refused.
    pub refused: u64,
}

/// The report. `arrivals = completed + refused`, and `completed = cold_starts + warm_starts`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvocationReport {
    /// What the replay was set to.
    pub settings: Settings,
    /// Invocations in the trace.
    pub arrivals: u64,
    /// Those that ran to their end.
    pub completed: u64,
    /// Those that found no memory.
    pub refused: u64,
    /// Those that waited for an instance to start.
    pub cold_starts: u64,
    /// Those that found one idle.
    pub warm_starts: u64,
    /// Cold starts over completed, 0..=1.
    pub cold_share: f64,
    /// Invocations whose record states no duration.
    pub without_duration: u64,
    /// Rows of the trace that could not be read.
    pub bad_rows: u64,
    /// Functions with at least one arrival.
    pub functions: u64,
    /// From the first arrival to the end of the last invocation, ns.
    pub span_ns: u64,
    /// Instance time.
    pub instance_time: InstanceTime,
    /// Idle over alive, 0..=1.
    pub idle_share: f64,
    /// Memory held while alive, gigabytes (10^9 bytes) × seconds; `None` when the memory of an instance is not stated.
    pub gb_s: Option<f64>,
    /// Arrival to end of completed invocations, seconds.
    pub latency_s: Quantiles,
    /// Most instances alive at once.
    pub peak_instances: u64,
    /// Instances stopped to make room.
    pub evicted: u64,
    /// Instances stopped because their time ran out.
    pub expired: u64,
    /// By the CoV of a function's inter-arrival times: predictable, normal, bursty, sparse.
    pub by_pattern: Vec<ClassCount>,
    /// By the service class that records state; empty when none do.
    pub by_service_class: Vec<ClassCount>,
    /// Digest of all decisions and ends, in order: equal digests mean equal runs.
    pub digest: String,
    /// Entries in it.
    pub events: u64,
}
