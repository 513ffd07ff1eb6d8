//! Where rows go: append only, never in the way of a request.
//!
//! A sink takes a row and returns; writing it durably, in batches, is the sink's own task.

use super::row::LedgerRow;
use std::sync::{Mutex, PoisonError};

/// Takes rows. It must not block.
pub trait LedgerSink: Send + Sync + 'static {
    /// Takes a row.
    fn append(&self, row: LedgerRow);
}

/// Takes rows and forgets them: for runs that nobody pays for.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoLedger;

impl LedgerSink for NoLedger {
    fn append(&self, _: LedgerRow) {}
}

/// Rows in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryLedger(Mutex<Vec<LedgerRow>>);

impl MemoryLedger {
    /// All rows so far, in order.
    pub fn rows(&self) -> Vec<LedgerRow> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LedgerSink for MemoryLedger {
    fn append(&self, row: LedgerRow) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }
}
