//! A guest's token hook as the sampler's: ids and text in, bias and masks out.

use coldframe_backbone::error::{Error, Result};
use coldframe_backbone::sample::{LogitHook, Verdict as Sampling};
use coldframe_backbone::text::{Stream, StreamOptions, Tokenizer};
use coldframe_sandbox::services::{Failure, TokenHook, Verdict};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Largest bias: decides any choice and overflows no sum.
const BIAS_MAX: f32 = 1e9;

/// The bridge of one sequence.
pub struct HookBridge {
    hook: Box<dyn TokenHook>,
    /// Text of the tokens so far, as a reader without stop strings sees it.
    text: Stream,
}

impl HookBridge {
    /// A bridge at the beginning of an answer.
    ///
    /// # Errors
    /// None with the options it uses; kept fallible as [`Stream::new`] is.
    pub fn new(hook: Box<dyn TokenHook>, tokenizer: Arc<Tokenizer>) -> Result<Self> {
        Ok(Self { hook, text: Stream::new(tokenizer, StreamOptions::default())? })
    }
}

impl LogitHook for HookBridge {
    fn before_token(&mut self, output: &[u32], logits: &mut [f32]) -> Result<Sampling> {
        let previous = output.last().copied();
        let text = previous.map(|token| self.text.push(token).text).unwrap_or_default();
        // The engine's thread is everyone's: a fault of the bridge below must stay this sequence's.
        let verdict = catch_unwind(AssertUnwindSafe(|| self.hook.before_token(previous, &text)));
        let failed = |failure: Failure| Error::Hook { code: failure.code, message: failure.message };
        let verdict = verdict.unwrap_or_else(|_| Err(Failure::new("internal", "the token hook panicked")));
        apply(verdict.map_err(failed)?, logits)
    }
}

fn apply(verdict: Verdict, logits: &mut [f32]) -> Result<Sampling> {
    match verdict {
        Verdict::GoOn => {}
        Verdict::End => return Ok(Sampling::End),
        Verdict::Bias(biases) => {
            for (token, bias) in biases {
                let Some(logit) = logits.get_mut(token as usize) else { continue };
                if bias.is_nan() {
                    let message = format!("the bias of token {token} is no number");
                    return Err(Error::Hook { code: "invalid".to_owned(), message });
                }
                *logit += bias.clamp(-BIAS_MAX, BIAS_MAX);
            }
        }
        Verdict::Only(tokens) => {
            let allowed: BTreeSet<u32> = tokens.into_iter().collect();
            if !allowed.iter().any(|&token| (token as usize) < logits.len()) {
                let message = "the hook allows no token of the vocabulary".to_owned();
                return Err(Error::Hook { code: "invalid".to_owned(), message });
            }
            for (token, logit) in (0..).zip(logits.iter_mut()) {
                if !allowed.contains(&token) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        Verdict::Forbid(tokens) => {
            for token in tokens {
                if let Some(logit) = logits.get_mut(token as usize) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
    }
    Ok(Sampling::Continue)
}
