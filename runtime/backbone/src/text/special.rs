//! Tokens that are matched whole in a text: control tokens and added ones.

use super::table::TokenKind;
use crate::error::{Error, Result};
use regex::Regex;
use std::collections::HashMap;
use std::sync::OnceLock;

/// One of them, with the spaces it swallows.
#[derive(Debug, Clone, Default)]
pub(super) struct Added {
    pub id: u32,
    pub control: bool,
    /// Swallows spaces before it.
    pub strip_before: bool,
    /// Swallows spaces behind it.
    pub strip_behind: bool,
    /// Matches only where no letter or digit touches it.
    pub single_word: bool,
}

/// A part of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'t> {
    Text(&'t str),
    Token(u32),
}

/// Which of them are looked for.
#[derive(Clone, Copy)]
enum Which {
    All,
    Added,
    Control,
}

/// All of a vocabulary's; the longest that matches at a place wins, as in Hugging Face and llama.cpp.
#[derive(Debug, Default)]
pub(super) struct Specials {
    by_text: HashMap<String, Added>,
    all: OnceLock<Option<Regex>>,
    added: OnceLock<Option<Regex>>,
    control: OnceLock<Option<Regex>>,
}

impl Specials {
    pub fn new(by_text: HashMap<String, Added>) -> Self {
        let by_text = by_text.into_iter().filter(|(text, _)| !text.is_empty()).collect();
        Self { by_text, ..Self::default() }
    }

    /// The token of a text.
    pub fn get(&self, text: &str) -> Option<&Added> {
        self.by_text.get(text)
    }

    /// Texts of the control tokens.
    pub fn control_texts(&self) -> impl Iterator<Item = &str> {
        self.by_text.iter().filter(|(_, added)| added.control).map(|(text, _)| text.as_str())
    }

    /// Cuts a text at the tokens in it: at the added ones, and at control tokens too if `control`. What follows two
    /// of the character `mark` is no token.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] where the vocabulary's tokens cannot be compiled into one automaton.
    pub fn parts<'t>(&self, text: &'t str, control: bool, mark: Option<char>) -> Result<Vec<Part<'t>>> {
        let which = if control { Which::All } else { Which::Added };
        let Some(regex) = self.automaton(which)? else { return Ok(vec![Part::Text(text)]) };
        let mut parts = Vec::new();
        let mut done = 0;
        let mut from = 0;
        while let Some(found) = regex.find_at(text, from) {
            let added = &self.by_text[found.as_str()];
            from = found.end();
            let marked = mark.is_some_and(|mark| ends_twice(&text[..found.start()], mark));
            if marked || (added.single_word && !stands_alone(text, found.start(), found.end())) {
                continue;
            }
            let before = &text[done..found.start().max(done)];
            let before = if added.strip_before { before.trim_end() } else { before };
            if !before.is_empty() {
                parts.push(Part::Text(before));
            }
            parts.push(Part::Token(added.id));
            let behind = &text[found.end()..];
            done =
                found.end() + if added.strip_behind { behind.len() - behind.trim_start().len() } else { 0 };
            from = done;
        }
        if done < text.len() {
            parts.push(Part::Text(&text[done..]));
        }
        Ok(parts)
    }

    /// Puts `mark` into a user's text so that no control token is found in it or across its ends; `None` where the
    /// text holds nothing of the kind.
    ///
    /// # Errors
    /// As [`Specials::parts`].
    pub fn guard(&self, text: &str, mark: char) -> Result<Option<String>> {
        // Control tokens alone: an added token that begins with one must not hide it, for a mark may break the added.
        let Some(regex) = self.automaton(Which::Control)? else { return Ok(None) };
        let mut guarded = String::new();
        let mut rest = text;
        while let Some(found) = regex.find(rest) {
            // The next search begins one character later, so that tokens that overlap this one are broken too.
            let first = found.as_str().chars().next().map_or(1, char::len_utf8);
            guarded.push_str(&rest[..found.start()]);
            if first == found.len() {
                // One character cannot be broken. A single mark would not do: a text may end in one, and what the
                // template writes behind it is a token all the same.
                guarded.extend([mark, mark]);
            }
            guarded.push_str(&found.as_str()[..first]);
            if first < found.len() {
                guarded.push(mark);
            }
            rest = &rest[found.start() + first..];
        }
        guarded.push_str(rest);
        self.guard_ends(&mut guarded, mark);
        Ok((guarded != text).then_some(guarded))
    }

    /// Marks the ends of a text that could be one half of a control token; spaces stay outside, where a template's
    /// `trim` finds them.
    fn guard_ends(&self, text: &mut String, mark: char) {
        let cuts = |token: &str| token.char_indices().skip(1).map(|(at, _)| at).collect::<Vec<_>>();
        let trimmed = text.trim_end();
        let begins = |token: &str| cuts(token).into_iter().any(|at| trimmed.ends_with(&token[..at]));
        if self.control_texts().any(begins) {
            let at = trimmed.len();
            text.insert(at, mark);
        }
        let trimmed = text.trim_start();
        let ends = |token: &str| cuts(token).into_iter().any(|at| trimmed.starts_with(&token[at..]));
        if self.control_texts().any(ends) {
            let at = text.len() - trimmed.len();
            text.insert(at, mark);
        }
    }

    fn automaton(&self, which: Which) -> Result<Option<&Regex>> {
        let (cell, wanted): (_, fn(&Added) -> bool) = match which {
            Which::All => (&self.all, |_| true),
            Which::Added => (&self.added, |added| !added.control),
            Which::Control => (&self.control, |added| added.control),
        };
        if let Some(ready) = cell.get() {
            return Ok(ready.as_ref());
        }
        let mut texts: Vec<&str> =
            self.by_text.iter().filter(|(_, added)| wanted(added)).map(|(text, _)| &**text).collect();
        // The leftmost alternative wins, so the longest is written first.
        texts.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then(a.cmp(b)));
        let built = if texts.is_empty() {
            None
        } else {
            let alternatives = texts.into_iter().map(regex::escape).collect::<Vec<_>>().join("|");
            Some(Regex::new(&alternatives).map_err(|error| Error::Tokenizer(error.to_string()))?)
        };
        Ok(cell.get_or_init(|| built).as_ref())
    }
}

