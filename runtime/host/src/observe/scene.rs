//! What the machine looks like at one moment, as metrics need it.

use crate::call::Later;
use crate::live::core::{FunctionResidency, Residency};
use crate::live::engine::Snapshot;

/// A backbone's engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineScene {
    /// The backbone's name.
    pub name: String,
    /// Its gauges and counters; `None` while it is out of memory.
    pub snapshot: Option<Snapshot>,
    /// Tokens of a KV page.
    pub page_tokens: usize,
}

/// A function and where it is.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionScene {
    /// Where it is.
    pub seen: FunctionResidency,
    /// Its backbone's name.
    pub backbone: String,
    /// The largest rank of its adapters; 0 where it has none.
    pub rank: u32,
    /// Bytes of its adapters in memory.
    pub adapter_bytes: u64,
}

/// The machine at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Engines, in the order of the configuration.
    pub engines: Vec<EngineScene>,
    /// Memory, queues and what moved.
    pub residency: Residency,
    /// Functions with what the registry knows of them.
    pub functions: Vec<FunctionScene>,
}

/// Looks at the machine.
pub trait Look: Send + Sync + 'static {
    /// What it looks like now; `None` once it has stopped.
    fn look(&self) -> Later<'_, Option<Scene>>;
}
