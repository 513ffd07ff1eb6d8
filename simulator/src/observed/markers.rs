//! Whose answer was it? Adapters that sign what they say, and a count of answers that bear another's sign.
//!
//! A marker is a text that one function's answers contain and no other's do (the pirate says "arr"). An answer with
//! another's marker is wrong whatever else it holds; one without its own is only unsigned, since a short answer may not
//! get to its sign.

use std::collections::BTreeMap;

/// Markers by function name; a name that ends in `*` stands for all that begin so.
#[derive(Clone, Debug, Default)]
pub struct Markers {
    by_function: BTreeMap<String, Vec<String>>,
}

/// Whether a line's name means a function.
fn means(name: &str, function: &str) -> bool {
    name.strip_suffix('*').map_or(name == function, |beginning| function.starts_with(beginning))
}

/// What an answer's text says of its speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It bears its own function's marker and no other's.
    Signed,
    /// It bears none.
    Unsigned,
    /// It bears a marker that only others have.
    Wrong,
}

/// A marker file that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkersError {
    /// A line without a comma.
    #[error("line {0}: expected FUNCTION,MARKER, e.g. `pirate,arr`")]
    Line(usize),
    /// Two functions with one marker tell nothing apart.
    #[error(
        "`{first}` and `{second}` share the marker `{marker}`: give each its own, or leave it out of both"
    )]
    Shared {
        /// One function.
        first: String,
        /// Another.
        second: String,
        /// The marker.
        marker: String,
    },
}

impl Markers {
    /// Lines of `function,marker`; a function may have several, and `pirate-*` means every function whose name begins so.
    /// Case is ignored in answers. Empty lines and lines that start with `#` are skipped.
    pub fn parse(text: &str) -> Result<Self, MarkersError> {
        let mut markers = Self::default();
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for (n, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line.trim())) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (function, marker) = line.split_once(',').ok_or(MarkersError::Line(n))?;
            let (function, marker) = (function.trim().to_owned(), marker.trim().to_lowercase());
            if marker.is_empty() {
                return Err(MarkersError::Line(n));
            }
            if let Some(first) = owners.insert(marker.clone(), function.clone()).filter(|f| *f != function) {
                return Err(MarkersError::Shared { first, second: function, marker });
            }
            markers.by_function.entry(function).or_default().push(marker);
        }
        Ok(markers)
    }

    /// Functions that have a marker.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.by_function.keys().map(String::as_str)
    }

    /// Who an answer of `function` sounds like.
    pub fn judge(&self, function: &str, text: &str) -> Answer {
        let text = text.to_lowercase();
        let bears = |markers: &[String]| markers.iter().any(|marker| text.contains(marker.as_str()));
        let (own, others): (Vec<_>, Vec<_>) =
            self.by_function.iter().partition(|(name, _)| means(name, function));
        if others.iter().any(|(_, markers)| bears(markers)) {
            Answer::Wrong
        } else if own.iter().any(|(_, markers)| bears(markers)) {
            Answer::Signed
        } else {
            Answer::Unsigned
        }
    }
}

/// What became of every request that was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Sent.
    pub sent: u64,
    /// Answered to the end.
    pub answered: u64,
    /// Turned away: told so, nothing lost.
    pub refused: u64,
    /// Neither an end nor a refusal came.
    pub lost: u64,
    /// Answers that ended more than once, or went on after their end.
    pub duplicated: u64,
    /// Answers whose text bears another function's marker.
    pub wrong: u64,
    /// Answers that bear their own.
    pub signed: u64,
    /// Answers that bear none.
    pub unsigned: u64,
    /// Answers with another number of tokens than asked for (only with `ignore_eos`).
    pub off_length: u64,
}

impl Ledger {
    /// Adds one answer's judgement.
    pub fn judged(&mut self, answer: Answer) {
        match answer {
            Answer::Signed => self.signed += 1,
            Answer::Unsigned => self.unsigned += 1,
            Answer::Wrong => self.wrong += 1,
        }
    }

    /// Whether every request has exactly one answer of its own function, or a refusal.
    pub fn sound(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.wrong == 0
            && self.sent == self.answered + self.refused + self.lost
    }

    /// In words, for the terminal and the report.
    pub fn text(&self) -> String {
        format!(
            "{} sent: {} answered, {} refused, {} lost, {} duplicated; {} signed, {} unsigned, {} by a wrong adapter; \
             {} of another length",
            self.sent,
            self.answered,
            self.refused,
            self.lost,
            self.duplicated,
            self.signed,
            self.unsigned,
            self.wrong,
            self.off_length
        )
    }
}
