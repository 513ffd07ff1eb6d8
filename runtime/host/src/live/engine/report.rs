//! What the engine's thread tells of itself: gauges, counters, and each step to an observer.

use coldframe_backbone::engine::StepStats;
use coldframe_backbone::kv::{BookStats, Owner};

/// Gauges and counters of the engine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Sequences in the batch.
    pub running: usize,
    /// Of these, those that yield to others.
    pub yielding: usize,
    /// Sequences that wait to run.
    pub waiting: usize,
    /// Sequences held back for their readers.
    pub held: usize,
    /// KV pages: free, used and cached, lookups and hits of prefixes.
    pub pages: BookStats,
    /// KV pages in all.
    pub pages_total: u32,
    /// Host memory of sequences put aside, bytes.
    pub swapped_bytes: u64,
    /// Steps done.
    pub steps: u64,
    /// Steps that failed as a whole.
    pub failed_steps: u64,
    /// Sequences put aside for others.
    pub preempted: u64,
    /// Sequences that came back.
    pub resumed: u64,
    /// Jobs ended because nobody read them.
    pub slow_readers: u64,
    /// Tokens of prompts computed.
    pub prefill_tokens: u64,
    /// Tokens of answers computed.
    pub decode_tokens: u64,
    /// Time in steps, nanoseconds.
    pub busy_ns: u64,
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Whose it is, and under which adapter.
    pub owner: Owner,
    /// Its tokens in the step.
    pub tokens: usize,
    /// Its share of the step's time by its share of the tokens, nanoseconds; all parts sum to the step's time.
    pub device_ns: u64,
}

/// A step.
#[derive(Debug)]
pub struct StepReport<'a> {
    /// The engine's own measures.
    pub stats: StepStats,
    /// Who was in it.
    pub parts: &'a [Part],
    /// Gauges and counters after it.
    pub snapshot: Snapshot,
}

/// Watches steps. Called on the engine's thread: quick, or every sequence waits.
pub trait Observer: Send + Sync {
    /// A step was done.
    fn stepped(&self, report: &StepReport<'_>);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn stepped(&self, _: &StepReport<'_>) {}
}
