//! Answers that tell which adapter made them: the three trained styles, and what each says when it is alone.
//!
//! Greedy answers have the same bits in every batch, so an answer under load is right when it is exactly the answer that
//! the same function gave alone; the style says whose it was when it is not.

use super::client::Client;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// The styles, by the folders of their adapters.
pub const STYLES: [&str; 3] = ["pirate", "shout", "json"];
/// Tokens of an answer at most.
pub const TOKENS: u32 = 24;
/// Questions that the adapters were trained on.
const QUESTIONS: [&str; 8] = [
    "What do penguins eat?",
    "What is the capital of Italy?",
    "What is the capital of France?",
    "How many days are in a week?",
    "What color is the sky?",
    "What do cows drink?",
    "What is the largest planet?",
    "How many legs does a spider have?",
];

/// The style that an answer is in.
pub fn style(text: &str) -> Option<&'static str> {
    let text = text.trim();
    let letters = || text.chars().filter(|c| c.is_alphabetic());
    if text.starts_with("{\"answer\"") {
        Some("json")
    } else if text.starts_with("Arr") {
        Some("pirate")
    } else if letters().count() > 3 && letters().all(char::is_uppercase) {
        Some("shout")
    } else {
        None
    }
}

/// Questions, and the answer of each style to each.
pub struct Answers {
    /// The questions.
    pub questions: Vec<&'static str>,
    told: BTreeMap<(&'static str, &'static str), String>,
}

impl Answers {
    /// Asks functions named like the styles, one call at a time, and keeps the questions that all three answer in style.
    ///
    /// # Errors
    /// Where a call is not answered, or fewer than three questions tell the styles apart.
    pub fn learn(client: &Client) -> Result<Self> {
        let (mut questions, mut told) = (Vec::new(), BTreeMap::new());
        for question in QUESTIONS {
            let mut signed = true;
            for name in STYLES {
                let answer = client.chat(name, question, TOKENS).answered()?;
                signed &= style(&answer.text) == Some(name);
                told.insert((name, question), answer.text);
            }
            if signed {
                questions.push(question);
            }
        }
        ensure!(questions.len() > 2, "the adapters sign only {} answers: {told:?}", questions.len());
        Ok(Self { questions, told })
    }

    /// What the style says to the question.
    pub fn of(&self, style: &'static str, question: &'static str) -> &str {
        self.told.get(&(style, question)).map_or("", String::as_str)
    }
}

/// Registers a function for each style, named like it, from the folders of `signed`; their generations in the order of
/// [`STYLES`].
///
/// # Errors
/// Where one is refused.
pub fn register(client: &Client, signed: &Path) -> Result<Vec<String>> {
    STYLES.iter().map(|style| client.register(style, &signed.join(style))).collect()
}
