//! The seam for code that watches or steers a generation token by token.

use crate::error::Result;

/// What a hook wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// End the sequence before this token.
    End,
}

/// Called before each token is chosen.
pub trait LogitHook: Send {
    /// May change `logits` (one for each row of the vocabulary; negative infinity forbids a token). `output` are the
    /// tokens generated so far. A constraint's mask is applied afterwards, so a hook cannot break a schema.
    ///
    /// # Errors
    /// Any error ends this sequence alone.
    fn before_token(&mut self, output: &[u32], logits: &mut [f32]) -> Result<Verdict>;
}
