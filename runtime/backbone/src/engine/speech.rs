//! The voice of a request: samples, keeps to a grammar, detokenises, stops.

use super::voice::{Reason, Said, Spoken, Voice};
use crate::error::Result;
use crate::sample::{Constraint, End, LogitHook, Sampler, SamplingParams};
use crate::text::{Stream, StreamOptions, Tokenizer};
use std::sync::Arc;

/// How a [`Speech`] speaks.
pub struct SpeechOptions {
    /// Sampling; its `stop` strings end the text, and `ignore_eos` lets it run on.
    pub params: SamplingParams,
    /// Tokens that end the sequence beside the model's own.
    pub stop_tokens: Vec<u32>,
    /// Whether the stop string is part of the text.
    pub include_stop: bool,
    /// Whether control tokens are left out of the text.
    pub skip_special: bool,
    /// Whether a first space of the tokenizer's own stays in the text.
    pub keep_first_space: bool,
    /// A grammar that the text keeps to.
    pub constraint: Option<Constraint>,
    /// Sees and changes the logits before each token.
    pub hook: Option<Box<dyn LogitHook>>,
    /// Seed of the sequence where `params` has none. Choices of one request need different ones.
    pub seed: u64,
}

impl SpeechOptions {
    /// Sampling alone.
    pub fn new(params: SamplingParams, seed: u64) -> Self {
        Self {
            params,
            stop_tokens: Vec::new(),
            include_stop: false,
            skip_special: true,
            keep_first_space: false,
            constraint: None,
            hook: None,
            seed,
        }
    }
}

/// The usual voice: a sampler and a text stream over one tokenizer.
pub struct Speech {
    sampler: Sampler,
    stream: Stream,
    ends: Vec<u32>,
    stop_tokens: Vec<u32>,
}

impl Speech {
    /// A voice for a sequence with this prompt.
    ///
    /// # Errors
    /// [`crate::Error::BadRequest`] naming the parameter that is out of range.
    pub fn new(tokenizer: &Arc<Tokenizer>, prompt: &[u32], options: SpeechOptions) -> Result<Self> {
        let SpeechOptions { params, constraint, hook, .. } = options;
        let stream = StreamOptions {
            stop: params.stop.clone(),
            include_stop: options.include_stop,
            skip_special: options.skip_special,
            keep_first_space: options.keep_first_space,
        };
        let ends = if params.ignore_eos { Vec::new() } else { tokenizer.eos().to_vec() };
        let stream = Stream::new(tokenizer.clone(), stream)?;
        let mut sampler = Sampler::new(params, prompt, options.seed);
        if let Some(constraint) = constraint {
            sampler = sampler.with_constraint(constraint);
        }
        if let Some(hook) = hook {
            sampler = sampler.with_hook(hook);
        }
        Ok(Self { sampler, stream, ends, stop_tokens: options.stop_tokens })
    }

    fn end_token(&self, token: u32) -> Option<Reason> {
        let eos = self.ends.contains(&token).then_some(Reason::Eos);
        eos.or_else(|| self.stop_tokens.contains(&token).then_some(Reason::Stop))
    }
}

impl Voice for Speech {
    fn next(&mut self, logits: &mut [f32]) -> Result<Said> {
        let sampled = self.sampler.sample(logits)?;
        if sampled.end == Some(End::Hook) {
            return Ok(Said::End(Reason::Stop));
        }
        let (token, end) = (sampled.token, self.end_token(sampled.token));
        // A token that ends the sequence is not part of what it says.
        let piece = if end.is_some() { Default::default() } else { self.stream.push(token) };
        let complete = sampled.end.map(|_| Reason::Stop);
        let end = end.or(piece.stopped.map(|_| Reason::Stop)).or(complete);
        let (logprob, top) = (sampled.logprob, sampled.top);
        Ok(Said::Token(Spoken { token, logprob, top, text: piece.text, end }))
    }

    fn finish(&mut self) -> String {
        self.stream.finish().text
    }
}
