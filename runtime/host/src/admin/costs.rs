//! Usage with money: sums of the ledger, and the shared backbone's cost split between the functions of the period.
//!
//! The ledger's columns hold what is a function's own; a backbone's rows belong to no tenant and are split here, the same
//! three ways as in a [`statement`](mod@crate::meter::statement). Parts add up to the whole to the nano-dollar.

use super::action::{UsageBy, UsageQuery};
use super::records::{SharedCost, UsageRow};
use crate::meter::{LedgerRow, Thing};
use crate::store::Result;
use crate::store::journal::{Amounts, Book, Filter, Journal, Page};
use coldframe_simulator::cost::apportion;
use std::collections::BTreeMap;

/// Kind of the ledger's rows that are requests; all kinds count as money.
const REQUEST: &str = "request";
/// Kind of those that are residencies.
const RESIDENCY: &str = "residency";
/// Whose a backbone's rows are: nobody's.
const NOBODY: &str = "";
/// Rows read at once.
const PAGE: usize = 1000;

/// A tenant and its function.
type Whose = (String, String);

/// A function's part of a period.
#[derive(Default)]
struct Account {
    row: UsageRow,
    kept: u128,
}

/// A period of the ledger.
pub struct Period<'a> {
    /// The books.
    pub journal: &'a dyn Journal,
    /// At or after, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before.
    pub until_ms: Option<u64>,
}

impl Period<'_> {
    fn filter(&self, kind: Option<&str>, tenant: Option<&str>) -> Filter {
        Filter {
            tenant: tenant.map(str::to_owned),
            function: None,
            kind: kind.map(str::to_owned),
            from_ms: self.from_ms,
            until_ms: self.until_ms,
        }
    }

    /// What was used, by function or tenant, as asked. Everybody's rows are read even for one tenant: what is shared is
    /// split between all.
    pub async fn usage(&self, query: &UsageQuery) -> Result<Vec<UsageRow>> {
        let (mut accounts, shared) = self.own().await?;
        if shared > 0 {
            self.keepers(&mut accounts).await?;
        }
        let unclaimed = split(&mut accounts, shared);
        if unclaimed > 0 {
            let row =
                UsageRow { nanodollars: unclaimed, total_nanodollars: unclaimed, ..UsageRow::default() };
            accounts.insert((NOBODY.to_owned(), String::new()), Account { row, kept: 0 });
        }
        let asked = |whose: &Whose| {
            query.tenant.as_ref().is_none_or(|tenant| *tenant == whose.0)
                && query.function.as_ref().is_none_or(|function| *function == whose.1)
        };
        let mut rows = BTreeMap::<(String, Option<String>), UsageRow>::new();
        for (whose, account) in accounts.into_iter().filter(|(whose, _)| asked(whose)) {
            let by_tenant = query.by == UsageBy::Tenant || whose.1.is_empty();
            let function = Some(whose.1).filter(|_| !by_tenant);
            let row = rows.entry((whose.0.clone(), function.clone())).or_insert_with(|| UsageRow {
                tenant: whose.0,
                function,
                from_ms: self.from_ms.filter(|_| matches!(query.by, UsageBy::Hour | UsageBy::Day)),
                ..UsageRow::default()
            });
            row.add(&account.row);
        }
        Ok(rows.into_values().collect())
    }

    /// Sums by function, and what the backbones' rows cost.
    async fn own(&self) -> Result<(BTreeMap<Whose, Account>, u64)> {
        let (mut accounts, mut shared) = (BTreeMap::<Whose, Account>::new(), 0u64);
        for sum in self.journal.sums(Book::Ledger, self.filter(Some(REQUEST), None)).await? {
            let whose = (sum.tenant, sum.function.unwrap_or_default());
            accounts.entry(whose).or_default().row.requests = sum.rows;
        }
        for sum in self.journal.sums(Book::Ledger, self.filter(None, None)).await? {
            if sum.tenant == NOBODY {
                shared = shared.saturating_add(sum.amounts.nanodollars);
                continue;
            }
            let whose = (sum.tenant, sum.function.unwrap_or_default());
            add(&mut accounts.entry(whose).or_default().row, &sum.amounts);
        }
        Ok((accounts, shared))
    }

    /// Who kept the backbones alive.
    async fn keepers(&self, accounts: &mut BTreeMap<Whose, Account>) -> Result<()> {
        let mut after = 0;
        loop {
            let filter = self.filter(Some(RESIDENCY), Some(NOBODY));
            let rows = self.journal.query(Book::Ledger, filter, Page::After(after), PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.number;
            for entry in rows {
                let Ok(LedgerRow::Residency(row)) = serde_json::from_value(entry.row.payload) else {
                    continue;
                };
                for (tenant, function, weight) in
                    row.keepers.into_iter().filter(|_| row.thing == Thing::Backbone)
                {
                    accounts.entry((tenant, function)).or_default().kept += u128::from(weight);
                }
            }
        }
    }
}

/// Splits what is shared. Returns what nobody can be charged with.
fn split(accounts: &mut BTreeMap<Whose, Account>, shared: u64) -> u64 {
    if accounts.is_empty() {
        return shared;
    }
    let parts = |weight: &dyn Fn(&Account) -> u128| {
        apportion(shared, &accounts.values().map(weight).collect::<Vec<_>>())
    };
    let equal = parts(&|_| 1);
    let by_use = parts(&|account| u128::from(account.row.device_ns));
    let shapley = parts(&|account| account.kept);
    for (place, account) in accounts.values_mut().enumerate() {
        let row = &mut account.row;
        row.shared_nanodollars =
            SharedCost { equal: equal[place], by_use: by_use[place], shapley: shapley[place] };
        row.total_nanodollars = row.nanodollars.saturating_add(shapley[place]);
    }
    0
}

fn add(row: &mut UsageRow, amounts: &Amounts) {
    row.prompt_tokens += amounts.prompt_tokens;
    row.completion_tokens += amounts.completion_tokens;
    row.device_ns += amounts.device_ns;
    row.nanodollars += amounts.nanodollars;
}
