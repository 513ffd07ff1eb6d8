//! A period's bill, split between functions: what is a function's own by what it used, what is shared three ways.
//!
//! The bill is the simulator's for the same use, so its lines are exact sums rounded once. Each line is then apportioned
//! by largest remainder: parts add up to the nano-dollar. The shared part is the backbone's: the device held while no
//! request of anyone was on it, or the memory of its weights, by the tariff's basis.

use super::row::{LedgerRow, ResidencyRow, Thing};
use coldframe_simulator::cost::{CostError, GpuBasis, GpuUsage, Lives, Tariff, Usage, apportion, bill};
use coldframe_simulator::report::model::Bill;
use serde::Serialize;
use std::collections::BTreeMap;

/// The device of the period: its name in the tariff and its memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DevicePrice {
    /// As the tariff prices it.
    pub name: String,
    /// Its budget, bytes.
    pub memory_bytes: u64,
}

/// How the shared part is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// The same for every function of the period.
    Equal,
    /// By the device time it used.
    Use,
    /// By how long it kept the backbone alive, and with whom.
    Shapley,
}

impl Share {
    /// All of them, in the order of [`Account::shared_nano_usd`].
    pub const ALL: [Self; 3] = [Self::Equal, Self::Use, Self::Shapley];
}

/// A function's part.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub function: String,
    /// Requests that ran.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Its device time.
    pub device_ns: u64,
    /// Device memory of its own (adapters, KV) over time, byte-nanoseconds as text: more than 64 bits.
    #[serde(serialize_with = "as_text")]
    pub device_byte_ns: u128,
    /// Host memory of its own over time.
    #[serde(serialize_with = "as_text")]
    pub host_byte_ns: u128,
    /// CPU of its code.
    pub sandbox_ns: u64,
    /// Weight in the residency game, in 1/`SHARE_UNIT` ns.
    #[serde(serialize_with = "as_text")]
    pub kept: u128,
    /// Money for what is its own.
    pub own_nano_usd: u64,
    /// Money for its share of the rest, by [`Share::ALL`].
    pub shared_nano_usd: [u64; 3],
}

impl Account {
    /// All its money under one way of sharing.
    pub fn total_nano_usd(&self, share: Share) -> u64 {
        self.own_nano_usd + self.shared_nano_usd[share as usize]
    }
}

