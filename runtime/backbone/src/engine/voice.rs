//! The seam between the engine and what is said: logits in, a token and its text out.
//!
//! The engine schedules; a voice samples, detokenises, watches for stop strings and keeps to a grammar. Each sequence has
//! its own, so that one's penalties, seed and grammar never touch another's.

use crate::error::Result;

/// Why a sequence ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A stop string or stop token of the request, a complete grammar, or a hook.
    Stop,
    /// An end token of the model.
    Eos,
    /// The most tokens it may have.
    Length,
    /// It was cancelled.
    Cancelled,
}

/// A token and what came with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spoken {
    /// Its id.
    pub token: u32,
    /// The natural logarithm of its probability, where it was asked for.
    pub logprob: Option<f32>,
    /// The most likely tokens with theirs, where they were asked for.
    pub top: Vec<(u32, f32)>,
    /// Text that became certain with it; may be empty.
    pub text: String,
    /// Set when the sequence ends with it.
    pub end: Option<Reason>,
}

/// What a voice says to a row of logits.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A token.
    Token(Spoken),
    /// Nothing more: the sequence ends before this token.
    End(Reason),
}

/// Chooses a sequence's tokens.
pub trait Voice: Send {
    /// Chooses the next token from a row of logits, which it may change.
    ///
    /// # Errors
    /// Any error ends this sequence, and only this one: [`crate::Error::NonFinite`] for logits that are no numbers.
    fn next(&mut self, logits: &mut [f32]) -> Result<Said>;

    /// The text held back so far, when the sequence ends for a reason that the voice did not give.
    fn finish(&mut self) -> String;
}
