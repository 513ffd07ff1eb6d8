//! What happened: the ledger, the audit log and the functions' own logs, row by row and never changed.
//!
//! Rows carry JSON beside the columns they are found and summed by. [`ledger`](super::ledger) gathers rows off the
//! request path; what a row means is the business of whoever writes it.

use super::Result;
use crate::call::Later;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One of the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Book {
    /// Requests and residency, for bills.
    Ledger,
    /// Who changed what.
    Audit,
    /// Lines of functions' logs.
    Log,
}

impl Book {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ledger, Self::Audit, Self::Log];
}

/// Columns of a row that are summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amounts {
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Share of the engine's step time, nanoseconds.
    pub device_ns: u64,
    /// Money, 10⁻⁹ dollars.
    pub nanodollars: u64,
}

/// A row to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Names the row in its book: a repeat with the same name has no effect.
    pub name: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Whose.
    pub tenant: String,
    /// Which function, where it is about one.
    pub function: Option<String>,
    /// What kind of row: `request`, `residency`, `function.create`, `info`, …
    pub kind: String,
    /// What is summed.
    pub amounts: Amounts,
    /// The rest.
    pub payload: Value,
}

/// A row as kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number; grows.
    pub number: u64,
    /// The row.
    pub row: Row,
}

/// Which rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this function.
    pub function: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// At or after, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before, milliseconds since 1970.
    pub until_ms: Option<u64>,
}

/// Which part of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Oldest first, after this number.
    After(u64),
    /// Newest first, before this number; `u64::MAX` is the newest.
    Before(u64),
}

/// Sums over the rows of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Whose.
    pub tenant: String,
    /// Which function.
    pub function: Option<String>,
    /// Rows.
    pub rows: u64,
    /// Their amounts.
    pub amounts: Amounts,
}

/// Books that are only appended to.
pub trait Journal: Send + Sync + 'static {
    /// Appends rows; they are durable, all of them, when this returns.
    fn append(&self, book: Book, rows: Vec<Row>) -> Later<'_, Result<()>>;
    /// Rows by filter and page, at most `limit`.
    fn query(&self, book: Book, filter: Filter, page: Page, limit: usize) -> Later<'_, Result<Vec<Entry>>>;
    /// Sums by tenant and function.
    fn sums(&self, book: Book, filter: Filter) -> Later<'_, Result<Vec<Sum>>>;
    /// Removes rows from before `before_ms`. Returns how many.
    fn trim(&self, book: Book, before_ms: u64) -> Later<'_, Result<u64>>;
}
