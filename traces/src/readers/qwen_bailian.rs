//! Qwen Bailian traces, JSONL: `chat_id`, `parent_chat_id` (-1 for a root), `timestamp` (s), `input_length`,
//! `output_length`, `type`, `turn`, `hash_ids` (16-token blocks).
//!
//! The request type is the function. A chat belongs to its root's session; the newest million roots are remembered,
//! so a reply to an older chat starts a session of its own.

use super::json::{self, Text};
use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use crate::fields::{parse_seconds, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};
use std::collections::{HashMap, VecDeque};

/// Chats whose session is remembered; about 50 MB. Arbitrary, far above the two hours of the published files.
const CHATS_MAX: usize = 1_000_000;

#[derive(serde::Deserialize)]
struct Fields<'a> {
    chat_id: Option<i64>,
    parent_chat_id: Option<i64>,
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    input_length: Text<'a>,
    #[serde(borrow)]
    output_length: Text<'a>,
    r#type: Option<String>,
    #[serde(borrow)]
    turn: Text<'a>,
    #[serde(borrow)]
    hash_ids: Text<'a>,
}

struct QwenBailian {
    names: Names,
    function: String,
    base_model: String,
    /// Session of a chat; looked up only.
    sessions: HashMap<i64, u64>,
    oldest: VecDeque<i64>,
}

/// Opens a trace of this format.
pub fn open(lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let parser = QwenBailian {
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
        sessions: HashMap::new(),
        oldest: VecDeque::new(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options))))
}

impl QwenBailian {
    /// The root chat's id plus one, so that 0 stays "none".
    fn session(&mut self, chat: i64, parent: i64) -> u64 {
        let own = (chat as u64).wrapping_add(1);
        let session = self.sessions.get(&parent).copied().unwrap_or(own);
        if self.sessions.insert(chat, session).is_none() {
            self.oldest.push_back(chat);
        }
        if self.oldest.len() > CHATS_MAX {
            self.oldest.pop_front().map(|old| self.sessions.remove(&old));
        }
        session
    }
}

impl Parser for QwenBailian {
    const TIME: &'static str = "timestamp";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let fields: Fields = json::object(line)?;
        let kind = fields.r#type.as_deref().unwrap_or(&self.function).as_bytes();
        // `turn` counts from 1 in the published files.
        let turn =
            fields.turn.map(|_| parse_u32(json::need(fields.turn, "turn")?).column("turn")).transpose()?;
        let mut record = Record {
            arrival_ns: parse_seconds(json::need(fields.timestamp, "timestamp")?).column("timestamp")?,
            prompt_tokens: json::tokens(fields.input_length, "input_length")?,
            output_tokens: json::tokens(fields.output_length, "output_length")?,
            turn: turn.unwrap_or(0).saturating_sub(1),
            prefix: json::blocks(fields.hash_ids, "hash_ids")?,
            function: self.names.function([kind, b"", self.base_model.as_bytes(), b""], catalog)?,
            ..Record::default()
        };
        if let Some(chat) = fields.chat_id {
            record.session = self.session(chat, fields.parent_chat_id.unwrap_or(-1));
        }
        Ok(record)
    }
}
