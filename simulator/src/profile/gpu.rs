//! GPUs: how much fits on one, how fast it reads its memory, and how fast the host can fill it.
//!
//! Compute speed is left out: step times are measured per (GPU, model) pair and live in [`super::StepProfile`].

use serde::{Deserialize, Serialize};

/// One GPU model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuProfile {
    /// Canonical name, e.g. `l40s`.
    pub name: String,
    /// Other spellings that mean this GPU, e.g. `A100-SXM-80GB`.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// One line for people.
    pub about: String,
    /// Where the numbers come from.
    pub source: String,
    /// Device memory, bytes, before any reserve an engine keeps for itself.
    pub memory_bytes: u64,
    /// Device memory bandwidth, bytes per second.
    pub memory_bytes_per_s: u64,
    /// Effective pinned host-to-device bandwidth of the whole link, bytes per second.
    pub host_link_bytes_per_s: u64,
    /// Board power limit, watts.
    pub power_w: u32,
}
