//! Prices of rows as they come: what a row's own use costs, and of a backbone's row what the shared part costs.
//!
//! Exact over time: what is left of a nano-dollar is carried to the next row of the same function and line, so that a
//! function's rows add up to its cost rounded down once, not once a row. Left out: a tariff's rounding of lives, which
//! belongs to a whole period (see [`mod@super::statement`]).

use super::row::{LedgerRow, RequestRow, ResidencyRow, Thing};
use super::statement::DevicePrice;
use coldframe_simulator::cost::{CostError, GpuBasis, Tariff, apportion};
use std::collections::{BTreeMap, VecDeque};

const NS_PER_S: u128 = 1_000_000_000;
const BYTES_PER_GB: u128 = 1_000_000_000;
/// Remainders that are kept. Arbitrary: what goes beyond is less than a nano-dollar each.
const CARRIED_MAX: usize = 100_000;
/// Stretches of backbones that are remembered, to charge the device once where two were there together.
const STRETCHES_MAX: usize = 64;

/// A tariff and the device that it is applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    tariff: Tariff,
    device: DevicePrice,
}

impl Prices {
    /// Both, where they fit.
    ///
    /// # Errors
    /// The tariff has no price for the device, or needs its size and there is none.
    pub fn new(tariff: Tariff, device: DevicePrice) -> Result<Self, CostError> {
        if !tariff.prices(&device.name) {
            let known = tariff.gpu_nano_usd_per_s.keys().cloned().collect();
            return Err(CostError::NoPrice { tariff: tariff.name, gpu: device.name, known });
        }
        if tariff.gpu_basis == GpuBasis::MemoryShare && device.memory_bytes == 0 {
            return Err(CostError::NoMemory { tariff: tariff.name, gpu: device.name });
        }
        Ok(Self { tariff, device })
    }

    fn per_second(&self) -> u128 {
        u128::from(self.tariff.gpu_nano_usd_per_s.get(&self.device.name).copied().unwrap_or(0))
    }
}

/// A line of a bill, and what it is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    Gpu,
    Cpu,
    Memory,
}

/// A backbone's stretch on the device, nanoseconds since 1970.
#[derive(Debug, Clone)]
struct Stretch {
    backbone: String,
    from: u128,
    until: u128,
}

/// Prices rows, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Pricer {
    prices: Option<Prices>,
    carried: BTreeMap<(String, String, Line), u128>,
    /// Device time of requests that is not yet set off against a backbone's time there.
    busy_ns: u64,
    stretches: VecDeque<Stretch>,
}

impl Pricer {
    /// Under these prices; without any, everything is free.
    pub fn new(prices: Option<Prices>) -> Self {
        Self { prices, ..Self::default() }
    }

    /// The prices in force.
    pub fn prices(&self) -> Option<&Prices> {
        self.prices.as_ref()
    }

    /// Other prices from now on. Remainders under the old ones are dropped: less than a nano-dollar each.
    pub fn set_prices(&mut self, prices: Option<Prices>) {
        self.carried.clear();
        self.prices = prices;
    }

    /// Puts a price on a row.
    pub fn price(&mut self, row: &mut LedgerRow) {
        match row {
            LedgerRow::Request(row) => row.nanodollars = self.request(row),
            LedgerRow::Residency(row) if row.thing == Thing::Backbone => row.nanodollars = self.shared(row),
            LedgerRow::Residency(row) => row.nanodollars = self.residency(row),
        }
    }

    fn request(&mut self, row: &RequestRow) -> u64 {
        self.busy_ns = self.busy_ns.saturating_add(row.device_ns);
        let Some(prices) = self.prices.clone() else { return 0 };
        let whose = (row.tenant.as_str(), row.function.as_str());
        let gpu = match prices.tariff.gpu_basis {
            GpuBasis::Reserved => prices.per_second() * u128::from(row.device_ns),
            GpuBasis::MemoryShare => {
                prices.per_second() * u128::from(row.kv_bytes) * u128::from(row.admitted_ns)
            }
        };
        let cpu = u128::from(prices.tariff.vcpu_nano_usd_per_s) * u128::from(row.sandbox_ns);
        self.whole(&prices, whose, Line::Gpu, gpu)
            .saturating_add(self.whole(&prices, whose, Line::Cpu, cpu))
            .saturating_add(prices.tariff.request_nano_usd)
    }

