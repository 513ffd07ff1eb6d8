//! What a function needs before it can answer, in the order it needs it, and where each piece can be.
//!
//! KV pages are no artifact here: they belong to running requests and are counted in bytes by the book.

use serde::{Deserialize, Serialize};

/// Classes of artifact in load order: each has value only when the ones before it are in place.
///
/// Source: ServerlessLoRA's chain (library → backbone → adapter → kernels), with the container it runs in before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A warm container (sandbox, image, process).
    Container = 0,
    /// Libraries and runtime inside the container.
    Runtime = 1,
    /// The base model's weights.
    Backbone = 2,
    /// The function's LoRA weights, mapped onto the backbone.
    Adapter = 3,
    /// The device context and everything made at first use: compiled kernels, graphs, allocator pools.
    Kernel = 4,
}

impl Class {
    /// All classes in load order.
    pub const ALL: [Self; 5] = [Self::Container, Self::Runtime, Self::Backbone, Self::Adapter, Self::Kernel];

    /// The class that follows in load order.
    pub fn next(self) -> Option<Self> {
        Self::ALL.get(self as usize + 1).copied()
    }

    /// Whether the class occupies device memory (the others live in host memory).
    pub fn on_device(self) -> bool {
        self >= Self::Backbone
    }

    /// Name as used in configuration and reports.
    pub fn name(self) -> &'static str {
        ["container", "runtime", "backbone", "adapter", "kernel"][self as usize]
    }
}

/// Where bytes are, from far to near.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Object store or hub.
    Remote,
    /// The worker's local disk.
    Disk,
    /// The worker's memory.
    Host,
    /// The GPU's memory.
    Device,
}
