//! The driver under all row formats: line in, record or refusal out, times in order.
//!
//! A format supplies a [`Parser`]; counting, refusing, ordering and rebasing happen once, here. So
//! rows in = records out + refused holds for every row format by construction.

use super::order::{Order, Pushed};
use crate::input::Lines;
use crate::record::{Catalog, Item, Record, Refusal, TraceError, TraceStream};
use std::borrow::Cow;

/// Why a row is refused, before its place is known.
#[derive(Debug)]
pub struct Fault {
    /// Column at fault; empty for the row as a whole.
    pub column: Cow<'static, str>,
    /// What is wrong.
    pub reason: String,
}

impl Fault {
    /// A fault of one column.
    #[cold]
    pub fn at(column: impl Into<Cow<'static, str>>, reason: impl Into<String>) -> Self {
        Self { column: column.into(), reason: reason.into() }
    }

    /// A fault of the row as a whole.
    #[cold]
    pub fn row(reason: impl Into<String>) -> Self {
        Self::at("", reason)
    }
}

/// Attaches the column to a field's reason.
pub trait InColumn<T> {
    /// The fault of `column`.
    fn column(self, column: &'static str) -> Result<T, Fault>;
}

impl<T> InColumn<T> for Result<T, String> {
    #[inline]
    fn column(self, column: &'static str) -> Result<T, Fault> {
        self.map_err(|reason| Fault::at(column, reason))
    }
}

/// One format's rule for turning a line into a record. Times may count from any zero.
pub trait Parser: Send {
    /// The column an unsorted row is blamed on; empty where times are drawn and always ascend.
    const TIME: &'static str;
    /// Parses one line.
    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault>;
    /// True when times count from an epoch and the first record's arrival is to become 0.
    fn rebase(&self) -> bool {
        false
    }
}

/// A stream over the lines of a file.
pub struct Rows<P> {
    lines: Lines,
    parser: P,
    catalog: Catalog,
    order: Order,
    base_ns: Option<u64>,
    rows: u64,
    at_end: bool,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl<P: Parser> Rows<P> {
    /// A stream of `parser` over what is left of `lines`.
    pub fn new(lines: Lines, parser: P, order: Order) -> Self {
        let base_ns = if parser.rebase() { None } else { Some(0) };
        let notes = lines.comments.clone();
        Self {
            lines,
            parser,
            catalog: Catalog::new(),
            order,
            base_ns,
            rows: 0,
            at_end: false,
            notes,
            warnings: vec![],
        }
    }

    /// Adds a line on how the records are made.
    pub fn note(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    /// Adds warnings.
    pub fn warn(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    #[inline]
    fn give(&mut self, mut record: Record) -> Item {
        record.arrival_ns -= *self.base_ns.get_or_insert(record.arrival_ns);
        Item::Record(record)
    }

    #[cold]
    fn refuse(&self, fault: Fault) -> Item {
        Item::Refused(Refusal {
            file: self.lines.file().to_owned(),
            line: self.lines.line(),
            column: fault.column.into_owned(),
            reason: fault.reason,
        })
    }
}

impl<P: Parser> TraceStream for Rows<P> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            if let Some(record) = self.order.pop(self.at_end) {
                return Ok(Some(self.give(record)));
            }
            if self.at_end {
                return Ok(None);
            }
            let Some(line) = self.lines.next_line()? else {
                self.at_end = true;
                continue;
            };
            if line.is_empty() {
                continue;
            }
            self.rows += 1;
            let record = match self.parser.parse(line, &mut self.catalog) {
                Ok(record) => record,
                Err(fault) => return Ok(Some(self.refuse(fault))),
            };
            match self.order.push(record) {
                Pushed::Through(record) => return Ok(Some(self.give(record))),
                Pushed::Held => {}
                Pushed::Refused(reason) => return Ok(Some(self.refuse(Fault::at(P::TIME, reason)))),
                Pushed::Full(reason) => return Err(self.lines.fault(reason)),
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.rows
    }

    fn progress(&self) -> Option<f64> {
        self.lines.progress()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