    fn residency(&mut self, row: &ResidencyRow) -> u64 {
        let Some(prices) = self.prices.clone() else { return 0 };
        let whose = (row.tenant.as_str(), row.function.as_str());
        match (row.tier.as_str(), prices.tariff.gpu_basis) {
            ("device", GpuBasis::Reserved) => 0,
            ("device", GpuBasis::MemoryShare) => {
                self.whole(&prices, whose, Line::Gpu, prices.per_second() * row.byte_ns())
            }
            _ => {
                let per_gb = u128::from(prices.tariff.memory_nano_usd_per_gb_s);
                self.whole(&prices, whose, Line::Memory, per_gb * row.byte_ns())
            }
        }
    }

    /// The part of a backbone's stretch that no request pays: the device held and idle, or the weights' memory.
    fn shared(&mut self, row: &ResidencyRow) -> u64 {
        let held = self.held_ns(row);
        let idle = held.saturating_sub(self.busy_ns);
        self.busy_ns = self.busy_ns.saturating_sub(held);
        let Some(prices) = self.prices.clone() else { return 0 };
        let amount = match prices.tariff.gpu_basis {
            GpuBasis::Reserved if prices.tariff.bill_idle => prices.per_second() * u128::from(idle),
            GpuBasis::Reserved => 0,
            GpuBasis::MemoryShare => prices.per_second() * row.byte_ns(),
        };
        self.whole(&prices, ("", ""), Line::Gpu, amount)
    }

    /// Time of a stretch in which no other backbone's stretch, told before, held the device already.
    fn held_ns(&mut self, row: &ResidencyRow) -> u64 {
        let from = u128::from(row.start_ms) * 1_000_000;
        let until = from + u128::from(row.ns);
        let mut others: Vec<(u128, u128)> = self
            .stretches
            .iter()
            .filter(|other| other.backbone != row.backbone && other.from < until && other.until > from)
            .map(|other| (other.from.max(from), other.until.min(until)))
            .collect();
        others.sort_unstable();
        let (mut taken, mut up_to) = (0, from);
        for (begin, end) in others {
            taken += end.saturating_sub(begin.max(up_to));
            up_to = up_to.max(end);
        }
        self.stretches.push_back(Stretch { backbone: row.backbone.clone(), from, until });
        if self.stretches.len() > STRETCHES_MAX {
            self.stretches.pop_front();
        }
        u64::try_from(u128::from(row.ns) - taken).unwrap_or(u64::MAX)
    }

    /// Whole nano-dollars of an amount and of what was carried; the rest is carried on.
    fn whole(&mut self, prices: &Prices, (tenant, function): (&str, &str), line: Line, amount: u128) -> u64 {
        if amount == 0 {
            return 0;
        }
        let by = match (line, prices.tariff.gpu_basis) {
            (Line::Gpu, GpuBasis::MemoryShare) => NS_PER_S * u128::from(prices.device.memory_bytes),
            (Line::Memory, _) => NS_PER_S * BYTES_PER_GB,
            _ => NS_PER_S,
        };
        if self.carried.len() >= CARRIED_MAX {
            self.carried.clear();
        }
        let carried = self.carried.entry((tenant.to_owned(), function.to_owned(), line)).or_default();
        let sum = amount.saturating_add(*carried);
        *carried = sum % by;
        u64::try_from(sum / by).unwrap_or(u64::MAX)
    }
}

/// What a priced row costs each tenant: its own, or of a backbone the parts of those who kept it alive.
pub fn charges(row: &LedgerRow) -> Vec<(&str, u64)> {
    match row {
        LedgerRow::Request(row) => vec![(row.tenant.as_str(), row.nanodollars)],
        LedgerRow::Residency(row) if row.thing == Thing::Backbone => {
            let weights: Vec<u128> = row.keepers.iter().map(|keeper| u128::from(keeper.2)).collect();
            let tenants = row.keepers.iter().map(|keeper| keeper.0.as_str());
            tenants.zip(apportion(row.nanodollars, &weights)).collect()
        }
        LedgerRow::Residency(row) => vec![(row.tenant.as_str(), row.nanodollars)],
    }
}
