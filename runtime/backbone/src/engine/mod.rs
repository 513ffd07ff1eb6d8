//! Sequences in flight: admission to the batch, steps, sampling, preemption, ends.
//!
//! One [`Engine::step`] advances everything that is running: a decode row for each sequence that has one, then prefill
//! chunks under a budget, taken in turns from the functions (tenant and generation) and first come, first served inside
//! one. Sequences that yield run where no other does, and beside others a token now and then. What a sequence says
//! depends on itself alone: never on its neighbours, on preemption or on a prefix hit. The engine knows no server, no
//! policy and no sandbox; it is driven by whoever calls `step`.

mod fork;
mod lanes;
mod options;
mod pause;
mod plan;
mod room;
mod run;
mod sequence;
mod speech;
mod voice;

pub use options::EngineOptions;
pub use run::Engine;
pub use speech::{Speech, SpeechOptions};
pub use voice::{Reason, Said, Spoken, Voice};

use crate::adapter::Adapter;
use crate::error::Error;
use crate::kv::{Owner, TenantId};
use std::sync::Arc;

/// A sequence of an engine. Choices of one request have consecutive numbers; an older request has smaller ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u64);

impl SequenceId {
    /// The sequence of choice `index` of the request whose first choice this is.
    pub fn choice(self, index: usize) -> Self {
        Self(self.0 + index as u64)
    }
}

/// Work for the engine.
pub struct Request {
    /// Whose it is.
    pub tenant: TenantId,
    /// The adapter, bound now: replacing what its name means changes nothing for this request.
    pub adapter: Option<Arc<Adapter>>,
    /// It gives way: while others run it gets one token in [`EngineOptions::yielding_steps`] steps.
    pub yields: bool,
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Tokens to generate at most; `None` is as many as the context and the pages allow.
    pub max_tokens: Option<usize>,
    /// One voice for each choice, at least one. The prompt is computed once for all.
    pub voices: Vec<Box<dyn Voice>>,
}

impl Request {
    /// Whom its pages will belong to.
    pub fn owner(&self) -> Owner {
        Owner { tenant: self.tenant, generation: self.adapter.as_ref().map(|adapter| adapter.generation()) }
    }
}

/// Tokens of a sequence, for billing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt: usize,
    /// Of these, found in cached pages when the sequence first started.
    pub cached: usize,
    /// Tokens generated, the one that ended it included.
    pub completion: usize,
}

/// Something happened to a sequence.
#[derive(Debug)]
pub struct Event {
    /// Which.
    pub sequence: SequenceId,
    /// What.
    pub what: What,
}

/// What happened to a sequence. After [`What::Done`] or [`What::Failed`] nothing more comes.
#[derive(Debug)]
pub enum What {
    /// Its prompt is being computed, or was found.
    Started {
        /// Tokens of the prompt.
        prompt: usize,
        /// Of these, found in cached pages.
        cached: usize,
    },
    /// A token.
    Token(Spoken),
    /// It ended.
    Done {
        /// Why.
        reason: Reason,
        /// Text that was held back until now.
        text: String,
        /// What it used.
        usage: Usage,
    },
    /// It failed, alone.
    Failed {
        /// Why.
        error: Error,
        /// What it used.
        usage: Usage,
    },
}

/// Measures of a step, for metering and calibration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepStats {
    /// Chunks in the batch.
    pub chunks: usize,
    /// Of these, decode rows.
    pub decode_tokens: usize,
    /// Tokens of prefill chunks.
    pub prefill_tokens: usize,
    /// Different adapters in the batch.
    pub adapters: usize,
    /// Positions in the pages that the batch looked back on, summed over its chunks.
    pub context_tokens: usize,
    /// Sequences put aside for others.
    pub preempted: usize,
    /// Sequences that came back.
    pub resumed: usize,
    /// Nanoseconds in the executor.
    pub executor_ns: u64,
    /// Nanoseconds of the whole step.
    pub step_ns: u64,
}

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// Which.
    pub sequence: SequenceId,
    /// Tokens computed for it: one of decode, or those of its prefill chunk.
    pub tokens: usize,
}

/// What a step gave.
#[derive(Debug, Default)]
pub struct Step {
    /// In order; those of [`Engine::cancel`] since the last step come first.
    pub events: Vec<Event>,
    /// Who was in the batch. A prompt of several choices is the first one's.
    pub advances: Vec<Advance>,
    /// Measures.
    pub stats: StepStats,
}
