//! Output bound to a grammar: JSON schema, any JSON object, a regular expression, a choice, a Lark grammar.
//!
//! llguidance says which tokens may come next. Its view of the vocabulary, a trie over every token's bytes, is built
//! once for a tokenizer when the first constrained request comes. Grammars are strangers' programs: their size, the
//! work of compiling them and the work of each token are bounded.

use crate::error::{Error, Result};
use crate::text::Tokenizer;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

/// Most bytes of a grammar's own text. Arbitrary; the largest public schemas have about twice as many.
pub const GRAMMAR_BYTES_MAX: usize = 256 << 10;
/// Most states of a grammar's lexer, one to two kilobytes each: llguidance's default allows 500 MB.
const LEXER_STATES_MAX: usize = 20_000;

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that a schema admits.
    JsonSchema(Value),
    /// A text that the expression matches whole, in the syntax of Rust's `regex` without anchors.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A grammar in llguidance's Lark dialect.
    Lark(String),
}

impl Grammar {
    /// The request's parameter that it comes from.
    fn field(&self) -> &'static str {
        match self {
            Self::JsonObject | Self::JsonSchema(_) => "response_format",
            Self::Regex(_) => "regex",
            Self::Choice(_) => "choice",
            Self::Lark(_) => "grammar",
        }
    }

    fn compile(&self) -> Result<TopLevelGrammar> {
        let bytes = match self {
            Self::JsonObject => 0,
            Self::JsonSchema(schema) => schema.to_string().len(),
            Self::Regex(text) | Self::Lark(text) => text.len(),
            Self::Choice(texts) => texts.iter().map(|text| text.len() + 1).sum(),
        };
        if bytes > GRAMMAR_BYTES_MAX {
            let problem = format!("has {bytes} bytes; at most {GRAMMAR_BYTES_MAX}");
            return Err(Error::BadRequest { field: self.field(), problem });
        }
        Ok(match self {
            Self::JsonObject => TopLevelGrammar::from_json_schema(serde_json::json!({ "type": "object" })),
            Self::JsonSchema(schema) => TopLevelGrammar::from_json_schema(schema.clone()),
            Self::Regex(expression) => TopLevelGrammar::from_regex(expression),
            Self::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
            Self::Choice(texts) => {
                if texts.is_empty() || texts.iter().any(String::is_empty) {
                    let problem = "needs at least one text, and none empty".into();
                    return Err(Error::BadRequest { field: self.field(), problem });
                }
                let texts: Vec<String> = texts.iter().map(|text| regex::escape(text)).collect();
                TopLevelGrammar::from_regex(&texts.join("|"))
            }
        })
    }
}

/// Compiles grammars for one tokenizer.
pub struct Grammars {
    tokenizer: Arc<Tokenizer>,
    factory: Mutex<Option<Arc<ParserFactory>>>,
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

impl Grammars {
    /// For a tokenizer; nothing is built yet.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, factory: Mutex::new(None) }
    }

    /// A constraint at its beginning, for one sequence.
    ///
    /// # Errors
    /// [`Error::BadRequest`] naming the parameter, for a grammar that is wrong, too large or asks for what llguidance
    /// does not do; [`Error::Tokenizer`] for a vocabulary without an end.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        let compiled = grammar.compile()?;
        let matcher = Matcher::new(self.factory()?.create_parser(compiled));
        if let Some(problem) = matcher.get_error() {
            return Err(Error::BadRequest { field: grammar.field(), problem: first_line(&problem) });
        }
        Ok(Constraint { matcher, field: grammar.field() })
    }

    fn factory(&self) -> Result<Arc<ParserFactory>> {
        // A panic while building leaves nothing half built behind: the place is still empty.
        let mut place = self.factory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(factory) = &*place {
            return Ok(Arc::clone(factory));
        }
        let failed = |error: &dyn std::fmt::Display| Error::Tokenizer(format!("token trie: {error}"));
        let mut factory =
            ParserFactory::new_simple(&environment(&self.tokenizer)?).map_err(|error| failed(&error))?;
        factory.quiet();
        *factory.limits_mut() = ParserLimits {
            max_lexer_states: LEXER_STATES_MAX,
            verbose_errors: false,
            ..ParserLimits::default()
        };
        Ok(Arc::clone(place.insert(Arc::new(factory))))
    }
}

/// The vocabulary as llguidance sees it.
fn environment(tokenizer: &Tokenizer) -> Result<TokEnv> {
    let &[end, ..] = tokenizer.eos() else {
        return Err(Error::Tokenizer(
            "names no end-of-sequence token, which a constrained answer needs".into(),
        ));
    };
    let size = tokenizer.vocab_size() as u32;
    let word = |token| {
        let bytes = tokenizer.token_bytes(token);
        match tokenizer.is_special(token) && !bytes.is_empty() {
            true => [&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat(),
            false => bytes.to_vec(),
        }
    };
    let words: Vec<Vec<u8>> = (0..size).map(word).collect();
    let trie = TokTrie::from(&TokRxInfo::new(size, end), &words).with_eos_tokens(tokenizer.eos());
    Ok(Arc::new(ApproximateTokEnv::new(trie)))
}

fn first_line(problem: &str) -> String {
    problem.lines().next().unwrap_or("cannot be compiled").to_owned()
}

/// A grammar under way in one sequence.
pub struct Constraint {
    matcher: Matcher,
    field: &'static str,
}

impl std::fmt::Debug for Constraint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Constraint").field("field", &self.field).finish_non_exhaustive()
    }
}

impl Constraint {
    /// Forbids every token that the grammar does not admit next: its logit becomes negative infinity.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where the grammar ran past its limits.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| failed(self.field, &error))?;
        for (group, &bits) in logits.chunks_mut(32).zip(mask.as_slice()) {
            if bits == u32::MAX {
                continue;
            }
            for (bit, logit) in group.iter_mut().enumerate() {
                if bits >> bit & 1 == 0 {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        // Rows of the head past the vocabulary stand for no text.
        let known = mask.len().min(logits.len());
        logits[known..].fill(f32::NEG_INFINITY);
        Ok(())
    }

    /// Takes the chosen token.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a token that the mask forbade, or where the grammar ran past its limits.
    pub fn commit(&mut self, token: u32) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        self.matcher.consume_token(token).map_err(|error| failed(self.field, &error))
    }

    /// Whether the grammar is complete and nothing may follow.
    pub fn is_done(&self) -> bool {
        self.matcher.is_stopped()
    }

    /// Whether the text so far is complete, though more may follow.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where the grammar ran past its limits.
    pub fn may_end(&mut self) -> Result<bool> {
        self.matcher.is_accepting().map_err(|error| failed(self.field, &error))
    }
}

fn failed(field: &'static str, error: &dyn std::fmt::Display) -> Error {
    Error::BadRequest { field, problem: first_line(&error.to_string()) }
}
