//! The books of the administration over the store's journal and the store itself.

use super::action::{UsageBy, UsageQuery};
use super::live::Books;
use super::records::{AuditLine, AuditRow, UsageRow};
use crate::call::Later;
use crate::store::journal::{Amounts, Book, Entry, Filter, Journal, Page, Row, Sum};
use crate::store::{OpenError, Store};
use crate::store::{Rejected, Result, StoreError};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Kind of the ledger's rows that are requests; all kinds count as money.
const REQUEST: &str = "request";
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Hours or days of one answer: a month of hours.
const STEPS_MAX: u64 = 31 * 24;

/// Books kept in a store.
pub struct StoreBooks {
    journal: Arc<dyn Journal>,
    store: Arc<Store>,
}

impl StoreBooks {
    /// Over a store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { journal: store.journal(), store }
    }

    /// Sums of one span, by tenant and function.
    async fn span(
        &self,
        query: &UsageQuery,
        from_ms: Option<u64>,
        until_ms: Option<u64>,
    ) -> Result<Vec<UsageRow>> {
        let filter = |kind: Option<&str>| Filter {
            tenant: query.tenant.clone(),
            function: query.function.clone(),
            kind: kind.map(str::to_owned),
            from_ms,
            until_ms,
        };
        let requests = self.journal.sums(Book::Ledger, filter(Some(REQUEST))).await?;
        let all = self.journal.sums(Book::Ledger, filter(None)).await?;
        let by_tenant = query.by == UsageBy::Tenant;
        let mut rows = BTreeMap::<(String, Option<String>), UsageRow>::new();
        let mut row = |sum: &Sum, add: &dyn Fn(&mut UsageRow)| {
            let function = sum.function.clone().filter(|_| !by_tenant);
            add(rows.entry((sum.tenant.clone(), function)).or_default());
        };
        for sum in &requests {
            row(sum, &|row| row.requests += sum.rows);
        }
        for sum in &all {
            row(sum, &|row| add(row, &sum.amounts));
        }
        let begins = from_ms.filter(|_| matches!(query.by, UsageBy::Hour | UsageBy::Day));
        let named = rows.into_iter().map(|((tenant, function), row)| UsageRow {
            tenant,
            function,
            from_ms: begins,
            ..row
        });
        Ok(named.collect())
    }

    /// One answer for each hour or day, empty ones left out.
    async fn steps(&self, query: &UsageQuery, step: u64) -> Result<Vec<UsageRow>> {
        let until = query.to_ms.unwrap_or_else(super::now_ms);
        let from = query.from_ms.unwrap_or_else(|| until.saturating_sub(24 * step));
        let first = from - from % step;
        if until.saturating_sub(first).div_ceil(step) > STEPS_MAX {
            let problem = format!("this spans more than {STEPS_MAX} hours or days: ask for less at once");
            return Err(StoreError::Rejected(Rejected::Invalid(problem)));
        }
        let mut rows = Vec::new();
        let mut begin = first;
        while begin < until {
            rows.extend(self.span(query, Some(begin), Some(until.min(begin + step))).await?);
            begin += step;
        }
        Ok(rows)
    }
}

fn add(row: &mut UsageRow, amounts: &Amounts) {
    row.prompt_tokens += amounts.prompt_tokens;
    row.completion_tokens += amounts.completion_tokens;
    row.device_ns += amounts.device_ns;
    row.nanodollars += amounts.nanodollars;
}

impl Books for StoreBooks {
    fn note(&self, line: AuditLine) -> Later<'_, Result<()>> {
        Box::pin(async move {
            let row = Row {
                name: super::random_hex(16).map_err(|error| StoreError::Unavailable(error.message))?,
                at_ms: line.at_ms,
                tenant: line.tenant.clone(),
                function: line.target.strip_prefix("function/").map(str::to_owned),
                kind: line.action.clone(),
                amounts: Amounts::default(),
                payload: serde_json::to_value(&line)
                    .map_err(|error| StoreError::Unavailable(error.to_string()))?,
            };
            self.journal.append(Book::Audit, vec![row]).await
        })
    }

    fn audit<'a>(
        &'a self,
        tenant: Option<&'a str>,
        before: Option<u64>,
        limit: usize,
    ) -> Later<'a, Result<Vec<AuditRow>>> {
        Box::pin(async move {
            let filter = Filter { tenant: tenant.map(str::to_owned), ..Filter::default() };
            let page = Page::Before(before.unwrap_or(u64::MAX));
            let entries = self.journal.query(Book::Audit, filter, page, limit).await?;
            let read = |entry: Entry| {
                let line = serde_json::from_value(entry.row.payload).ok()?;
                Some(AuditRow { number: entry.number, line })
            };
            Ok(entries.into_iter().filter_map(read).collect())
        })
    }

    fn usage<'a>(&'a self, query: &'a UsageQuery) -> Later<'a, Result<Vec<UsageRow>>> {
        Box::pin(async move {
            match query.by {
                UsageBy::Function | UsageBy::Tenant => self.span(query, query.from_ms, query.to_ms).await,
                UsageBy::Hour => self.steps(query, HOUR_MS).await,
                UsageBy::Day => self.steps(query, DAY_MS).await,
            }
        })
    }

    fn backup(&self, folder: PathBuf) -> Later<'_, Result<Value>> {
        Box::pin(async move {
            self.store.backup(&folder).await.map_err(opened)?;
            Ok(serde_json::json!({"object": "backup", "folder": folder}))
        })
    }

    fn check(&self) -> Later<'_, Result<Value>> {
        Box::pin(async move {
            let checked = self.store.check().await.map_err(opened)?;
            Ok(serde_json::json!({
                "object": "check",
                "sound": checked.problems.is_empty(),
                "problems": checked.problems,
                "blobs": checked.blobs,
                "blob_bytes": checked.blob_bytes,
            }))
        })
    }
}

fn opened(error: OpenError) -> StoreError {
    match error {
        OpenError::NotEmpty(_) => StoreError::Rejected(Rejected::Invalid(error.to_string())),
        other => StoreError::Unavailable(other.to_string()),
    }
}
