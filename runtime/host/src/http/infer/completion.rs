//! `POST /v1/completions`: text as it stands, one prompt or several.

use super::collect::{Choice, collect};
use super::merged::Merged;
use super::request::{Common, common, deadline};
use super::sse::{self, Encode, data};
use super::wire::{self, Frame, Top};
use super::{params, timing};
use crate::call::{CallEvent, Finish, Prompt, TokenInfo, Usage, Work};
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::fields::Fields;
use crate::http::problem::{Problem, Result};
use crate::http::tokens;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Tokens of an answer that says nothing of its length, as OpenAI has it.
const MAX_TOKENS_DEFAULT: u32 = 16;
const OBJECT: &str = "text_completion";

/// Answers a completion.
///
/// # Errors
/// 400 naming a field, 404 for an unknown model, and what the calls say.
pub async fn answer(mut ask: Ask) -> Result<Reply> {
    let (mut body, read) = ask.object().await?;
    let mut common = common(&ask, &mut body)?;
    let fields = Fields::top(&body);
    fields.refuse("best_of", |best| best.as_u64() == Some(u64::from(common.choices)), "must equal `n`")?;
    params::completion_logprobs(&fields, &mut common.params)?;
    common.params.max_tokens.get_or_insert(MAX_TOKENS_DEFAULT);
    let echo = fields.flag("echo")?.unwrap_or(false);
    if echo && common.params.logprobs {
        return Err(Problem::unsupported(
            "echo",
            "with `logprobs` needs the prompt's, which are not computed",
        ));
    }
    let prompts = prompts(&body, common.choices, ask.app.limits().prompts)?;
    let echoes =
        if echo { echoes(&ask, &common, &prompts).await? } else { vec![String::new(); prompts.len()] };
    let works = prompts.into_iter().map(|prompt| Work::Completion { prompt });
    let calls: Vec<_> = works.map(|work| common.call(&ask, work, read.bytes.clone())).collect();
    let top = Top::new(&ask, &common, "cmpl");
    drop((body, read));
    let merged = sse::unless_ending(&ask.app, Merged::open(&ask.app, calls, deadline(&ask))).await?;
    if common.stream {
        return Ok(sse::reply(&ask.app, merged, Lines::new(top, &common, echoes)));
    }
    sse::unless_ending(&ask.app, whole(merged, &common, &top, echoes)).await
}

/// `prompt`: a text, a list of texts, a list of token ids, a list of such lists.
fn prompts(body: &Map<String, Value>, choices: u32, max: usize) -> Result<Vec<Prompt>> {
    const FIELD: &str = "prompt";
    let wrong = || Problem::invalid(FIELD, "must be text, token ids, or a list of either");
    let value = Fields::top(body).get(FIELD).ok_or_else(|| Problem::missing(FIELD))?;
    let prompts = match value {
        Value::String(text) => vec![Prompt::Text(text.clone())],
        Value::Array(items) if items.is_empty() => return Err(Problem::invalid(FIELD, "is empty")),
        Value::Array(items) if items[0].is_number() => vec![Prompt::Tokens(ids(value).ok_or_else(wrong)?)],
        Value::Array(items) => {
            let most = max / choices as usize;
            if items.len() > most {
                let problem = format!("has {} prompts; with n = {choices} at most {most}", items.len());
                return Err(Problem::invalid(FIELD, problem));
            }
            items.iter().map(one).collect::<Option<_>>().ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    let empty = |prompt: &Prompt| matches!(prompt, Prompt::Tokens(ids) if ids.is_empty());
    if prompts.iter().any(empty) { Err(Problem::invalid(FIELD, "has no tokens")) } else { Ok(prompts) }
}

fn one(item: &Value) -> Option<Prompt> {
    match item {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        ids_of => ids(ids_of).map(Prompt::Tokens),
    }
}

/// Token ids.
pub fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array()?.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect()
}

/// Each prompt as text.
async fn echoes(ask: &Ask, common: &Common, prompts: &[Prompt]) -> Result<Vec<String>> {
    let mut echoes = Vec::with_capacity(prompts.len());
    for prompt in prompts {
        echoes.push(match prompt {
            Prompt::Text(text) => text.clone(),
            Prompt::Tokens(ids) => tokens::detokenize(&ask.app, &common.named.bound, ids.clone()).await?,
        });
    }
    Ok(echoes)
}

async fn whole(mut merged: Merged, common: &Common, top: &Top, echoes: Vec<String>) -> Result<Reply> {
    let choices = collect(&mut merged, echoes.len(), common.choices).await?;
    let echo = |place: usize| &echoes[place / common.choices as usize];
    let choices = choices
        .iter()
        .enumerate()
        .map(|(place, choice)| finished(place, choice, echo(place), common))
        .collect();
    let mut object = top.object(OBJECT, choices);
    object["usage"] = wire::usage_of(&merged.usage);
    let mut reply = body::good(&object);
    timing::mark(reply.headers_mut(), merged.opening);
    Ok(reply)
}

fn finished(place: usize, choice: &Choice, echo: &str, common: &Common) -> Value {
    let tokens = choice.tokens.iter().map(|(token, text)| (token, text.as_str()));
    let logprobs = match common.params.logprobs {
        true => wire::completion_logprobs(tokens, &mut 0),
        false => Value::Null,
    };
    let finish = wire::finish_of(Some(choice.finish.as_ref().unwrap_or(&Finish::Stop)));
    json!({
        "index": place,
        "text": format!("{echo}{}", choice.text),
        "logprobs": logprobs,
        "finish_reason": finish,
    })
}

/// A choice in a chunk.
#[derive(Serialize)]
struct Said<'t> {
    index: usize,
    text: &'t str,
    logprobs: Value,
    finish_reason: Value,
}

