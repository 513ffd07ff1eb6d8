//! Calls for tests, and what is heard of them.

use coldframe_backbone::sample::SamplingParams;
use coldframe_host::call::{
    Answer, Call, CallError, CallEvent, Cold, Finish, Phases, Prompt, Shape, TokenInfo, ToolChoice, Usage,
    Work,
};
use coldframe_host::records::Names;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A call of `work`, greedy, with room for every test.
pub fn call(work: Work, max_tokens: u32) -> Call {
    let now = Instant::now();
    Call {
        id: "test".to_owned(),
        names: Names { tenant: "acme".to_owned(), function: "tiny".to_owned() },
        generation: None,
        adapter: None,
        work,
        body: bytes::Bytes::new(),
        params: SamplingParams { max_tokens: Some(max_tokens), ignore_eos: true, ..SamplingParams::greedy() },
        choices: 1,
        shape: Shape::Free,
        include_stop: false,
        arrived: now,
        deadline: now + Duration::from_secs(300),
    }
}

/// A completion.
pub fn completion(prompt: &str, max_tokens: u32) -> Call {
    call(Work::Completion { prompt: Prompt::Text(prompt.to_owned()) }, max_tokens)
}

/// A chat of one turn.
pub fn chat(text: &str, max_tokens: u32) -> Call {
    let messages = json!([{ "role": "user", "content": text }]);
    let work = Work::Chat { messages, tools: None, tool_choice: ToolChoice::Auto, extra: Map::new() };
    call(work, max_tokens)
}

/// A chat that offers tools.
pub fn tool_chat(text: &str, tools: Value, tool_choice: ToolChoice, max_tokens: u32) -> Call {
    let messages = json!([{ "role": "user", "content": text }]);
    call(Work::Chat { messages, tools: Some(tools), tool_choice, extra: Map::new() }, max_tokens)
}

/// What a caller heard.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Heard {
    /// Text of each choice.
    pub texts: BTreeMap<u32, String>,
    /// Tokens, where log-probabilities were asked for.
    pub tokens: Vec<TokenInfo>,
    /// Names and arguments of tools called.
    pub tools: Vec<(String, String)>,
    /// How each choice ended.
    pub finishes: BTreeMap<u32, Finish>,
    /// Status of an `invoke`.
    pub status: Option<u16>,
    /// Bytes of an `invoke`.
    pub bytes: Vec<u8>,
    /// The first event.
    pub first: Option<(Phases, Cold)>,
    /// The last event.
    pub usage: Option<Usage>,
    /// Instead of it.
    pub error: Option<CallError>,
}

impl Heard {
    /// Text of the first choice.
    pub fn text(&self) -> &str {
        self.texts.get(&0).map_or("", String::as_str)
    }

    /// Enters an event, and holds it against the order of events.
    pub fn enter(&mut self, event: Result<CallEvent, CallError>) {
        assert!(self.usage.is_none() && self.error.is_none(), "{event:?} after the end");
        let first = matches!(event, Ok(CallEvent::First { .. }) | Err(_));
        assert!(first || self.first.is_some(), "{event:?} before the first");
        match event {
            Ok(CallEvent::First { phases, cold }) => self.first = Some((phases, cold)),
            Ok(CallEvent::Head { status, .. }) => self.status = Some(status),
            Ok(CallEvent::Text { choice, text, token }) => {
                assert!(!self.finishes.contains_key(&choice), "text after the choice's end");
                *self.texts.entry(choice).or_default() += &text;
                self.tokens.extend(token);
            }
            Ok(CallEvent::ToolCall { name, arguments, .. }) => self.tools.push((name, arguments)),
            Ok(CallEvent::Bytes(bytes)) => self.bytes.extend_from_slice(&bytes),
            Ok(CallEvent::Done { choice, finish }) => drop(self.finishes.insert(choice, finish)),
            Ok(CallEvent::End { usage }) => self.usage = Some(usage),
            Err(error) => self.error = Some(error),
        }
    }
}

/// Listens to the end.
pub async fn listen(mut answer: Answer) -> Heard {
    let mut heard = Heard::default();
    while let Some(event) = answer.events.recv().await {
        heard.enter(event);
    }
    heard
}