fn as_text<S: serde::Serializer>(value: &u128, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// A period, billed and split.
#[derive(Debug, Clone, Serialize)]
pub struct Statement {
    /// The whole.
    pub bill: Bill,
    /// Its parts, in order of tenant and function.
    pub accounts: Vec<Account>,
    /// What nobody can be charged with: the device was held and no function was there.
    pub unclaimed_nano_usd: u64,
}

/// Bills the rows of a period and splits the bill.
///
/// # Errors
/// [`CostError`] where the tariff does not price the device, or the sum is too large.
pub fn statement(tariff: &Tariff, device: &DevicePrice, rows: &[LedgerRow]) -> Result<Statement, CostError> {
    let mut accounts = Accounts::default();
    rows.iter().for_each(|row| accounts.add(row));
    let usage = accounts.usage(device);
    let bill = bill(tariff, &usage)?;
    let unclaimed = accounts.split(tariff, &bill);
    Ok(Statement { bill, accounts: accounts.by_name.into_values().collect(), unclaimed_nano_usd: unclaimed })
}

#[derive(Default)]
struct Accounts {
    by_name: BTreeMap<(String, String), Account>,
    backbone_byte_ns: u128,
    /// How long any backbone was on the device: the longest of them, since all share one device.
    backbone_ns: BTreeMap<String, u64>,
}

impl Accounts {
    fn of(&mut self, tenant: &str, function: &str) -> &mut Account {
        self.by_name.entry((tenant.to_owned(), function.to_owned())).or_insert_with(|| Account {
            tenant: tenant.to_owned(),
            function: function.to_owned(),
            ..Account::default()
        })
    }

    fn add(&mut self, row: &LedgerRow) {
        match row {
            LedgerRow::Request(row) => {
                let account = self.of(&row.tenant, &row.function);
                account.requests += 1;
                account.prompt_tokens += row.prompt_tokens;
                account.completion_tokens += row.completion_tokens;
                account.device_ns = account.device_ns.saturating_add(row.device_ns);
                account.sandbox_ns = account.sandbox_ns.saturating_add(row.sandbox_ns);
                account.device_byte_ns += u128::from(row.kv_bytes) * u128::from(row.admitted_ns);
            }
            LedgerRow::Residency(row) if row.thing == Thing::Backbone => self.backbone(row),
            LedgerRow::Residency(row) => {
                let account = self.of(&row.tenant, &row.function);
                match row.tier.as_str() {
                    "device" => account.device_byte_ns += row.byte_ns(),
                    _ => account.host_byte_ns += row.byte_ns(),
                }
            }
        }
    }

    fn backbone(&mut self, row: &ResidencyRow) {
        self.backbone_byte_ns += row.byte_ns();
        let ns = self.backbone_ns.entry(row.backbone.clone()).or_default();
        *ns = ns.saturating_add(row.ns);
        for (tenant, function, weight) in &row.keepers {
            self.of(tenant, function).kept += u128::from(*weight);
        }
    }

    fn sum(&self, part: impl Fn(&Account) -> u128) -> u128 {
        self.by_name.values().map(part).sum()
    }

    fn small(value: u128) -> u64 {
        u64::try_from(value).unwrap_or(u64::MAX)
    }

    fn usage(&self, device: &DevicePrice) -> Usage {
        let busy_ns = Self::small(self.sum(|a| u128::from(a.device_ns)));
        let held = self.backbone_ns.values().copied().max().unwrap_or(0);
        let idle_ns = held.saturating_sub(busy_ns);
        let mut lives = Lives::default();
        if busy_ns.saturating_add(idle_ns) > 0 {
            lives.end(busy_ns.saturating_add(idle_ns));
        }
        let gpu = GpuUsage {
            gpu: device.name.clone(),
            memory_bytes: device.memory_bytes,
            reserved_ns: busy_ns.saturating_add(idle_ns),
            busy_ns,
            loading_ns: 0,
            idle_ns,
            byte_ns: self.sum(|a| a.device_byte_ns) + self.backbone_byte_ns,
            lives,
        };
        let requests = Self::small(self.sum(|a| u128::from(a.requests)));
        Usage {
            gpu: vec![gpu],
            vcpu_ns: self.sum(|a| u128::from(a.sandbox_ns)),
            host_byte_ns: self.sum(|a| a.host_byte_ns),
            requests,
            completed: requests,
            tokens: Self::small(self.sum(|a| u128::from(a.prompt_tokens) + u128::from(a.completion_tokens))),
        }
    }

    /// Splits the bill's lines. Returns what stays unclaimed.
    fn split(&mut self, tariff: &Tariff, bill: &Bill) -> u64 {
        let line =
            |name: &str| bill.lines.iter().filter(|line| line.0 == name).map(|line| line.1).sum::<u64>();
        if self.by_name.is_empty() {
            return bill.total_nano_usd;
        }
        let busy = self.sum(|a| u128::from(a.device_ns));
        let held = u128::from(self.backbone_ns.values().copied().max().unwrap_or(0)).max(busy);
        // The gpu line's own and shared parts, by what the tariff charges for.
        let (own, shared) = match tariff.gpu_basis {
            GpuBasis::Reserved => (busy, if tariff.bill_idle { held - busy } else { 0 }),
            GpuBasis::MemoryShare => (self.sum(|a| a.device_byte_ns), self.backbone_byte_ns),
        };
        let parts = apportion(line("gpu"), &[own, shared]);
        let own_weight = |a: &Account| match tariff.gpu_basis {
            GpuBasis::Reserved => u128::from(a.device_ns),
            GpuBasis::MemoryShare => a.device_byte_ns,
        };
        self.own(parts[0], own_weight);
        self.own(line("cpu"), |a| u128::from(a.sandbox_ns));
        self.own(line("memory"), |a| a.host_byte_ns);
        self.own(line("requests"), |a| u128::from(a.requests));
        let shared = parts[1] + line("rounding");
        for (at, share) in Share::ALL.into_iter().enumerate() {
            let weights: Vec<u128> = self.by_name.values().map(|a| weight(share, a)).collect();
            let parts = apportion(shared, &weights);
            self.by_name.values_mut().zip(parts).for_each(|(a, part)| a.shared_nano_usd[at] = part);
        }
        0
    }

    fn own(&mut self, total: u64, weight: impl Fn(&Account) -> u128) {
        let weights: Vec<u128> = self.by_name.values().map(weight).collect();
        let parts = apportion(total, &weights);
        self.by_name.values_mut().zip(parts).for_each(|(account, part)| account.own_nano_usd += part);
    }
}

fn weight(share: Share, account: &Account) -> u128 {
    match share {
        Share::Equal => 1,
        Share::Use => u128::from(account.device_ns),
        Share::Shapley => account.kept,
    }
}
