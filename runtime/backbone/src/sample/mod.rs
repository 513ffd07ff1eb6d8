//! From logits to a token: penalties, filters, seeds, constraints, logprobs.
//!
//! One [`Sampler`] for each sequence, fed one row of logits a step. What it chooses depends on its own parameters, seed
//! and history alone: not on the batch, the threads or the order of a hash map. See `docs/sampling.md`.

mod constraint;
mod hook;
mod params;
mod pick;
mod sampler;

pub use constraint::{Constraint, GRAMMAR_BYTES_MAX, Grammar, Grammars};
pub use hook::{LogitHook, Verdict};
pub use params::{LOGIT_BIAS_MAX, MAX_TOKENS_MAX, SamplingParams, TOP_LOGPROBS_MAX};
pub use sampler::{End, Sampled, Sampler};
