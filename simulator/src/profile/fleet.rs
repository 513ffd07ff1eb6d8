//! Fleets: how many workers, and what each holds. All workers of a fleet are alike.

use serde::{Deserialize, Serialize};

/// A fleet of equal workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetProfile {
    /// Name, e.g. `g6e-4xlarge-x8`.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Where the numbers come from.
    pub source: String,
    /// Workers.
    pub workers: u32,
    /// GPUs on each worker.
    pub gpus_per_worker: u32,
    /// GPU name, alias, or path to a GPU file.
    pub gpu: String,
    /// Host memory of one worker, bytes.
    pub host_memory_bytes: u64,
    /// Virtual CPUs of one worker.
    pub vcpus: u32,
}

impl FleetProfile {
    /// GPUs in the fleet.
    pub fn gpus(&self) -> u32 {
        self.workers * self.gpus_per_worker
    }
}
