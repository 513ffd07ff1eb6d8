//! Chats to tokens, with a wall between the template's control tokens and the users' text.
//!
//! A rendered chat is one text, tokenised as one text, as the model saw it in training. So that a message cannot forge a
//! control token, a mark (a noncharacter that no input holds) is put into every string of the input that spells a
//! control token or could be half of one; the template carries it along, what follows a mark is no control token, and
//! the marks are left out before anything is tokenised. Ordinary messages get no mark at all. A template that itself
//! builds a control token around a field (`<|` + role + `|>`) can do so: roles are for the caller to check.

use super::special::Specials;
use super::template::{ChatInput, ChatTemplate};
use super::tokenizer::{Special, Tokenizer};
use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// A rendered and tokenised chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatPrompt {
    /// What the template rendered.
    pub text: String,
    /// Its tokens.
    pub tokens: Vec<u32>,
}

impl Tokenizer {
    /// Renders a chat and tokenises it; text of the input never becomes a control token.
    ///
    /// # Errors
    /// [`Error::Template`] as [`ChatTemplate::render`]; [`Error::TooLarge`] past `tokens_max`.
    pub fn encode_chat(
        &self,
        template: &ChatTemplate,
        input: &ChatInput<'_>,
        tokens_max: usize,
    ) -> Result<ChatPrompt> {
        let mark = free_mark(input)?;
        let wall = Wall { specials: &self.specials, mark };
        let messages = wall.guard(input.messages)?;
        let tools = input.tools.map(|tools| wall.guard(tools)).transpose()?;
        let documents = input.documents.map(|documents| wall.guard(documents)).transpose()?;
        let extra = wall.guard_map(&input.extra)?;
        let guarded = ChatInput {
            messages: &messages,
            tools: tools.as_ref(),
            documents: documents.as_ref(),
            extra,
            ..*input
        };
        let text = template.render(&guarded)?;
        let tokens = self.encode_marked(&text, Special::Parse, Some(mark), tokens_max)?;
        Ok(ChatPrompt { text: text.replace(mark, ""), tokens })
    }
}

/// A noncharacter that the input does not hold.
fn free_mark(input: &ChatInput<'_>) -> Result<char> {
    let parts = [Some(input.messages), input.tools, input.documents];
    let held = |mark: char| {
        parts.iter().flatten().any(|value| holds(value, mark))
            || input.extra.iter().any(|(key, value)| key.contains(mark) || holds(value, mark))
    };
    ('\u{fdd0}'..='\u{fdef}').find(|&mark| !held(mark)).ok_or_else(|| Error::BadRequest {
        field: "messages",
        problem: "hold every noncharacter from U+FDD0 to U+FDEF; leave one out".into(),
    })
}

fn holds(value: &Value, mark: char) -> bool {
    match value {
        Value::String(text) => text.contains(mark),
        Value::Array(items) => items.iter().any(|item| holds(item, mark)),
        Value::Object(fields) => fields.iter().any(|(key, value)| key.contains(mark) || holds(value, mark)),
        _ => false,
    }
}

struct Wall<'a> {
    specials: &'a Specials,
    mark: char,
}

impl Wall<'_> {
    fn guard(&self, value: &Value) -> Result<Value> {
        Ok(match value {
            Value::String(text) => Value::String(self.guard_text(text)?),
            Value::Array(items) => items.iter().map(|item| self.guard(item)).collect::<Result<_>>()?,
            Value::Object(fields) => Value::Object(self.guard_map(fields)?),
            other => other.clone(),
        })
    }

    fn guard_map(&self, fields: &Map<String, Value>) -> Result<Map<String, Value>> {
        fields.iter().map(|(key, value)| Ok((self.guard_text(key)?, self.guard(value)?))).collect()
    }

    fn guard_text(&self, text: &str) -> Result<String> {
        Ok(self.specials.guard(text, self.mark)?.unwrap_or_else(|| text.to_owned()))
    }
}
