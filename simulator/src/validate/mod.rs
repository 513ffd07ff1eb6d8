//! Checks of the simulator against published measurements: a cold-start timeline and real engine runs.
//!
//! Each check is a function that returns rows, so that a command can print what a test guards.

pub mod ground_truth;
pub mod timeline;

use coldframe_traces::{Catalog, FunctionInfo, Item, Record, TraceError, TraceStream};

/// A trace held in memory: small scenarios and tests.
pub struct Held {
    records: std::vec::IntoIter<Record>,
    catalog: Catalog,
    rows: u64,
}

impl Held {
    /// Records in arrival order over these functions.
    pub fn new(functions: impl IntoIterator<Item = FunctionInfo>, records: Vec<Record>) -> Self {
        let mut catalog = Catalog::new();
        for function in functions {
            catalog.intern(function);
        }
        Self { records: records.into_iter(), catalog, rows: 0 }
    }
}

impl TraceStream for Held {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        let next = self.records.next();
        self.rows += u64::from(next.is_some());
        Ok(next.map(Item::Record))
    }
    fn catalog(&self) -> &Catalog {
        &self.catalog
    }
    fn rows_in(&self) -> u64 {
        self.rows
    }
}
