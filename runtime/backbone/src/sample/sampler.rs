//! The sampler of one sequence: what vLLM does to a row of logits, in vLLM's order.

use super::constraint::Constraint;
use super::hook::{LogitHook, Verdict};
use super::params::SamplingParams;
use super::pick;
use crate::error::{Error, Result};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;

/// One chosen token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: u32,
    /// Its log-probability where the request asks for it: of the model's own distribution, before bias, penalties,
    /// temperature and masks (vLLM's `raw_logprobs`).
    pub logprob: Option<f32>,
    /// The likeliest tokens and their log-probabilities, likeliest first.
    pub top: Vec<(u32, f32)>,
    /// Whether the sequence ends: with this token where a constraint is complete, or before it where a hook said so.
    pub end: Option<End>,
}

/// Why a sampler ends a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The constraint allows nothing more: this token is the last.
    Complete,
    /// A hook ended it: this token is none.
    Hook,
}

/// How often a token occurred.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    in_prompt: bool,
    in_output: u32,
}

/// Chooses the tokens of one sequence.
pub struct Sampler {
    params: SamplingParams,
    random: ChaCha8Rng,
    /// Ordered by token, so that nothing depends on hashing.
    seen: BTreeMap<u32, Seen>,
    output: Vec<u32>,
    constraint: Option<Constraint>,
    hook: Option<Box<dyn LogitHook>>,
    scratch: pick::Scratch,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler")
            .field("params", &self.params)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

impl Sampler {
    /// A sampler at the beginning of its answer; `seed` is used where the request names none. Of several answers to
    /// one request each gets its own: the request's seed plus the answer's index.
    pub fn new(params: SamplingParams, prompt: &[u32], seed: u64) -> Self {
        let mut seen: BTreeMap<u32, Seen> = BTreeMap::new();
        if params.repetition_penalty != 1.0 {
            seen.extend(prompt.iter().map(|&token| (token, Seen { in_prompt: true, in_output: 0 })));
        }
        // A negative seed is as good as any: its bits are taken.
        let seed = params.seed.map_or(seed, |seed| seed as u64);
        Self {
            random: ChaCha8Rng::seed_from_u64(seed),
            params,
            seen,
            output: Vec::new(),
            constraint: None,
            hook: None,
            scratch: pick::Scratch::default(),
        }
    }

    /// Binds the answer to a grammar.
    #[must_use]
    pub fn with_constraint(mut self, constraint: Constraint) -> Self {
        self.constraint = Some(constraint);
        self
    }

    /// Lets a hook see and change the logits.
    #[must_use]
    pub fn with_hook(mut self, hook: Box<dyn LogitHook>) -> Self {
        self.hook = Some(hook);
        self
    }

    /// The request's parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Tokens chosen so far.
    pub fn output(&self) -> &[u32] {
        &self.output
    }

    /// Chooses the next token from the model's logits, which it changes.
    ///
    /// # Errors
    /// [`Error::NonFinite`] for a NaN or an infinite logit, or where nothing is allowed; the hook's own errors. An
    /// error is this sequence's alone.
    pub fn sample(&mut self, logits: &mut [f32]) -> Result<Sampled> {
        // Negative infinity forbids a token, so it may come from the model's side too.
        if logits.iter().any(|&logit| logit.is_nan() || logit == f32::INFINITY) {
            return Err(Error::NonFinite(format!("the logits of token {}", self.output.len())));
        }
        let raw = self.params.logprobs.then(|| Raw::of(logits, self.params.top_logprobs as usize));
        let before = raw.as_ref().map(|_| logits.to_vec());
        if let Some(hook) = &mut self.hook
            && hook.before_token(&self.output, logits)? == Verdict::End
        {
            return Ok(Sampled { end: Some(End::Hook), ..Sampled::default() });
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.mask(logits)?;
        }
        self.adjust(logits);
        let token = self.choose(logits)?;
        let end = self.commit(token)?;
        let logprob = raw.as_ref().zip(before).map(|(raw, before)| before[token as usize] - raw.log_total);
        Ok(Sampled { token, logprob, top: raw.map(|raw| raw.top).unwrap_or_default(), end })
    }

    /// Bias and penalties.
    fn adjust(&self, logits: &mut [f32]) {
        for (&token, bias) in &self.params.logit_bias {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit += bias;
            }
        }
        for (&token, seen) in &self.seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = self.penalised(*logit, *seen);
            }
        }
    }

    fn penalised(&self, logit: f32, seen: Seen) -> f32 {
        let SamplingParams { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.params;
        let factor = if logit > 0.0 { repetition_penalty.recip() } else { repetition_penalty };
        let repeated = if seen.in_prompt || seen.in_output > 0 { logit * factor } else { logit };
        let present = if seen.in_output > 0 { presence_penalty } else { 0.0 };
        repeated - frequency_penalty * seen.in_output as f32 - present
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        if !logits.iter().any(|&logit| logit > f32::NEG_INFINITY) {
            return Err(Error::NonFinite(format!(
                "the logits of token {}: masks, bias and hooks leave none",
                self.output.len()
            )));
        }
        if self.params.is_greedy() {
            return Ok(pick::argmax(logits));
        }
        // One number a token, 53 bits of it: a sequence's stream depends on how many tokens it has, on nothing else.
        let chance = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Ok(pick::draw(logits, &self.params, chance, &mut self.scratch))
    }

    fn commit(&mut self, token: u32) -> Result<Option<End>> {
        self.output.push(token);
        let counts = self.params.repetition_penalty != 1.0
            || self.params.frequency_penalty != 0.0
            || self.params.presence_penalty != 0.0;
        if counts {
            self.seen.entry(token).or_default().in_output += 1;
        }
        let Some(constraint) = &mut self.constraint else { return Ok(None) };
        constraint.commit(token)?;
        Ok(constraint.is_done().then_some(End::Complete))
    }
}

/// The model's own distribution, as far as it is reported.
struct Raw {
    log_total: f32,
    top: Vec<(u32, f32)>,
}

impl Raw {
    fn of(logits: &[f32], count: usize) -> Self {
        let log_total = pick::log_sum_exp(logits);
        let mut top = if count > 0 { pick::largest(logits, count) } else { Vec::new() };
        top.iter_mut().for_each(|(_, logit)| *logit -= log_total);
        Self { log_total, top }
    }
}
