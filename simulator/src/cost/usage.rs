//! What a run used, as integers that only grow: GPU time by kind, bytes held, CPU, calls, and instance lives.
//!
//! Lives are rounded as they end, because rounding the sum is not the sum of the rounded; nothing is kept per instance.

use serde::{Deserialize, Serialize};

const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// How the length of one instance's life is billed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LifeRule {
    /// To the nanosecond.
    #[default]
    #[serde(rename = "exact")]
    Exact,
    /// Up to the next millisecond.
    #[serde(rename = "1ms")]
    Up1Ms,
    /// Up to the next 100 ms.
    #[serde(rename = "100ms")]
    Up100Ms,
    /// Up to the next 100 ms, and at least a minute.
    #[serde(rename = "100ms-min-60s")]
    Up100MsMin60S,
    /// Up to the next second.
    #[serde(rename = "1s")]
    Up1S,
    /// Up to the next minute.
    #[serde(rename = "60s")]
    Up60S,
}

impl LifeRule {
    /// Every rule, in the order of [`Lives::rounded_ns`].
    pub const ALL: [Self; 6] =
        [Self::Exact, Self::Up1Ms, Self::Up100Ms, Self::Up100MsMin60S, Self::Up1S, Self::Up60S];

    /// What a life of `life_ns` is billed as, nanoseconds; never less than `life_ns`.
    pub fn billed_ns(self, life_ns: u64) -> u64 {
        let (unit, least) = match self {
            Self::Exact => (1, 0),
            Self::Up1Ms => (MS, 0),
            Self::Up100Ms => (100 * MS, 0),
            Self::Up100MsMin60S => (100 * MS, 60 * S),
            Self::Up1S => (S, 0),
            Self::Up60S => (60 * S, 0),
        };
        life_ns.div_ceil(unit).saturating_mul(unit).max(least)
    }
}

/// Instance lives added up under every rule at once, in constant space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lives {
    /// Lives ended.
    pub count: u64,
    /// Their sum under each rule of [`LifeRule::ALL`], nanoseconds.
    pub rounded_ns: [u64; 6],
}

impl Lives {
    /// Adds one life as it ends.
    pub fn end(&mut self, life_ns: u64) {
        self.count += 1;
        for (sum, rule) in self.rounded_ns.iter_mut().zip(LifeRule::ALL) {
            *sum = sum.saturating_add(rule.billed_ns(life_ns));
        }
    }

    /// Their true sum, nanoseconds.
    pub fn sum_ns(&self) -> u64 {
        self.rounded_ns[0]
    }

    /// What `rule` adds to the true sum, nanoseconds.
    pub fn added_ns(&self, rule: LifeRule) -> u64 {
        self.rounded_ns[rule as usize].saturating_sub(self.sum_ns())
    }
}

/// Use of all GPUs of one kind. `reserved_ns = busy_ns + loading_ns + idle_ns`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuUsage {
    /// Canonical GPU name.
    pub gpu: String,
    /// Memory of one such GPU, bytes.
    pub memory_bytes: u64,
    /// GPU-nanoseconds reserved.
    pub reserved_ns: u64,
    /// Of these, an engine was stepping.
    pub busy_ns: u64,
    /// Of these, not stepping but a load or start was in progress.
    pub loading_ns: u64,
    /// The rest.
    pub idle_ns: u64,
    /// Device bytes held, times nanoseconds.
    pub byte_ns: u128,
    /// Reservations of a GPU, from first instance or artifact to last.
    pub lives: Lives,
}

/// Use of everything in one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// One per GPU kind.
    pub gpu: Vec<GpuUsage>,
    /// Virtual-CPU-nanoseconds held.
    pub vcpu_ns: u128,
    /// Host bytes held, times nanoseconds.
    pub host_byte_ns: u128,
    /// Calls billed (arrivals that were not refused).
    pub requests: u64,
    /// Completed requests, for money per request.
    pub completed: u64,
    /// Prompt and output tokens of completed requests, for money per token.
    pub tokens: u64,
}