/// Chunks of a completion.
struct Lines {
    top: Top,
    frame: Frame,
    logprobs: bool,
    choices: u32,
    /// Each choice's prompt, until it was written.
    echoes: Vec<Option<String>>,
    /// Characters that each choice has written.
    offsets: Vec<usize>,
}

impl Lines {
    fn new(top: Top, common: &Common, echoes: Vec<String>) -> Self {
        let echoes: Vec<_> = echoes
            .into_iter()
            .flat_map(|echo| {
                std::iter::repeat_n(Some(echo).filter(|echo| !echo.is_empty()), common.choices as usize)
            })
            .collect();
        let offsets = vec![0; echoes.len()];
        let (logprobs, choices) = (common.params.logprobs, common.choices);
        Self { frame: Frame::new(&top, OBJECT), top, logprobs, choices, echoes, offsets }
    }

    fn line(&mut self, place: usize, text: &str, logprobs: Value, finish: Value, out: &mut String) {
        let Some(echo) = self.echoes.get_mut(place).map(Option::take) else { return };
        let mut write = |text: &str, logprobs: Value, finish_reason: Value| {
            self.frame.data(&Said { index: place, text, logprobs, finish_reason }, out);
        };
        if let Some(echo) = echo {
            write(&echo, Value::Null, Value::Null);
        }
        write(text, logprobs, finish);
    }

    fn text(&mut self, place: usize, text: &str, token: Option<&TokenInfo>, out: &mut String) {
        let logprobs = match (token.filter(|_| self.logprobs), self.offsets.get_mut(place)) {
            (Some(token), Some(offset)) => wire::completion_logprobs(std::iter::once((token, text)), offset),
            _ if text.is_empty() => return,
            _ => Value::Null,
        };
        self.line(place, text, logprobs, Value::Null, out);
    }
}

impl Encode for Lines {
    fn event(&mut self, call: usize, event: CallEvent, out: &mut String) {
        let place = |choice: u32| call * self.choices as usize + choice as usize;
        match event {
            CallEvent::Text { choice, text, token } => self.text(place(choice), &text, token.as_ref(), out),
            CallEvent::Bytes(bytes) => self.text(place(0), &String::from_utf8_lossy(&bytes), None, out),
            CallEvent::Done { choice, finish } => {
                self.line(place(choice), "", Value::Null, wire::finish_of(Some(&finish)), out);
            }
            CallEvent::ToolCall { .. }
            | CallEvent::Head { .. }
            | CallEvent::First { .. }
            | CallEvent::End { .. } => {}
        }
    }

    fn end(&mut self, usage: &Usage, out: &mut String) {
        if self.top.include_usage {
            data(&self.top.chunk(OBJECT, vec![], Some(usage)), out);
        }
        out.push_str("data: [DONE]\n\n");
    }

    fn problem(&mut self, problem: &Problem, out: &mut String) {
        data(&problem.envelope(), out);
    }
}
