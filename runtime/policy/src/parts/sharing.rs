//! What functions of one backbone share: nothing, its weights, or the whole process.

use serde::{Deserialize, Serialize};

/// How an instance holds its backbone, and for whom it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharingDecision {
    /// One process per function, each with its own copy.
    Private,
    /// One process per function, weights mapped from one copy per device (ServerlessLoRA section on sharing).
    SharedWeights,
    /// One process per backbone serves all its functions (vLLM multi-LoRA, S-LoRA).
    OneProcess,
}

/// The sharing part.
pub trait Sharing {
    /// How instances hold backbones.
    fn decide(&self) -> SharingDecision;
    /// Whether an instance takes its whole device.
    fn exclusive(&self) -> bool;
}

/// Every sharing rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SharingPart {
    /// A private copy per function.
    Private {
        /// Whole devices only (ServerlessLLM's default of one GPU an instance).
        exclusive_gpu: bool,
    },
    /// One copy per device, mapped read-only by every function's process.
    SharedWeights {
        /// Step time of isolated processes over an in-process run, per mille: +214 was measured by SwarmLoRA's authors
        /// (+21.4 % TPOT); the paper's own figure is not known, so 0 is its best case.
        isolation_permille: u32,
    },
    /// Functions stay apart (sandboxes, instances, adapters of their own) around one engine per device, which maps the
    /// weights once and batches across functions: what this project's host does. Decided as shared weights.
    SharedEngine {},
    /// One engine process per backbone and replica.
    OneProcess {},
}

impl SharingPart {
    /// Whether one engine per device and backbone serves the instances of all functions.
    pub fn one_engine(&self) -> bool {
        matches!(self, Self::SharedEngine {})
    }
}

impl Sharing for SharingPart {
    fn decide(&self) -> SharingDecision {
        match self {
            Self::Private { .. } => SharingDecision::Private,
            Self::SharedWeights { .. } | Self::SharedEngine {} => SharingDecision::SharedWeights,
            Self::OneProcess {} => SharingDecision::OneProcess,
        }
    }

    fn exclusive(&self) -> bool {
        matches!(self, Self::OneProcess {} | Self::Private { exclusive_gpu: true })
    }
}
