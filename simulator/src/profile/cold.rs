//! Cold-start regimes: the constants of the chain container → runtime → backbone → adapter → kernels.
//!
//! Which stages a request has to wait for is the policy's doing; this file says only how long each takes when it happens.

use serde::{Deserialize, Serialize};

/// One regime. A load takes its fixed part plus bytes over the slowest of link share and per-transfer cap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColdStart {
    /// Name, e.g. `container`.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Where the numbers come from.
    pub source: String,
    /// Container start, nanoseconds.
    pub container_ns: u64,
    /// Libraries (imports, driver initialisation), nanoseconds.
    pub runtime_ns: u64,
    /// Host memory of a container with its libraries, bytes.
    pub runtime_bytes: u64,
    /// Part of a backbone load that does not depend on its size, nanoseconds.
    pub backbone_fixed_ns: u64,
    /// Weights are mapped where they lie: a backbone load moves no bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub backbone_mapped: bool,
    /// Adapter load and mapping onto a resident backbone, default path, nanoseconds.
    pub adapter_fixed_ns: u64,
    /// The same through a loading-optimised store, nanoseconds.
    pub adapter_fast_ns: u64,
    /// Adapter from disk into a running engine (one process for all functions), nanoseconds.
    pub adapter_disk_ns: u64,
    /// Bytes a second at which an adapter comes from disk beside `adapter_disk_ns`, where its size was seen to matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_disk_bytes_per_s: Option<u64>,
    /// How much longer that takes while the engine steps, thousandths: on a CPU they share its cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter_busy_permille: Option<u32>,
    /// Adapter from host memory into a slot of a running engine, nanoseconds.
    pub adapter_activate_ns: u64,
    /// First-inference work when the kernels are cold, nanoseconds.
    pub kernel_ns: u64,
    /// The same when the kernels were kept in host memory and are copied back, nanoseconds.
    pub kernel_restore_ns: u64,
    /// Device memory of a process's context and kernels, bytes.
    pub kernel_bytes: u64,
    /// Remote store to worker, whole link, bytes per second.
    pub remote_bytes_per_s: u64,
    /// Local disk, whole device, bytes per second.
    pub disk_bytes_per_s: u64,
    /// One transfer through the default (safetensors-like) loader, at most, bytes per second.
    pub default_loader_bytes_per_s: u64,
    /// One transfer through a loading-optimised loader, at most, bytes per second.
    pub fast_loader_bytes_per_s: u64,
    /// One host-to-device transfer, at most, bytes per second.
    pub host_bytes_per_s: u64,
}
