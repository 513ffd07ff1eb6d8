//! Replays invocations without tokens: functions that run for a given time, one invocation per instance at a time.
//!
//! Decisions come from `coldframe_policy::invocation`; this carries them out in virtual time. Memory grows with functions and
//! with instances alive, not with invocations. It leaves out workers, queues and what an instance does: an invocation takes
//! its record's time, after a start of fixed length where no instance is idle.
//!
//! At one instant, what ends comes before what arrives, and instances run out last. The run ends when the last invocation
//! has ended; what is alive then is counted up to then.

pub mod f1;
mod replay;
mod report;

#[cfg(test)]
mod tests;

pub use replay::replay;
pub use report::{ClassCount, InstanceTime, InvocationReport};

use crate::profile::ColdStart;
use coldframe_policy::parts::keep_alive::KeepAlivePart;
use coldframe_traces::Refusal;
use serde::{Deserialize, Serialize};

/// What a replay is set to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long an idle instance is kept.
    pub keep_alive: KeepAlivePart,
    /// From the decision to start an instance until it can run its first invocation, ns.
    pub cold_start_ns: u64,
    /// Duration of a record that states none, ns.
    pub default_duration_ns: u64,
    /// Memory of an instance in any state, bytes; 0 is "not stated".
    pub instance_bytes: u64,
    /// Memory of all instances together, bytes; `None` is no limit.
    pub memory_cap_bytes: Option<u64>,
}

impl Settings {
    /// A fixed keep-alive and cold start, no memory; a record without duration takes no time.
    pub fn fixed(keep_alive_s: f64, cold_start_ns: u64) -> Self {
        Self {
            keep_alive: keep(keep_alive_s),
            cold_start_ns,
            default_duration_ns: 0,
            instance_bytes: 0,
            memory_cap_bytes: None,
        }
    }
}

/// The fixed rule that keeps an instance as a whole, seconds; for always when infinite.
pub fn keep(seconds: f64) -> KeepAlivePart {
    if seconds == f64::INFINITY {
        return KeepAlivePart::Forever {};
    }
    KeepAlivePart::Fixed {
        container_s: seconds,
        runtime_s: seconds,
        backbone_s: seconds,
        adapter_s: seconds,
        kernel_s: seconds,
    }
}

/// Start of an instance without a model under a regime, ns: its container and its libraries.
pub fn cold_start_ns(regime: &ColdStart) -> u64 {
    regime.container_ns.saturating_add(regime.runtime_ns)
}

/// What a replay is given beside its settings.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Called now and then with the share done; `false` stops the run.
    pub poll: Option<&'a mut dyn FnMut(Option<f64>) -> bool>,
    /// Called with each refused row; `None` makes the first one an error.
    pub refused: Option<&'a mut dyn FnMut(Refusal)>,
}
