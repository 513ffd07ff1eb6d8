//! Requests that a client saw answered, measured by the simulator's own definitions: the same report as a simulated run.
//!
//! [`Observed`] is what a client can know: when a request was due, when its tokens came, what the server said of its
//! phases. Device time, memory and money it can't see: those parts of the report are empty unless the host's log fills
//! them. Everything here is plain numbers; who sent the requests is not known.

mod markers;
mod report;

pub use markers::{Answer, Ledger, Markers, MarkersError};
pub use report::{Client, report};

use crate::measure::collect::{Finished, KINDS};
use crate::report::per_request::{Outcome, RequestRow};
use std::collections::BTreeMap;

/// One request as its sender saw it. Times are ns from the start of the run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Number in the trace.
    pub id: u64,
    /// Function, by the trace's catalog.
    pub function: u32,
    /// When the trace says it is sent. Everything is measured from here, so that a sender that falls behind makes
    /// times longer rather than leaving requests out.
    pub due_ns: u64,
    /// When it was sent.
    pub sent_ns: u64,
    /// Its first token.
    pub first_ns: u64,
    /// Its last token.
    pub end_ns: u64,
    /// Longest time between two pieces of its answer.
    pub worst_gap_ns: u64,
    /// Prompt tokens, as the server counted them (as asked for where it did not).
    pub prompt_tokens: u32,
    /// Output tokens, the same.
    pub output_tokens: u32,
    /// Phases before the first token as the server told them, ns by name.
    pub phases: BTreeMap<String, u64>,
    /// How it ended.
    pub end: End,
}

/// How a request ended for its sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// With its last token and the end mark.
    #[default]
    Completed,
    /// Turned away (429 or 503).
    Refused,
    /// No answer in time.
    TimedOut,
    /// Anything else, in words.
    Failed(String),
}

/// The simulator's stage that a phase of the server belongs to, as a place in [`Finished::cold_ns`]; phases that are no
/// cold start (`prepare`, `parked`, `queue`) are none.
fn stage(phase: &str) -> Option<usize> {
    match phase {
        "container" | "handler" => Some(0),
        "runtime" | "module" => Some(1),
        "backbone" => Some(2),
        "adapter" | "adapter-read" | "adapter_read" | "adapter-load" | "adapter_load" => Some(3),
        "kernel" => Some(4),
        _ => None,
    }
}

/// Shorter than this a handler's start counts as part of a warm request: instances from a pool take microseconds and
/// every call has one.
const HANDLER_COLD_NS: u64 = 1_000_000;

/// Shorter than this a phase is a look at what is in place, not a load.
const LOOK_NS: u64 = 100_000;

impl Observed {
    /// The request by the simulator's definitions; `None` unless it completed.
    pub fn finished(&self) -> Option<Finished> {
        if self.end != End::Completed {
            return None;
        }
        let first = self.first_ns.max(self.due_ns);
        let mut left = first - self.due_ns;
        let mut take = |ns: u64| {
            let taken = ns.min(left);
            left -= taken;
            taken
        };
        // What the server says can't exceed what the client waited.
        let prefill_ns = take(self.phases.get("prefill").copied().unwrap_or(0));
        let mut cold_ns = [0; 5];
        for (name, &ns) in &self.phases {
            let look = ns < if name == "handler" { HANDLER_COLD_NS } else { LOOK_NS };
            if let Some(at) = stage(name).filter(|_| !look) {
                cold_ns[at] += take(ns);
            }
        }
        Some(Finished {
            function: self.function,
            arrival_ns: self.due_ns,
            first_token_ns: first,
            end_ns: self.end_ns.max(first),
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
            cold_ns,
            prefill_ns,
        })
    }

    /// The request as a row of the file that a simulated run writes too.
    pub fn row(&self, met: (bool, bool), seed: u64) -> RequestRow {
        let blank = Finished {
            arrival_ns: self.due_ns,
            first_token_ns: self.due_ns,
            end_ns: self.due_ns,
            ..Finished::default()
        };
        let (finished, done) = (self.finished(), self.end == End::Completed);
        let f = finished.unwrap_or(blank);
        let [container_ns, runtime_ns, backbone_ns, adapter_ns, kernel_ns] = f.cold_ns;
        RequestRow {
            id: self.id,
            function: self.function,
            adapter: self.function,
            base_model: self.function,
            arrival_ns: self.due_ns,
            first_scheduled_ns: if done { f.first_token_ns - f.prefill_ns } else { 0 },
            cold_kind: KINDS[f.kind()],
            queue_ns: if done { f.queue_ns() } else { self.end_ns.saturating_sub(self.due_ns) },
            container_ns,
            runtime_ns,
            backbone_ns,
            adapter_ns,
            kernel_ns,
            prefill_ns: f.prefill_ns,
            ttft_ns: if done { f.ttft_ns() } else { 0 },
            tpot_ns: f.tpot_ns().unwrap_or(0),
            worst_gap_ns: self.worst_gap_ns,
            e2e_ns: if done { f.e2e_ns() } else { 0 },
            prompt_tokens: self.prompt_tokens,
            output_tokens: self.output_tokens,
            slo_ttft: done && met.0,
            slo_tpot: done && met.1,
            outcome: match self.end {
                End::Completed => Outcome::Completed,
                End::TimedOut => Outcome::TimedOut,
                End::Refused | End::Failed(_) => Outcome::Refused,
            },
            seed,
            ..RequestRow::default()
        }
    }
}

#[cfg(test)]
mod tests;
