//! What the sandbox asks of whoever runs it: the model, the caller's reply, a store, a log.
//!
//! The sandbox knows no backbone and no server. One [`Services`] object serves one call: it is bound to the tenant, the
//! function and the request, so that a guest cannot name another's. Limits and charges are the sandbox's own business
//! and are applied before anything reaches these traits.

use std::future::Future;
use std::pin::Pin;

/// A future of a trait method.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why something did not work: a stable word and a text for people. Reaches the guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// Stable, one word: `closed`, `quota`, `invalid`, `unavailable`, …
    pub code: String,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// A turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// Its text.
    pub content: String,
}

/// What goes into a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Rendered by the chat template of the adapter or the model.
    Chat(Vec<Message>),
    /// Text as it stands.
    Raw(String),
}

/// What a text must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Any text.
    Free,
    /// Any JSON object.
    JsonObject,
    /// JSON that keeps to this schema (JSON text).
    JsonSchema(String),
}

/// Sampling parameters by OpenAI's and vLLM's names; `None` takes the function's or the model's default.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Params {
    /// Tokens of the answer at most.
    pub max_tokens: Option<u32>,
    /// 0 to 2.
    pub temperature: Option<f32>,
    /// More than 0, at most 1.
    pub top_p: Option<f32>,
    /// -1 or 0 is all.
    pub top_k: Option<i32>,
    /// 0 to 1.
    pub min_p: Option<f32>,
    /// More than 0.
    pub repetition_penalty: Option<f32>,
    /// -2 to 2.
    pub frequency_penalty: Option<f32>,
    /// -2 to 2.
    pub presence_penalty: Option<f32>,
    /// Of the sequence's own random stream.
    pub seed: Option<i64>,
    /// Strings that end the text.
    pub stop: Vec<String>,
    /// Token ids and what is added to their logits.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the likeliest tokens are reported with each.
    pub top_logprobs: Option<u32>,
}

/// Something to generate.
pub struct Task {
    /// What goes in.
    pub input: Input,
    /// How tokens are chosen, as far as the guest says.
    pub params: Params,
    /// What the text must look like.
    pub shape: Shape,
    /// One of the function's adapters by name; `None` the first, `base` none.
    pub adapter: Option<String>,
    /// The guest's say in each token.
    pub hook: Option<Box<dyn TokenHook>>,
    /// What is left of the call's budget of tokens: the generation has no more, whatever `max_tokens` says or leaves open.
    pub budget: u32,
}

/// A token of a generation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Text that became certain with it; may be empty.
    pub text: String,
    /// The natural logarithm of its probability, where it was asked for.
    pub logprob: Option<f32>,
    /// The likeliest tokens: id, text, log-probability.
    pub top: Vec<(u32, String, f32)>,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// End of text, a stop string, a complete schema, a hook.
    Stop,
    /// The most tokens it may have.
    Length,
    /// Cancelled.
    Cancelled,
}

/// What comes out of a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A token.
    Token(Token),
    /// The end; nothing follows.
    End {
        /// Why.
        reason: Reason,
        /// Text held back until now.
        text: String,
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens generated.
        completion_tokens: u32,
    },
}

/// A generation at work. Dropping it cancels it.
pub trait Generation: Send {
    /// The next thing, waiting for it; `None` after the end. Cancel-safe: a dropped future loses nothing.
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>>;
    /// Ends it now; [`Event::End`] still comes.
    fn cancel(&mut self);
}

/// What a hook wants done before the next token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Nothing.
    GoOn,
    /// Add to these tokens' logits.
    Bias(Vec<(u32, f32)>),
    /// Allow these tokens only.
    Only(Vec<u32>),
    /// Forbid these tokens.
    Forbid(Vec<u32>),
    /// End the text before the next token.
    End,
}

/// A guest's say in each token. It runs between a row of logits and the choice from it, on the engine's thread, within a
/// budget of its own; an error ends the generation with that failure.
pub trait TokenHook: Send {
    /// Called before each token with the one before it and its text.
    ///
    /// # Errors
    /// The guest trapped or ran over its budget.
    fn before_token(&mut self, previous: Option<u32>, text: &str) -> Result<Verdict, Failure>;
}

/// How important a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author.
    Debug,
    /// For the record.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
}

/// The platform behind one call of one function.
pub trait Services: Send + Sync + 'static {
    /// Starts a generation.
    fn generate(&self, task: Task) -> Later<'_, Result<Box<dyn Generation>, Failure>>;
    /// Text to token ids; control tokens are plain text.
    ///
    /// # Errors
    /// `too_long` past the context.
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, Failure>;
    /// Token ids to text.
    ///
    /// # Errors
    /// `invalid` for an id outside the vocabulary.
    fn detokenize(&self, tokens: &[u32]) -> Result<String, Failure>;
    /// Names of the function's adapters, in the manifest's order.
    fn adapters(&self) -> Vec<String>;
    /// A value of the function's store.
    fn state_get<'a>(&'a self, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>>;
    /// Sets a value of the function's store.
    fn state_set<'a>(&'a self, key: &'a str, value: Vec<u8>) -> Later<'a, Result<(), Failure>>;
    /// Removes a value of the function's store.
    fn state_delete<'a>(&'a self, key: &'a str) -> Later<'a, Result<(), Failure>>;
    /// Keys of the function's store that start with `prefix`, sorted.
    fn state_keys<'a>(&'a self, prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>>;
    /// A line of the function's log, already within its budget, control characters escaped.
    fn log(&self, level: Level, message: &str);
}

/// The caller's side of a call.
pub trait Reply: Send {
    /// `invoke`: status and headers, before anything is written.
    ///
    /// # Errors
    /// `closed` when the caller has gone.
    fn start(&mut self, status: u16, headers: Vec<(String, String)>) -> Result<(), Failure>;
    /// Bytes to the caller; ready when there is room for more, so a slow caller slows its own call only.
    fn write(&mut self, bytes: Vec<u8>) -> Later<'_, Result<(), Failure>>;
    /// Why the text ends, in OpenAI's words.
    fn finish(&mut self, reason: &str);
}
