//! A tariff: prices and the rules by which use is billed, read from a TOML file.

use super::LifeRule;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a GPU price is charged for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuBasis {
    /// GPU time reserved.
    Reserved,
    /// Share of device memory held, over time: a whole GPU's memory held for a second costs its price per second.
    MemoryShare,
}

/// One provider's prices, 10^-9 US dollars per unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tariff {
    /// Name, e.g. `runpod-flex`.
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Where the prices come from.
    pub source: String,
    /// When they were seen, as the source tells it.
    pub seen: String,
    /// What a GPU price is charged for.
    pub gpu_basis: GpuBasis,
    /// Whether time spent loading and starting is billed.
    pub bill_startup: bool,
    /// Whether reserved but idle time is billed.
    pub bill_idle: bool,
    /// How the length of a GPU reservation is rounded.
    pub life: LifeRule,
    /// Per virtual CPU and second.
    pub vcpu_nano_usd_per_s: u64,
    /// Per 10^9 bytes of host memory and second.
    pub memory_nano_usd_per_gb_s: u64,
    /// Per call.
    pub request_nano_usd: u64,
    /// Per GPU and second, by canonical GPU name.
    pub gpu_nano_usd_per_s: BTreeMap<String, u64>,
}

impl Tariff {
    /// Whether it has a price for `gpu`.
    pub fn prices(&self, gpu: &str) -> bool {
        self.gpu_nano_usd_per_s.contains_key(gpu)
    }
}
