//! What a host's core was told before its first request: workers, backbones, functions in their order and with their own
//! sizes and estimates, so that a simulation of the host starts where the host did.
//!
//! Read from a decision log. The trace's own functions get the log's numbers by name, its times follow the log's.

use coldframe_policy::event::Event;
use coldframe_policy::log::{Line, LogError, Reader};
use coldframe_policy::spec::BackboneSpec;
use coldframe_policy::units::{Bytes, Nanos};
use coldframe_traces::{Catalog, FunctionInfo, Item, Record, TraceError, TraceStream};
use std::collections::BTreeMap;
use std::io::BufRead;

/// A host's state before its first request.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Backbones as the core was told.
    pub backbones: Vec<BackboneSpec>,
    /// Workers, functions and pins, in order.
    pub told: Vec<(Nanos, Event)>,
    /// Functions by number.
    pub functions: Vec<FunctionInfo>,
    /// When the first request came; the last thing told where none did.
    pub first: Nanos,
    /// Its backbones were opened when it started: the first load of each takes next to no time. A simulated host opens none.
    pub opened: bool,
}

impl Start {
    /// Reads a log up to its first request.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn read<R: BufRead>(log: Reader<R>) -> Result<Self, LogError> {
        let backbones = log.header.backbones.iter().map(|backbone| backbone.spec.clone()).collect();
        let opened = log.header.writer == "host";
        let mut start = Self { backbones, opened, ..Self::default() };
        for line in log {
            match line? {
                Line::Event { at, event: Event::RequestArrived { .. } } => {
                    start.first = at;
                    break;
                }
                Line::Event { at, event } => {
                    start.first = at;
                    match &event {
                        Event::FunctionAdded(_) => start.functions.push(FunctionInfo::default()),
                        Event::WorkerJoined(_) | Event::FunctionPinned { .. } => {}
                        // What follows from these, or from the policy, happens again by itself.
                        _ => continue,
                    }
                    start.told.push((at, event));
                }
                Line::Function { id, tenant, name, .. } => {
                    if let Some(info) = start.functions.get_mut(id.index()) {
                        *info =
                            FunctionInfo { adapter: name.clone(), name, tenant, ..FunctionInfo::default() };
                    }
                }
                _ => {}
            }
        }
        Ok(start)
    }

    /// The same with other memory on every device.
    pub fn with_device(mut self, bytes: Bytes) -> Self {
        for (_, event) in &mut self.told {
            if let Event::WorkerJoined(spec) = event {
                spec.devices.fill(bytes);
            }
        }
        self
    }

    /// Devices of all workers.
    pub fn devices(&self) -> usize {
        let of = |(_, event): &(Nanos, Event)| match event {
            Event::WorkerJoined(spec) => spec.devices.len(),
            _ => 0,
        };
        self.told.iter().map(of).sum()
    }
}

/// A trace on a host's clock, with the host's numbers for its functions.
pub(crate) struct Placed<'a> {
    trace: &'a mut dyn TraceStream,
    catalog: Catalog,
    numbers: BTreeMap<String, u32>,
    /// From the trace's numbers to the host's.
    known: Vec<u32>,
    first: u64,
    origin: Option<u64>,
}

impl<'a> Placed<'a> {
    pub(crate) fn new(trace: &'a mut dyn TraceStream, start: &Start) -> Self {
        let mut catalog = Catalog::new();
        let number = |info: &FunctionInfo| (info.name.clone(), catalog.intern(info.clone()));
        let numbers = start.functions.iter().map(number).collect();
        Self { trace, catalog, numbers, known: Vec::new(), first: start.first.0, origin: None }
    }

    fn place(&mut self, record: Record) -> Record {
        let infos = self.trace.catalog().functions();
        while let Some(info) = infos.get(self.known.len()) {
            let known = self.numbers.get(&info.name).copied();
            self.known.push(known.unwrap_or_else(|| self.catalog.intern(info.clone())));
        }
        let origin = *self.origin.get_or_insert(record.arrival_ns);
        let arrival_ns = self.first + (record.arrival_ns - origin);
        let function = self.known.get(record.function as usize).copied().unwrap_or(record.function);
        Record { arrival_ns, function, ..record }
    }
}

impl TraceStream for Placed<'_> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        Ok(match self.trace.next_item()? {
            Some(Item::Record(record)) => Some(Item::Record(self.place(record))),
            other => other,
        })
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.trace.rows_in()
    }

    fn progress(&self) -> Option<f64> {
        self.trace.progress()
    }
}
