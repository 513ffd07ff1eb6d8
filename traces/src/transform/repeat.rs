//! A trace N times end to end, re-opened each time, so that memory stays flat.
//!
//! Pass k is shifted by k × (last arrival + mean gap). Sessions get ids of their own in each pass; prefix blocks stay,
//! as the same prompts come again. Refused rows come again too, so rows in = records + refused still holds.

use crate::open::{OpenOptions, open};
use crate::record::{Catalog, Item, TraceError, TraceStream};
use std::path::Path;

/// Opens the trace anew; called once a pass.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn TraceStream>, TraceError> + Send>;

/// The repeated stream.
pub struct Repeat {
    opener: Opener,
    current: Box<dyn TraceStream>,
    pass: u64,
    times: u64,
    catalog: Catalog,
    /// This pass's function index → ours.
    functions: Vec<u32>,
    offset_ns: u64,
    first_ns: Option<u64>,
    last_ns: u64,
    records: u64,
    sessions: u64,
    session_base: u64,
    rows_before: u64,
}

impl Repeat {
    /// Repeats what `opener` opens `times` times (0 counts as 1).
    pub fn new(mut opener: Opener, times: u64) -> Result<Self, TraceError> {
        let current = opener()?;
        Ok(Self {
            opener,
            current,
            pass: 0,
            times: times.max(1),
            catalog: Catalog::new(),
            functions: vec![],
            offset_ns: 0,
            first_ns: None,
            last_ns: 0,
            records: 0,
            sessions: 0,
            session_base: 0,
            rows_before: 0,
        })
    }

    /// Repeats a file, opened anew for each pass.
    pub fn of_file(path: &Path, options: &OpenOptions, times: u64) -> Result<Self, TraceError> {
        let (path, options) = (path.to_owned(), options.clone());
        Self::new(Box::new(move || open(&path, &options)), times)
    }

    fn next_pass(&mut self) -> Result<(), TraceError> {
        self.pass += 1;
        let gaps = self.records.saturating_sub(1).max(1);
        let mean_gap_ns = (self.last_ns - self.first_ns.unwrap_or(0)) / gaps;
        self.offset_ns = self.offset_ns.saturating_add(self.last_ns).saturating_add(mean_gap_ns);
        self.session_base = self.session_base.wrapping_add(self.sessions);
        (self.first_ns, self.last_ns, self.records, self.sessions) = (None, 0, 0, 0);
        self.rows_before += self.current.rows_in();
        self.functions.clear();
        self.current = (self.opener)()?;
        Ok(())
    }

    fn map_function(&mut self, index: u32) -> u32 {
        let theirs = self.current.catalog().functions();
        while self.functions.len() <= index as usize {
            self.functions.push(self.catalog.intern(theirs[self.functions.len()].clone()));
        }
        self.functions[index as usize]
    }
}

impl TraceStream for Repeat {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            let Some(item) = self.current.next_item()? else {
                if self.pass + 1 == self.times {
                    return Ok(None);
                }
                self.next_pass()?;
                continue;
            };
            let Item::Record(mut record) = item else { return Ok(Some(item)) };
            self.first_ns.get_or_insert(record.arrival_ns);
            self.last_ns = record.arrival_ns;
            self.records += 1;
            record.arrival_ns = record.arrival_ns.saturating_add(self.offset_ns);
            record.function = self.map_function(record.function);
            if record.session > 0 {
                self.sessions = self.sessions.max(record.session);
                record.session = record.session.wrapping_add(self.session_base);
            }
            if record.slo_class as usize >= self.catalog.slo_classes.len() {
                self.catalog.slo_classes = self.current.catalog().slo_classes.clone();
            }
            return Ok(Some(Item::Record(record)));
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.rows_before + self.current.rows_in()
    }

    fn progress(&self) -> Option<f64> {
        self.current.progress().map(|p| (self.pass as f64 + p) / self.times as f64)
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.current.notes();
        notes.push(format!("repeated {} times end to end, a mean gap between passes", self.times));
        notes
    }

    fn warnings(&self) -> Vec<String> {
        self.current.warnings()
    }
}
