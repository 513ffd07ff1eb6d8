//! A request's sampling parameters, by the names of OpenAI and vLLM, and their bounds.

use crate::error::{Error, Result};
use crate::text::Stream;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most entries of `logit_bias`. Arbitrary; each costs one addition a token.
pub const LOGIT_BIAS_MAX: usize = 1024;
/// Most `top_logprobs`, as OpenAI's.
pub const TOP_LOGPROBS_MAX: u32 = 20;
/// Most `max_tokens`: past any context served here.
pub const MAX_TOKENS_MAX: u32 = 1 << 24;
/// A temperature below this is greedy, as in vLLM: dividing by less overflows.
const TEMPERATURE_MIN: f32 = 1e-5;

/// How the tokens of a sequence are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SamplingParams {
    /// 0 to 2; 0 takes the likeliest token.
    pub temperature: f32,
    /// More than 0, at most 1: the smallest set of tokens whose probabilities reach this sum.
    pub top_p: f32,
    /// This many likeliest tokens; 0 and -1 are all.
    pub top_k: i64,
    /// 0 to 1: tokens at least this share as likely as the likeliest.
    pub min_p: f32,
    /// More than 0, at most 10: divides the positive logits of tokens in prompt or output and multiplies negative ones.
    pub repetition_penalty: f32,
    /// -2 to 2, taken off a token's logit for each time it is in the output.
    pub frequency_penalty: f32,
    /// -2 to 2, taken off the logit of every token in the output.
    pub presence_penalty: f32,
    /// Added to the logits of tokens: -100 to 100.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Seed of the sequence's own random stream; without one the caller's is used.
    pub seed: Option<i64>,
    /// Whether the chosen token's log-probability is reported.
    pub logprobs: bool,
    /// How many of the likeliest tokens are reported beside it.
    pub top_logprobs: u32,
    /// Strings at which the text ends.
    pub stop: Vec<String>,
    /// Most tokens of the answer; without one, what the context holds.
    pub max_tokens: Option<u32>,
    /// Whether end-of-sequence tokens are taken for text's end.
    pub ignore_eos: bool,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: None,
            logprobs: false,
            top_logprobs: 0,
            stop: Vec::new(),
            max_tokens: None,
            ignore_eos: false,
        }
    }
}

impl SamplingParams {
    /// The likeliest token each time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether chance has no part in it.
    pub fn is_greedy(&self) -> bool {
        self.temperature < TEMPERATURE_MIN
    }

    /// Holds every parameter against its bounds; `vocab` are the rows of the model's head.
    ///
    /// # Errors
    /// [`Error::BadRequest`] naming the first field out of bounds.
    pub fn validate(&self, vocab: usize) -> Result<()> {
        within("temperature", self.temperature, 0.0, 2.0)?;
        within("top_p", self.top_p, f32::MIN_POSITIVE, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 10.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        check("top_k", self.top_k >= -1, || format!("is {}; give -1, 0 or a count", self.top_k))?;
        check("top_logprobs", self.top_logprobs <= TOP_LOGPROBS_MAX, || {
            format!("is {}; at most {TOP_LOGPROBS_MAX}", self.top_logprobs)
        })?;
        check("top_logprobs", self.top_logprobs == 0 || self.logprobs, || "needs logprobs".into())?;
        let tokens = self.max_tokens.unwrap_or(1);
        check("max_tokens", (1..=MAX_TOKENS_MAX).contains(&tokens), || {
            format!("is {tokens}; give 1 to {MAX_TOKENS_MAX}")
        })?;
        self.validate_bias(vocab)?;
        Stream::check_stops(&self.stop)
    }

    fn validate_bias(&self, vocab: usize) -> Result<()> {
        let count = self.logit_bias.len();
        check("logit_bias", count <= LOGIT_BIAS_MAX, || {
            format!("has {count} entries; at most {LOGIT_BIAS_MAX}")
        })?;
        for (&token, &bias) in &self.logit_bias {
            within("logit_bias", bias, -100.0, 100.0)?;
            check("logit_bias", (token as usize) < vocab, || {
                format!("names token {token}; the vocabulary has {vocab}")
            })?;
        }
        Ok(())
    }
}

fn within(field: &'static str, value: f32, low: f32, high: f32) -> Result<()> {
    // Written so that NaN fails.
    check(field, value >= low && value <= high, || format!("is {value}; give {low} to {high}"))
}

fn check(field: &'static str, good: bool, problem: impl FnOnce() -> String) -> Result<()> {
    if good { Ok(()) } else { Err(Error::BadRequest { field, problem: problem() }) }
}
