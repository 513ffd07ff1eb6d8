//! What the core is told about functions, backbones and workers: sizes, limits, and estimates of time.
//!
//! Estimates serve decisions only; what a load really takes is the executor's business.

use crate::artifact::Class;
use crate::units::{BackboneId, Bytes, Nanos};
use serde::{Deserialize, Serialize};

/// A registered function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionSpec {
    /// Its backbone.
    pub backbone: BackboneId,
    /// Adapter weights on the device; zero serves the backbone as it is.
    pub adapter: Bytes,
    /// Host memory of its container with libraries.
    pub runtime: Bytes,
    /// Device memory of its process: context and compiled kernels.
    pub kernel: Bytes,
    /// TTFT limit.
    pub slo_ttft: Nanos,
    /// TTFT of a batch of one, measured offline.
    pub t0: Nanos,
    /// TTFT added by each further request of a batch.
    pub alpha: Nanos,
    /// Estimated load time of each class when nothing is contended, by [`Class`] index.
    pub load: [Nanos; 5],
    /// Estimated load of the backbone when host memory has it.
    pub backbone_from_host: Nanos,
    /// How long what it holds on a device stays when idle; without, as the policy's keep-alive has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Nanos>,
    /// Most requests of it that run at once, over all its instances; without, as many as batches take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
}

impl FunctionSpec {
    /// `T(b) = T0 + alpha (b - 1)`: TTFT of a batch of `b` on an idle device.
    pub fn prefill(&self, batch: u64) -> Nanos {
        Nanos(self.t0.0.saturating_add(self.alpha.0.saturating_mul(batch.saturating_sub(1))))
    }

    /// Estimated time to go from having everything before `from` to answering.
    pub fn start_from(&self, from: Option<Class>) -> Nanos {
        let Some(from) = from else { return Nanos::ZERO };
        self.load[from as usize..].iter().fold(Nanos::ZERO, |sum, &t| sum + t)
    }
}

/// A base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackboneSpec {
    /// Weights on the device.
    pub weights: Bytes,
    /// KV bytes per cached token.
    pub kv_per_token: Bytes,
    /// Device memory of an engine process: context, kernels, activations.
    pub context: Bytes,
    /// Largest adapter of its functions: the size of a slot.
    pub slot: Bytes,
}

/// A worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// Host memory that may hold containers and staged weights.
    pub host: Bytes,
    /// Usable memory of each of its devices.
    pub devices: Vec<Bytes>,
}
