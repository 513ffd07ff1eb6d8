//! Settings of an engine and what makes them wrong.

use crate::error::{Error, Result};
use crate::kv::BookOptions;

/// Settings of an engine. The bounds are arbitrary where no reason is given.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Tokens of a step: decode rows and prefill chunks together. At least `max_sequences`, so that every running
    /// sequence advances in every step. It bounds how long a step takes (0.1 s on two cores for 135 M parameters), and so how
    /// long everyone else waits for one function's prompts; a step's constant part is 4 % of that.
    pub max_batched_tokens: usize,
    /// Sequences that run at once.
    pub max_sequences: usize,
    /// Tokens of prefill that a function gets before it is the next one's turn, so that a step has room for several functions'.
    pub prefill_quantum: usize,
    /// Tokens of a step in which only those that yield run (`max_batched_tokens` at most), and seats they may have:
    /// whoever comes waits for no longer step.
    pub yielding_tokens: usize,
    /// Of so many steps beside others, those that yield have one token together, so that they end some time.
    pub yielding_steps: usize,
    /// Requests that may wait; more are refused.
    pub max_waiting: usize,
    /// Requests of one tenant that may wait.
    pub max_waiting_per_tenant: usize,
    /// Host memory for the pages of sequences put aside, bytes. Beyond it their pages are dropped and computed again.
    pub swap_bytes: u64,
    /// Settings of the page book.
    pub book: BookOptions,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_batched_tokens: 128,
            max_sequences: 64,
            prefill_quantum: 32,
            yielding_tokens: 8,
            yielding_steps: 16,
            max_waiting: 1024,
            max_waiting_per_tenant: 256,
            swap_bytes: 256 << 20,
            book: BookOptions::default(),
        }
    }
}

impl EngineOptions {
    /// Checks that the settings agree with each other.
    ///
    /// # Errors
    /// [`Error::BadRequest`] naming the setting.
    pub fn validate(&self) -> Result<()> {
        let wrong = |field, problem: &str| Err(Error::BadRequest { field, problem: problem.to_owned() });
        if self.max_sequences == 0 {
            return wrong("max_sequences", "must be at least 1");
        }
        if self.max_batched_tokens < self.max_sequences {
            return wrong("max_batched_tokens", "must be at least max_sequences");
        }
        if self.prefill_quantum == 0 {
            return wrong("prefill_quantum", "must be at least 1");
        }
        if self.yielding_tokens == 0 {
            return wrong("yielding_tokens", "must be at least 1");
        }
        if self.yielding_steps == 0 {
            return wrong("yielding_steps", "must be at least 1");
        }
        if !(0.0..=1.0).contains(&self.book.tenant_share) {
            return wrong("tenant_share", "must be from 0 to 1");
        }
        Ok(())
    }
}
