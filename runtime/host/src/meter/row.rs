//! Rows of the ledger: what one request used, and how long something was where.
//!
//! Counts, bytes and nanoseconds, from which money is worked out under any tariff, later as well; and what the server's own
//! tariff made of them at the time. No prompt, no answer.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// To its end.
    Completed,
    /// Its caller went away while it ran.
    Dropped,
    /// It failed.
    Failed,
}

/// A request that ran. Refused ones use nothing and have no row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRow {
    /// `x-request-id`.
    pub id: String,
    /// Who pays.
    pub tenant: String,
    /// The function; the backbone's name for the base model.
    pub function: String,
    /// Its generation; empty for the base model.
    pub generation: String,
    /// The backbone.
    pub backbone: String,
    /// When it came, milliseconds since 1970.
    pub arrived_ms: u64,
    /// From arrival to end.
    pub took_ns: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The farthest class it waited for: `warm`, `adapter`, `backbone`, …
    pub cold: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Of these, found in cached pages.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Its share of the engine's step time.
    pub device_ns: u64,
    /// KV bytes promised to it while it ran.
    pub kv_bytes: u64,
    /// From admission to end: how long they were.
    pub admitted_ns: u64,
    /// CPU of its code.
    pub sandbox_ns: u64,
    /// Fuel of its code.
    pub fuel: u64,
    /// Peak memory of its code, bytes.
    pub guest_bytes: u64,
    /// Time to the first token; zero where none came.
    pub ttft_ns: u64,
    /// Of it, by phase, in the order of [`PHASES`].
    pub phases_ns: [u64; 9],
    /// What it cost by itself when it ended, 10⁻⁹ dollars; zero where the server had no tariff.
    #[serde(default)]
    pub nanodollars: u64,
}

/// Phases of a request, in the order of [`RequestRow::phases_ns`].
pub const PHASES: [&str; 9] = [
    "prepare",
    "parked",
    "adapter_read",
    "adapter_load",
    "backbone",
    "module",
    "handler",
    "queue",
    "prefill",
];

/// What was resident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thing {
    /// A function's adapters.
    Adapter,
    /// A function's code.
    Code,
    /// A backbone.
    Backbone,
}

/// A stretch of time in which something was in a tier. Long ones are told in pieces, so that a period's rows are there
/// soon after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResidencyRow {
    /// Whose; empty for a backbone, which is shared.
    pub tenant: String,
    /// The function; empty for a backbone.
    pub function: String,
    /// Its generation; empty for a backbone.
    pub generation: String,
    /// The backbone.
    pub backbone: String,
    /// What.
    pub thing: Thing,
    /// `device` or `host`.
    pub tier: String,
    /// How much.
    pub bytes: u64,
    /// From, milliseconds since 1970.
    pub start_ms: u64,
    /// How long.
    pub ns: u64,
    /// Of a backbone: who kept it alive, as (tenant, function, weight). See [`super::Keepers`].
    pub keepers: Vec<(String, String, u64)>,
    /// What it cost, 10⁻⁹ dollars; of a backbone, the part that no request paid for. Zero where the server had no tariff.
    #[serde(default)]
    pub nanodollars: u64,
}

impl ResidencyRow {
    /// Bytes times nanoseconds.
    pub fn byte_ns(&self) -> u128 {
        u128::from(self.bytes) * u128::from(self.ns)
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerRow {
    /// Of a request.
    Request(Box<RequestRow>),
    /// Of a residency.
    Residency(Box<ResidencyRow>),
}
