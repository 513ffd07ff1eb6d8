//! Many functions' records as one stream in time order; ties go by the source's number.
//!
//! It holds one record a source, so memory follows the number of functions, never the requests.

use crate::record::{Catalog, Item, Record, TraceError, TraceStream};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Records of one function, in time order.
pub trait Source: Send {
    /// The next record; `None` at the end.
    fn next_record(&mut self) -> Option<Record>;
}

/// The merged stream.
pub struct Merge<S> {
    sources: Vec<S>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
    pending: Vec<Option<Record>>,
    catalog: Catalog,
    rows_in: u64,
    end_ns: u64,
    now_ns: u64,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl<S: Source> Merge<S> {
    /// Merges `sources`, whose records refer to `catalog`; `end_ns` is the span's end, for progress.
    pub fn new(mut sources: Vec<S>, catalog: Catalog, end_ns: u64) -> Self {
        let pending: Vec<_> = sources.iter_mut().map(Source::next_record).collect();
        let first =
            |(i, record): (usize, &Option<Record>)| Some(Reverse((record.as_ref()?.arrival_ns, i as u32)));
        let heap = pending.iter().enumerate().filter_map(first).collect();
        Self {
            sources,
            heap,
            pending,
            catalog,
            rows_in: 0,
            end_ns,
            now_ns: 0,
            notes: vec![],
            warnings: vec![],
        }
    }

    /// Adds lines on how the records are made, and warnings.
    pub fn told(mut self, notes: Vec<String>, warnings: Vec<String>) -> Self {
        self.notes = notes;
        self.warnings = warnings;
        self
    }

    /// States how many input rows the sources came from.
    pub fn rows(mut self, rows_in: u64) -> Self {
        self.rows_in = rows_in;
        self
    }
}

impl<S: Source> TraceStream for Merge<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        let Some(mut top) = self.heap.peek_mut() else { return Ok(None) };
        let at = top.0.1 as usize;
        let next = self.sources[at].next_record();
        match &next {
            Some(record) => top.0.0 = record.arrival_ns,
            None => {
                std::collections::binary_heap::PeekMut::pop(top);
            }
        }
        let record =
            std::mem::replace(&mut self.pending[at], next).expect("a source in the heap has a record");
        self.now_ns = record.arrival_ns;
        Ok(Some(Item::Record(record)))
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.rows_in
    }

    fn progress(&self) -> Option<f64> {
        (self.end_ns > 0).then(|| (self.now_ns as f64 / self.end_ns as f64).min(1.0))
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
