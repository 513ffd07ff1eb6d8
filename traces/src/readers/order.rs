//! Arrival order: pass sorted rows through, re-order within a bounded window, or sort everything up to a stated limit.
//!
//! It leaves out sorting on disk: a trace beyond the limit is sorted once by its owner.

use crate::record::Record;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Most rows a re-order window holds (about 400 MB); beyond it the earliest leaves early. Arbitrary.
const WINDOW_ROWS_MAX: usize = 4_000_000;

/// A held record; equal arrivals keep the file's order.
struct Held(u64, u64, Record);

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Held {}
impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// What became of a pushed record.
pub enum Pushed {
    /// In order: give it out now.
    Through(Record),
    /// Kept until its turn.
    Held,
    /// Too late to be put in order.
    Refused(String),
    /// The limit on held rows is reached.
    Full(String),
}

enum Kind {
    Strict,
    Window { window_ns: u64, newest_ns: u64 },
    Sort { rows_max: u64 },
}

/// Puts records in arrival order.
pub struct Order {
    kind: Kind,
    heap: BinaryHeap<Reverse<Held>>,
    sequence: u64,
    last_ns: u64,
}

impl Order {
    fn of(kind: Kind) -> Self {
        Self { kind, heap: BinaryHeap::new(), sequence: 0, last_ns: 0 }
    }

    /// Refuses any row earlier than the one before.
    pub fn strict() -> Self {
        Self::of(Kind::Strict)
    }

    /// Holds rows until a row `window_ns` later was read, judged by arrival plus duration.
    pub fn window(window_ns: u64) -> Self {
        Self::of(Kind::Window { window_ns, newest_ns: 0 })
    }

    /// Holds all rows, at most `rows_max`.
    pub fn sort(rows_max: u64) -> Self {
        Self::of(Kind::Sort { rows_max })
    }

    /// Takes the next row.
    #[inline]
    pub fn push(&mut self, record: Record) -> Pushed {
        let at = record.arrival_ns;
        match &mut self.kind {
            Kind::Strict => {
                if at < self.last_ns {
                    return Pushed::Refused(late(
                        at,
                        self.last_ns,
                        "sort the trace, or read it with the sort option (--sort)",
                    ));
                }
                self.last_ns = at;
                return Pushed::Through(record);
            }
            Kind::Window { newest_ns, .. } => {
                if at < self.last_ns {
                    return Pushed::Refused(late(
                        at,
                        self.last_ns,
                        "read with a longer re-order window, or sort",
                    ));
                }
                *newest_ns = (*newest_ns).max(at.saturating_add(record.duration_ns));
            }
            Kind::Sort { rows_max } => {
                if self.heap.len() as u64 >= *rows_max {
                    return Pushed::Full(format!(
                        "the sort option holds at most {rows_max} rows in memory; sort the file first or raise the limit"
                    ));
                }
            }
        }
        self.heap.push(Reverse(Held(at, self.sequence, record)));
        self.sequence += 1;
        Pushed::Held
    }

    /// The next record whose turn has come; all of them `at_end`.
    #[inline]
    pub fn pop(&mut self, at_end: bool) -> Option<Record> {
        let first = self.heap.peek()?.0.0;
        let ready = match self.kind {
            Kind::Strict => true,
            Kind::Sort { .. } => at_end,
            Kind::Window { window_ns, newest_ns } => {
                at_end || first.saturating_add(window_ns) <= newest_ns || self.heap.len() > WINDOW_ROWS_MAX
            }
        };
        if !ready {
            return None;
        }
        self.last_ns = first;
        self.heap.pop().map(|held| held.0.2)
    }
}

#[cold]
fn late(at_ns: u64, last_ns: u64, what_to_do: &str) -> String {
    let back = (last_ns - at_ns) as f64 / 1e9;
    format!("is unsorted: {back:.6} s before a row already given out; {what_to_do}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(mut order: Order, times: &[u64]) -> (Vec<u64>, usize) {
        let (mut out, mut refused) = (vec![], 0);
        for &arrival_ns in times {
            match order.push(Record { arrival_ns, ..Record::default() }) {
                Pushed::Through(r) => out.push(r.arrival_ns),
                Pushed::Held => {}
                Pushed::Refused(_) | Pushed::Full(_) => refused += 1,
            }
            while let Some(r) = order.pop(false) {
                out.push(r.arrival_ns);
            }
        }
        while let Some(r) = order.pop(true) {
            out.push(r.arrival_ns);
        }
        (out, refused)
    }

    #[test]
    fn orders() {
        assert_eq!(run(Order::strict(), &[1, 3, 2, 3, 4]), (vec![1, 3, 3, 4], 1));
        assert_eq!(run(Order::window(2), &[5, 3, 4, 9, 6, 7, 8, 20, 1]), (vec![3, 4, 5, 6, 7, 8, 9, 20], 1));
        assert_eq!(run(Order::sort(9), &[3, 1, 2]), (vec![1, 2, 3], 0));
        assert_eq!(run(Order::sort(2), &[3, 1, 2]), (vec![1, 3], 1));
    }
}