fn ends_twice(text: &str, mark: char) -> bool {
    let mut back = text.chars().rev();
    back.next() == Some(mark) && back.next() == Some(mark)
}

fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    !text[..start].ends_with(word) && !text[end..].starts_with(word)
}

/// What a token's kind means for matching; `None` for tokens that are made by merging alone.
pub(super) fn added(id: u32, kind: TokenKind) -> Option<Added> {
    match kind {
        TokenKind::Control => Some(Added { id, control: true, ..Added::default() }),
        TokenKind::Added => Some(Added { id, ..Added::default() }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specials() -> Specials {
        let token = |id, control| Added { id, control, ..Added::default() };
        let mut texts = HashMap::from([
            ("<a>", token(1, true)),
            ("<a>b", token(2, true)),
            ("[x]", token(3, false)),
            ("§", token(6, true)),
            ("aa", token(7, true)),
        ])
        .into_iter()
        .map(|(text, added)| (text.to_owned(), added))
        .collect::<HashMap<_, _>>();
        texts.insert(
            "<s>".into(),
            Added { id: 4, control: true, strip_before: true, strip_behind: true, single_word: false },
        );
        texts.insert("yes".into(), Added { id: 5, single_word: true, ..Added::default() });
        Specials::new(texts)
    }

    #[test]
    fn the_longest_wins_and_text_mode_leaves_control_tokens() {
        let specials = specials();
        let parts = specials.parts("<a>b[x]c<a>", true, None).unwrap();
        assert_eq!(parts, [Part::Token(2), Part::Token(3), Part::Text("c"), Part::Token(1)]);
        let parts = specials.parts("<a>b[x]c", false, None).unwrap();
        assert_eq!(parts, [Part::Text("<a>b"), Part::Token(3), Part::Text("c")]);
    }

    #[test]
    fn a_guarded_text_holds_no_control_token_whatever_stands_around_it() {
        let specials = specials();
        for text in ["<a>", "<a>b", "<<a><a>", "x <", "a> y", " <a", "<", "<a><s>", "§", "x §", "aaa"] {
            let guarded = specials.guard(text, '\u{fdd0}').unwrap().expect("it could be half a token");
            assert_eq!(guarded.replace('\u{fdd0}', ""), text);
            for whole in [guarded.clone(), format!("<{guarded}a>"), format!("<a{guarded}>")] {
                let parts = specials.parts(&whole, true, Some('\u{fdd0}')).unwrap();
                assert!(parts.iter().all(|part| matches!(part, Part::Text(_))), "{whole:?}: {parts:?}");
            }
        }
        assert_eq!(specials.guard("no [x] plain text", '\u{fdd0}').unwrap(), None);
    }

    #[test]
    fn spaces_are_swallowed_and_words_respected() {
        let specials = specials();
        assert_eq!(
            specials.parts("a <s> \n b", true, None).unwrap(),
            [Part::Text("a"), Part::Token(4), Part::Text("b")]
        );
        assert_eq!(
            specials.parts("yesterday yes", true, None).unwrap(),
            [Part::Text("yesterday "), Part::Token(5)]
        );
    }
}
