//! The books of the administration over the store's journal and the store itself.

use super::action::{RowsQuery, UsageBy, UsageQuery};
use super::costs::Period;
use super::live::Books;
use super::records::{AuditLine, AuditRow, UsageRow};
use crate::call::Later;
use crate::meter::LedgerRow;
use crate::meter::export::Table;
use crate::store::journal::{Amounts, Book, Entry, Filter, Journal, Page, Row};
use crate::store::ledger::Ledger;
use crate::store::{OpenError, Store};
use crate::store::{Rejected, Result, StoreError};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;
/// Hours or days of one answer: a month of hours.
const STEPS_MAX: u64 = 31 * 24;
/// Rows read at once.
const ROWS: usize = 1000;
/// Rows of one table. Arbitrary: some tens of megabytes.
const TABLE_MAX: usize = 100_000;

/// Books kept in a store.
pub struct StoreBooks {
    journal: Arc<dyn Journal>,
    store: Arc<Store>,
    ledger: Option<Ledger>,
}

impl StoreBooks {
    /// Over a store.
    pub fn new(store: Arc<Store>) -> Self {
        Self { journal: store.journal(), store, ledger: None }
    }

    /// With the ledger that rows are handed to, so that what was handed over is read.
    pub fn with_ledger(self, ledger: Ledger) -> Self {
        Self { ledger: Some(ledger), ..self }
    }

    /// Rows that still wait are written first. Where the disk takes none now, what is written is read all the same.
    async fn written(&self) {
        let Some(ledger) = &self.ledger else { return };
        if let Err(error) = ledger.flush().await {
            tracing::warn!(%error, "usage is read without the rows that wait to be written");
        }
    }

    /// What was used in one span.
    async fn span(
        &self,
        query: &UsageQuery,
        from_ms: Option<u64>,
        until_ms: Option<u64>,
    ) -> Result<Vec<UsageRow>> {
        Period { journal: &*self.journal, from_ms, until_ms }.usage(query).await
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
            self.written().await;
            match query.by {
                UsageBy::Function | UsageBy::Tenant => self.span(query, query.from_ms, query.to_ms).await,
                UsageBy::Hour => self.steps(query, HOUR_MS).await,
                UsageBy::Day => self.steps(query, DAY_MS).await,
            }
        })
    }

    fn rows<'a>(&'a self, query: &'a RowsQuery) -> Later<'a, Result<Vec<LedgerRow>>> {
        Box::pin(async move {
            self.written().await;
            let kind = match query.table {
                Table::Requests => "request",
                Table::Residency => "residency",
            };
            let filter = Filter {
                tenant: query.tenant.clone(),
                function: query.function.clone(),
                kind: Some(kind.to_owned()),
                from_ms: query.from_ms,
                until_ms: query.to_ms,
            };
            let (mut rows, mut after) = (Vec::new(), 0);
            loop {
                let read = self.journal.query(Book::Ledger, filter.clone(), Page::After(after), ROWS).await?;
                let Some(last) = read.last() else { return Ok(rows) };
                after = last.number;
                rows.extend(
                    read.into_iter().filter_map(|entry| serde_json::from_value(entry.row.payload).ok()),
                );
                if rows.len() > TABLE_MAX {
                    let problem = format!("this is more than {TABLE_MAX} rows: ask for a shorter time");
                    return Err(StoreError::Rejected(Rejected::Invalid(problem)));
                }
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
