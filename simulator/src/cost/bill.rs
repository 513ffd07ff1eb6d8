//! A bill: each line is an exact sum of products, divided once and rounded up to a nano-dollar; the total is the lines' sum.
//!
//! The `gpu` line is time as it passed, the `rounding` line what the tariff's life rule adds to it. A GPU the tariff has no
//! price for is an error, never free.

use super::{GpuBasis, GpuUsage, Tariff, Usage};
use crate::report::model::Bill;

const NS_PER_S: u128 = 1_000_000_000;
const BYTES_PER_GB: u128 = 1_000_000_000;
const NANO_USD_PER_USD: f64 = 1e9;

/// A bill that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CostError {
    /// The tariff has no price for a GPU in use.
    #[error("tariff `{tariff}` has no price for `{gpu}`; it prices {}", .known.join(", "))]
    NoPrice {
        /// Tariff name.
        tariff: String,
        /// GPU without a price.
        gpu: String,
        /// GPUs with one.
        known: Vec<String>,
    },
    /// A tariff by share of memory met a GPU of unknown size.
    #[error("tariff `{tariff}` charges by share of device memory, and `{gpu}` has no memory size")]
    NoMemory {
        /// Tariff name.
        tariff: String,
        /// GPU without a size.
        gpu: String,
    },
    /// More than 18 thousand million dollars.
    #[error("the bill under `{tariff}` does not fit in 64 bits of nano-dollars")]
    TooLarge {
        /// Tariff name.
        tariff: String,
    },
}

/// What `usage` costs under `tariff`.
pub fn bill(tariff: &Tariff, usage: &Usage) -> Result<Bill, CostError> {
    let lines = [
        ("gpu", gpu_line(tariff, usage)?),
        ("cpu", per(u128::from(tariff.vcpu_nano_usd_per_s), usage.vcpu_ns, NS_PER_S)),
        ("memory", memory_line(tariff, usage)),
        ("requests", Some(u128::from(tariff.request_nano_usd) * u128::from(usage.requests))),
        ("rounding", rounding_line(tariff, usage)?),
    ];
    let too_large = || CostError::TooLarge { tariff: tariff.name.clone() };
    let mut total: u64 = 0;
    let mut shown = Vec::with_capacity(lines.len());
    for (name, amount) in lines {
        let amount = amount.and_then(|a| u64::try_from(a).ok()).ok_or_else(too_large)?;
        total = total.checked_add(amount).ok_or_else(too_large)?;
        shown.push((name.to_owned(), amount));
    }
    Ok(Bill {
        tariff: tariff.name.clone(),
        total_nano_usd: total,
        lines: shown,
        per_1000_requests_usd: usd_per(total, usage.completed, 1e3),
        per_million_tokens_usd: usd_per(total, usage.tokens, 1e6),
    })
}

fn gpu_line(tariff: &Tariff, usage: &Usage) -> Result<Option<u128>, CostError> {
    match tariff.gpu_basis {
        GpuBasis::Reserved => reserved_line(tariff, usage),
        GpuBasis::MemoryShare => share_line(tariff, usage),
    }
}

fn reserved_line(tariff: &Tariff, usage: &Usage) -> Result<Option<u128>, CostError> {
    let mut product = 0u128;
    for gpu in &usage.gpu {
        product += price(tariff, gpu)? * u128::from(billed_ns(tariff, gpu));
    }
    Ok(Some(product.div_ceil(NS_PER_S)))
}

// Device memory differs between kinds of GPU, so each kind is divided, and rounded up, on its own.
fn share_line(tariff: &Tariff, usage: &Usage) -> Result<Option<u128>, CostError> {
    let mut sum = Some(0u128);
    for gpu in &usage.gpu {
        if gpu.memory_bytes == 0 {
            return Err(CostError::NoMemory { tariff: tariff.name.clone(), gpu: gpu.gpu.clone() });
        }
        let line = per(price(tariff, gpu)?, gpu.byte_ns, u128::from(gpu.memory_bytes) * NS_PER_S);
        sum = sum.zip(line).and_then(|(a, b)| a.checked_add(b));
    }
    Ok(sum)
}

// Time that is not billed at all is not rounded either: the rule rounds lives, and lives are billed whole by then.
fn rounding_line(tariff: &Tariff, usage: &Usage) -> Result<Option<u128>, CostError> {
    if tariff.gpu_basis == GpuBasis::MemoryShare {
        return Ok(Some(0));
    }
    let mut product = 0u128;
    for gpu in &usage.gpu {
        product += price(tariff, gpu)? * u128::from(gpu.lives.added_ns(tariff.life));
    }
    Ok(Some(product.div_ceil(NS_PER_S)))
}

fn memory_line(tariff: &Tariff, usage: &Usage) -> Option<u128> {
    per(u128::from(tariff.memory_nano_usd_per_gb_s), usage.host_byte_ns, BYTES_PER_GB * NS_PER_S)
}

fn billed_ns(tariff: &Tariff, gpu: &GpuUsage) -> u64 {
    let startup = if tariff.bill_startup { gpu.loading_ns } else { 0 };
    let idle = if tariff.bill_idle { gpu.idle_ns } else { 0 };
    gpu.busy_ns.saturating_add(startup).saturating_add(idle)
}

fn price(tariff: &Tariff, gpu: &GpuUsage) -> Result<u128, CostError> {
    let found = tariff.gpu_nano_usd_per_s.get(&gpu.gpu).copied().map(u128::from);
    found.ok_or_else(|| CostError::NoPrice {
        tariff: tariff.name.clone(),
        gpu: gpu.gpu.clone(),
        known: tariff.gpu_nano_usd_per_s.keys().cloned().collect(),
    })
}

// A started nano-dollar is billed, so round up. Split first: the product alone may not fit in 128 bits.
fn per(price: u128, amount: u128, unit: u128) -> Option<u128> {
    let whole = price.checked_mul(amount / unit)?;
    let part = price.checked_mul(amount % unit)?.div_ceil(unit);
    whole.checked_add(part)
}

fn usd_per(nano_usd: u64, count: u64, unit: f64) -> f64 {
    if count == 0 { 0.0 } else { nano_usd as f64 / NANO_USD_PER_USD / count as f64 * unit }
}
