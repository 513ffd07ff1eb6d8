//! A whole answer: every choice's text, tokens and tool calls, in the order of choices.

use super::merged::Merged;
use crate::call::{CallEvent, Finish, TokenInfo};
use crate::http::problem::Result;

/// A tool that a choice calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Its own name.
    pub id: String,
    /// The tool.
    pub name: String,
    /// JSON text.
    pub arguments: String,
}

/// A choice.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Its text.
    pub text: String,
    /// Its tokens with the text that came with each, where they were asked for.
    pub tokens: Vec<(TokenInfo, String)>,
    /// Tools it calls.
    pub calls: Vec<ToolCall>,
    /// Why it ended.
    pub finish: Option<Finish>,
}

/// Gathers `count` choices of each of `calls` calls.
///
/// # Errors
/// The first failure of any call.
pub async fn collect(merged: &mut Merged, calls: usize, count: u32) -> Result<Vec<Choice>> {
    let mut choices = vec![Choice::default(); calls * count as usize];
    while let Some((call, event)) = merged.next().await? {
        let place = |choice: u32| call * count as usize + choice as usize;
        match event {
            CallEvent::Text { choice, text, token } => {
                let Some(into) = choices.get_mut(place(choice)) else { continue };
                into.text.push_str(&text);
                into.tokens.extend(token.map(|token| (token, text)));
            }
            CallEvent::ToolCall { choice, id, name, arguments, .. } => {
                let Some(into) = choices.get_mut(place(choice)) else { continue };
                into.calls.push(ToolCall { id, name, arguments });
            }
            CallEvent::Done { choice, finish } => {
                let Some(into) = choices.get_mut(place(choice)) else { continue };
                into.finish = Some(finish);
            }
            // Bytes are a raw handler's own, and it was not asked for that here.
            CallEvent::Bytes(bytes) => {
                if let Some(into) = choices.get_mut(call * count as usize) {
                    into.text.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
            CallEvent::Head { .. } | CallEvent::First { .. } | CallEvent::End { .. } => {}
        }
    }
    Ok(choices)
}
