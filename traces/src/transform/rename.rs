//! Renames functions, or leaves their requests out, by a rule over identities.
//!
//! It asks the rule once per function, not once per request.

use super::forward;
use crate::record::{Catalog, FunctionInfo, Item, TraceError, TraceStream};

/// What becomes of a function; `None` leaves its requests out.
pub type Rule = Box<dyn FnMut(&FunctionInfo) -> Option<FunctionInfo> + Send>;

/// The renamed stream.
pub struct Rename<S> {
    inner: S,
    rule: Rule,
    mapped: Vec<Option<u32>>,
    catalog: Catalog,
    note: String,
}

impl<S: TraceStream> Rename<S> {
    /// Renames by `rule`; `note` says what it does.
    pub fn new(inner: S, note: &str, rule: Rule) -> Self {
        Self { inner, rule, mapped: vec![], catalog: Catalog::new(), note: note.to_owned() }
    }
}

impl<S: TraceStream> TraceStream for Rename<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            let item = self.inner.next_item()?;
            let Some(Item::Record(mut record)) = item else { return Ok(item) };
            let theirs = self.inner.catalog();
            while self.mapped.len() <= record.function as usize {
                let renamed = (self.rule)(&theirs.functions()[self.mapped.len()]);
                self.mapped.push(renamed.map(|info| self.catalog.intern(info)));
            }
            if theirs.slo_classes.len() != self.catalog.slo_classes.len() {
                self.catalog.slo_classes = theirs.slo_classes.clone();
            }
            if let Some(function) = self.mapped[record.function as usize] {
                record.function = function;
                return Ok(Some(Item::Record(record)));
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.inner.notes();
        notes.push(self.note.clone());
        notes
    }

    forward!(inner);
}
