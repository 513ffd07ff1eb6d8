//! Spreads requests that share one instant over the step after it, uniformly and seeded.
//!
//! Mooncake's conversation trace counts in steps of 3 s; without this, bursts of that clock look like bursts of users.
//! One step is held at a time. Where the next instant is nearer than the step, the nearer bound holds.

use super::forward;
use crate::record::{Catalog, Item, Record, Refusal, TraceError, TraceStream};
use crate::rng::Stream;
use std::collections::VecDeque;

/// The spread stream.
pub struct Spread<S> {
    inner: S,
    step_ns: u64,
    seed: u64,
    rng: Stream,
    step: Vec<Record>,
    ready: VecDeque<Record>,
    refused: VecDeque<Refusal>,
    ended: bool,
}

impl<S: TraceStream> Spread<S> {
    /// Spreads over `step_ns`.
    pub fn new(inner: S, step_ns: u64, seed: u64) -> Self {
        let rng = Stream::new(seed, "spread");
        Self {
            inner,
            step_ns,
            seed,
            rng,
            step: vec![],
            ready: VecDeque::new(),
            refused: VecDeque::new(),
            ended: false,
        }
    }

    fn release(&mut self, until_ns: u64) {
        let Some(at) = self.step.first().map(|r| r.arrival_ns) else { return };
        let width = self.step_ns.min(until_ns - at);
        self.step.iter_mut().for_each(|r| r.arrival_ns += self.rng.below(width.max(1)));
        self.step.sort_by_key(|r| r.arrival_ns);
        self.ready.extend(self.step.drain(..));
    }
}

impl<S: TraceStream> TraceStream for Spread<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            if let Some(refusal) = self.refused.pop_front() {
                return Ok(Some(Item::Refused(refusal)));
            }
            if let Some(record) = self.ready.pop_front() {
                return Ok(Some(Item::Record(record)));
            }
            if self.ended {
                return Ok(None);
            }
            match self.inner.next_item()? {
                Some(Item::Refused(refusal)) => self.refused.push_back(refusal),
                Some(Item::Record(record)) => {
                    if self.step.first().is_some_and(|first| first.arrival_ns != record.arrival_ns) {
                        self.release(record.arrival_ns);
                    }
                    self.step.push(record);
                }
                None => {
                    self.ended = true;
                    self.release(u64::MAX);
                }
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        self.inner.catalog()
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.inner.notes();
        notes.push(format!("equal arrivals spread over {} s, seed {}", self.step_ns as f64 / 1e9, self.seed));
        notes
    }

    forward!(inner);
}
