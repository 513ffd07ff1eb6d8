//! The tokenizer: one face for a GGUF's vocabulary and for a `tokenizer.json`.
//!
//! Control tokens (`<|im_start|>`) are made from text only where the caller says that the text is the template's own:
//! [`Special::AsText`] is for users. Nothing is added to a text unasked; [`Tokenizer::encode_prompt`] puts the
//! beginning-of-sequence token where the model wants it.

use super::bpe::Bpe;
use super::folder::{self, Library};
use super::gguf;
use super::special::{Part, Specials};
use super::split::Splitter;
use super::table::{Table, TokenKind};
use crate::checkpoint::TextSource;
use crate::error::{Error, Result};

/// Most bytes of one text. Arbitrary; a piece without a place to cut needs about 60 times its size while it is merged.
pub const ENCODE_BYTES_MAX: usize = 4 << 20;

/// What control tokens in a text are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// Plain characters: for text that a user wrote.
    AsText,
    /// The tokens they name: for text that a template wrote.
    Parse,
}

/// How text becomes tokens.
#[derive(Debug)]
pub(super) enum Model {
    /// Byte-level merges over pre-tokenised pieces.
    Merges { bpe: Bpe, splitter: Splitter },
    /// SentencePiece scores; `prefix` puts a space before each text.
    Scores { bpe: Bpe, prefix: bool },
    /// A `tokenizer.json`.
    Library(Box<Library>),
}

/// A model's tokenizer.
#[derive(Debug)]
pub struct Tokenizer {
    pub(super) model: Model,
    pub(super) table: Table,
    pub(super) specials: Specials,
    pub(super) bos: Option<u32>,
    pub(super) add_bos: bool,
    pub(super) eos: Vec<u32>,
    /// Whether the first space of a decoded text is the tokenizer's own.
    pub(super) strip_space: bool,
    pub(super) template: Option<String>,
}

impl Tokenizer {
    /// Reads a model's tokenizer.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] or [`Error::Unsupported`] where the vocabulary is broken or of an unknown kind; as the
    /// files' readers.
    pub fn open(source: TextSource<'_>) -> Result<Self> {
        match source {
            TextSource::Gguf(file) => gguf::open(file),
            TextSource::Folder(folder) => folder::open(folder),
        }
    }

    /// Tokens of a text, nothing added. See [`Tokenizer::encode_within`].
    ///
    /// # Errors
    /// [`Error::TooLarge`] past [`ENCODE_BYTES_MAX`]; [`Error::Tokenizer`] where the tokenizer itself fails.
    pub fn encode(&self, text: &str, special: Special) -> Result<Vec<u32>> {
        self.encode_within(text, special, usize::MAX)
    }

    /// Tokens of a text, given up as soon as there are more than `tokens_max`: a text that has more bytes than so many
    /// of the longest token is refused before it is read.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`], and [`Error::TooLarge`] past `tokens_max`.
    pub fn encode_within(&self, text: &str, special: Special, tokens_max: usize) -> Result<Vec<u32>> {
        self.encode_marked(text, special, None, tokens_max)
    }

    /// Tokens of a completion's prompt: the beginning-of-sequence token where the model wants one, then the text with
    /// control tokens as plain characters.
    ///
    /// # Errors
    /// As [`Tokenizer::encode_within`].
    pub fn encode_prompt(&self, text: &str, tokens_max: usize) -> Result<Vec<u32>> {
        let mut tokens = self.encode_within(text, Special::AsText, tokens_max)?;
        if let Some(bos) = self.bos.filter(|_| self.add_bos) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// Tokens of a text in which `mark` keeps what follows it from being a control token; the marks are left out.
    pub(super) fn encode_marked(
        &self,
        text: &str,
        special: Special,
        mark: Option<char>,
        tokens_max: usize,
    ) -> Result<Vec<u32>> {
        let limit = ENCODE_BYTES_MAX.min(tokens_max.saturating_mul(self.table.longest()));
        if text.len() > limit {
            let what = "text in bytes".to_owned();
            return Err(Error::TooLarge { what, size: text.len() as u64, limit: limit as u64 });
        }
        let mut out = Vec::with_capacity(text.len() / 4 + 1);
        for (index, part) in self.specials.parts(text, special == Special::Parse, mark)?.iter().enumerate() {
            match (part, mark) {
                (Part::Token(id), _) => out.push(*id),
                (Part::Text(text), Some(mark)) if text.contains(mark) => {
                    self.model.encode(&text.replace(mark, ""), index == 0, tokens_max, &mut out)?;
                }
                (Part::Text(text), _) => self.model.encode(text, index == 0, tokens_max, &mut out)?,
            }
            check_count(out.len(), tokens_max)?;
        }
        Ok(out)
    }

    /// The text of tokens. Bytes that are no UTF-8 become U+FFFD; with `skip_special` control tokens are left out.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        for &token in tokens.iter().filter(|&&token| !(skip_special && self.is_special(token))) {
            bytes.extend_from_slice(self.token_bytes(token));
        }
        let bytes = if self.strip_space { bytes.strip_prefix(b" ").unwrap_or(&bytes) } else { &bytes };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The bytes that a token stands for, which need not be whole characters; empty past the vocabulary.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.table.bytes(token)
    }

    /// Tokens in the vocabulary. The model's embedding may have more rows, which stand for no text.
    pub fn vocab_size(&self) -> usize {
        self.table.len()
    }

    /// Whether a token steers the model and is no text: control tokens and holes in the vocabulary.
    pub fn is_special(&self, token: u32) -> bool {
        matches!(self.table.kind(token), TokenKind::Control | TokenKind::Unused)
    }

    /// The token of a special text, such as `<|im_end|>`.
    pub fn special_token(&self, text: &str) -> Option<u32> {
        self.specials.get(text).map(|added| added.id)
    }

    /// The beginning-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Whether a prompt without a template begins with [`Tokenizer::bos`].
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Tokens that end a generation, the model's main one first.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Text of the beginning-of-sequence token, empty without one.
    pub fn bos_text(&self) -> String {
        self.text_of(self.bos)
    }

    /// Text of the main end-of-sequence token, empty without one.
    pub fn eos_text(&self) -> String {
        self.text_of(self.eos.first().copied())
    }

    fn text_of(&self, token: Option<u32>) -> String {
        token.map(|token| String::from_utf8_lossy(self.token_bytes(token)).into_owned()).unwrap_or_default()
    }

    /// The model's own chat template, as it stands in its files.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_deref()
    }
}

impl Model {
    /// Appends the tokens of a text without special tokens; `first` says that it begins the whole text.
    fn encode(&self, text: &str, first: bool, tokens_max: usize, out: &mut Vec<u32>) -> Result<()> {
        match self {
            Self::Merges { bpe, splitter } => {
                for piece in splitter.split(text) {
                    bpe.encode(piece.as_bytes(), out);
                    check_count(out.len(), tokens_max)?;
                }
            }
            Self::Scores { bpe, prefix } => {
                let prefix = if *prefix { " " } else { "" };
                // SentencePiece writes a space as a bar, so a bar in the text is a space too.
                let text = format!("{prefix}{}", text.replace('\u{2581}', " "));
                bpe.encode(text.as_bytes(), out);
            }
            Self::Library(library) => library.encode(text, first, tokens_max, out)?,
        }
        Ok(())
    }
}

/// Refuses more tokens than there may be.
pub(super) fn check_count(count: usize, tokens_max: usize) -> Result<()> {
    if count <= tokens_max {
        return Ok(());
    }
    Err(Error::TooLarge { what: "text in tokens".into(), size: count as u64, limit: tokens_max as u64 })
}
