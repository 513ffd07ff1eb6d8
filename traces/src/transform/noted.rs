//! Puts notes before a stream's own, such as the hashes of its sources. The records pass as they are.

use super::forward;
use crate::record::{Catalog, Item, TraceError, TraceStream};

/// The stream with more notes.
pub struct Noted<S> {
    inner: S,
    notes: Vec<String>,
}

impl<S: TraceStream> Noted<S> {
    /// Adds `notes` before those of `inner`.
    pub fn new(inner: S, notes: Vec<String>) -> Self {
        Self { inner, notes }
    }
}

impl<S: TraceStream> TraceStream for Noted<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        self.inner.next_item()
    }

    fn catalog(&self) -> &Catalog {
        self.inner.catalog()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        notes.extend(self.inner.notes());
        notes
    }

    forward!(inner);
}
