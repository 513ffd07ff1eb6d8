//! Tokens to text as they come: whole characters only, and nothing that could still become a stop string.

use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};
use std::sync::Arc;

/// Most stop strings of one sequence: four times OpenAI's four.
pub const STOPS_MAX: usize = 16;
/// Longest stop string, bytes. Arbitrary.
pub const STOP_BYTES_MAX: usize = 1024;

/// How a sequence's text is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Strings at which the text ends.
    pub stop: Vec<String>,
    /// Whether the stop string itself is part of the text.
    pub include_stop: bool,
    /// Whether control tokens are left out.
    pub skip_special: bool,
    /// Whether a first space that is the tokenizer's own stays: where the text goes on from a prompt that is shown too.
    pub keep_first_space: bool,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { stop: Vec::new(), include_stop: false, skip_special: true, keep_first_space: false }
    }
}

/// What a token added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// Text that is certain now; often empty.
    pub text: String,
    /// Index of the stop string that ended the text.
    pub stopped: Option<usize>,
}

/// The text of one sequence under way.
///
/// Of several stop strings, the one that is complete first ends the text; of those, the longest. So the text does not
/// depend on how it was cut into tokens.
#[derive(Debug)]
pub struct Stream {
    tokenizer: Arc<Tokenizer>,
    options: StreamOptions,
    /// Bytes that are no whole character yet: at most three.
    bytes: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    /// Whether the next text is the first.
    first: bool,
    stopped: Option<usize>,
}

impl Stream {
    /// A stream at its beginning.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for an empty stop string, or more or longer ones than [`STOPS_MAX`], [`STOP_BYTES_MAX`].
    pub fn new(tokenizer: Arc<Tokenizer>, options: StreamOptions) -> Result<Self> {
        Self::check_stops(&options.stop)?;
        let first = tokenizer.strip_space && !options.keep_first_space;
        Ok(Self { tokenizer, options, bytes: Vec::new(), held: String::new(), first, stopped: None })
    }

    /// Holds stop strings against their limits.
    ///
    /// # Errors
    /// [`Error::BadRequest`] as [`Stream::new`].
    pub fn check_stops(stops: &[String]) -> Result<()> {
        let problem = match stops {
            _ if stops.len() > STOPS_MAX => format!("has {} strings; give at most {STOPS_MAX}", stops.len()),
            _ if stops.iter().any(String::is_empty) => {
                "has an empty string, which every text would match".into()
            }
            _ if stops.iter().any(|stop| stop.len() > STOP_BYTES_MAX) => {
                format!("has a string of more than {STOP_BYTES_MAX} bytes")
            }
            _ => return Ok(()),
        };
        Err(Error::BadRequest { field: "stop", problem })
    }

    /// Takes the next token. After a stop, nothing more comes.
    pub fn push(&mut self, token: u32) -> Piece {
        if self.stopped.is_some() {
            return Piece { text: String::new(), stopped: self.stopped };
        }
        if self.options.skip_special && self.tokenizer.is_special(token) {
            return Piece::default();
        }
        let mut bytes = self.tokenizer.token_bytes(token);
        if self.first && !bytes.is_empty() {
            self.first = false;
            bytes = bytes.strip_prefix(b" ").unwrap_or(bytes);
        }
        self.bytes.extend_from_slice(bytes);
        let from = self.held.len();
        take_characters(&mut self.bytes, &mut self.held);
        self.release(from)
    }

    /// The rest of the text, when no more tokens come.
    pub fn finish(&mut self) -> Piece {
        if self.stopped.is_some() {
            return Piece { text: String::new(), stopped: self.stopped };
        }
        let from = self.held.len();
        if !std::mem::take(&mut self.bytes).is_empty() {
            self.held.push('\u{fffd}');
        }
        let mut piece = self.release(from);
        piece.text.push_str(&std::mem::take(&mut self.held));
        piece
    }

    /// Text that is held back now, bytes.
    pub fn held_bytes(&self) -> usize {
        self.held.len() + self.bytes.len()
    }

    /// Lets go of what cannot be part of a stop string; what is new begins at `from`.
    fn release(&mut self, from: usize) -> Piece {
        if let Some((start, end, index)) = first_stop(&self.held, from, &self.options.stop) {
            self.stopped = Some(index);
            self.held.truncate(if self.options.include_stop { end } else { start });
            self.bytes.clear();
            return Piece { text: std::mem::take(&mut self.held), stopped: self.stopped };
        }
        let keep = held_back(&self.held, &self.options.stop);
        let text = self.held.drain(..self.held.len() - keep).collect();
        Piece { text, stopped: None }
    }
}

/// Moves whole characters to the text; what can never be one becomes U+FFFD, as in Rust's lossy conversion.
fn take_characters(bytes: &mut Vec<u8>, text: &mut String) {
    let mut done = 0;
    loop {
        match std::str::from_utf8(&bytes[done..]) {
            Ok(valid) => {
                text.push_str(valid);
                done = bytes.len();
                break;
            }
            Err(error) => {
                let valid = done + error.valid_up_to();
                text.push_str(std::str::from_utf8(&bytes[done..valid]).unwrap_or_default());
                done = valid;
                let Some(bad) = error.error_len() else { break };
                text.push('\u{fffd}');
                done += bad;
            }
        }
    }
    bytes.drain(..done);
}

/// The stop string that is complete first, at or after `from`: its start, end and index.
fn first_stop(text: &str, from: usize, stops: &[String]) -> Option<(usize, usize, usize)> {
    let found = |(index, stop): (usize, &String)| {
        // A match ends in the new text, so it begins at most its own length before it.
        let mut begin = (from + 1).saturating_sub(stop.len());
        while !text.is_char_boundary(begin) {
            begin -= 1;
        }
        let start = begin + text[begin..].find(stop.as_str())?;
        Some((start, start + stop.len(), index))
    };
    stops.iter().enumerate().filter_map(found).min_by_key(|&(start, end, index)| (end, start, index))
}

/// Bytes at the end of the text that begin a stop string.
fn held_back(text: &str, stops: &[String]) -> usize {
    let longest = stops.iter().map(String::len).max().unwrap_or(0);
    let from = text.len().saturating_sub(longest.saturating_sub(1));
    (from..text.len())
        .filter(|&start| text.is_char_boundary(start))
        .find(|&start| {
            stops.iter().any(|stop| stop.len() > text.len() - start && stop.starts_with(&text[start..]))
        })
        .map_or(0, |start| text.len() - start)
}
