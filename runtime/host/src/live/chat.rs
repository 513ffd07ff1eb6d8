//! The built-in handler, for functions without code: template, generate, stream.

use super::engine::{Happened, Job};
use super::fault;
use super::line::{Line, Stop};
use super::run::Place;
use super::speak::{Ready, Source, Wish, prepare};
use super::tools::{Scanner, ToolCall, Tools};
use crate::call::{Call, CallError, CallEvent, Finish, Prompt, Shape, TokenInfo, Work};
use coldframe_backbone::engine::{Reason, Spoken};
use coldframe_backbone::sample::Grammar;
use coldframe_backbone::text::Tokenizer;

/// Answers a call.
pub(super) async fn answer(call: Call, place: &Place, line: &Line) -> Result<(), Stop> {
    let bad = |field: &str, problem| CallError::BadRequest { field: field.to_owned(), problem };
    let loaded = place.resident.adapter(call.adapter.as_deref()).map_err(|what| bad("adapter", what))?;
    let (source, tools) = source(call.work)?;
    let grammar = tools.grammar.clone().or(grammar(call.shape));
    let logprobs = call.params.logprobs;
    let wish = Wish {
        source,
        params: call.params,
        choices: call.choices,
        grammar,
        include_stop: call.include_stop,
        hook: None,
    };
    let ready = prepare(&place.model, loaded, wish).await.map_err(|error| fault::of_backbone(&error))?;
    let Ready { prompt, max_tokens, voices } = ready;
    let adapter = loaded.map(|loaded| loaded.adapter.clone());
    let meter = place.meter.clone();
    let job = Job { tenant: place.tenant, adapter, yields: false, prompt, max_tokens, voices, meter };
    line.submitted();
    let mut stream = place.model.engine.submit(job).await.map_err(|error| fault::of_job(&error))?;
    let tokenizer = &*place.model.tokenizer;
    let choice = |index| Choice { index, scanner: tools.scanner(), logprobs, tokenizer };
    let mut choices: Vec<Option<Choice<'_>>> = (0..call.choices).map(|index| Some(choice(index))).collect();
    while let Some(event) = stream.next().await {
        let choice = choices.get_mut(event.choice as usize).expect("the engine numbers the job's choices");
        match event.what {
            Happened::Started { .. } => line.started(event.at),
            Happened::Token(spoken) => {
                line.spoke(event.at);
                line.first().await?;
                if let Some(choice) = choice {
                    choice.token(spoken, line).await?;
                }
            }
            Happened::Done { reason, text, .. } => {
                line.first().await?;
                if let Some(choice) = choice.take() {
                    choice.end(reason, &text, line).await?;
                }
            }
            Happened::Failed(error) => return Err(fault::of_job(&error).into()),
        }
    }
    Ok(())
}

/// What the text goes on from, and the tools.
fn source(work: Work) -> Result<(Source, Tools), CallError> {
    match work {
        Work::Chat { messages, tools, tool_choice, extra } => {
            let tools = Tools::read(tools.as_ref(), &tool_choice);
            let tools = tools
                .map_err(|(field, problem)| CallError::BadRequest { field: field.to_owned(), problem })?;
            Ok((Source::Chat { messages, tools: tools.shown.clone(), extra }, tools))
        }
        Work::Completion { prompt: Prompt::Text(text) } => Ok((Source::Text(text), Tools::default())),
        Work::Completion { prompt: Prompt::Tokens(tokens) } => Ok((Source::Tokens(tokens), Tools::default())),
        Work::Invoke { .. } => Err(CallError::BadRequest {
            field: "function".to_owned(),
            problem: "has no code to invoke: use /v1/chat/completions".to_owned(),
        }),
    }
}

/// The grammar of a shape.
pub(super) fn grammar(shape: Shape) -> Option<Grammar> {
    match shape {
        Shape::Free => None,
        Shape::JsonObject => Some(Grammar::JsonObject),
        Shape::JsonSchema(schema) => Some(Grammar::JsonSchema(schema)),
    }
}

/// A choice under way.
struct Choice<'a> {
    index: u32,
    scanner: Scanner<'a>,
    logprobs: bool,
    tokenizer: &'a Tokenizer,
}

impl Choice<'_> {
    async fn token(&mut self, spoken: Spoken, line: &Line) -> Result<(), Stop> {
        let text = self.scanner.push(&spoken.text);
        // A token that ends the text is no part of it.
        let ends = spoken.end == Some(Reason::Eos);
        let token = (self.logprobs && !ends).then(|| token_info(self.tokenizer, &spoken));
        if text.is_empty() && token.is_none() {
            return Ok(());
        }
        line.send(CallEvent::Text { choice: self.index, text, token }).await
    }

    async fn end(mut self, reason: Reason, text: &str, line: &Line) -> Result<(), Stop> {
        let choice = self.index;
        let mut text = self.scanner.push(text);
        let (rest, calls) = self.scanner.finish();
        text += &rest;
        if !text.is_empty() {
            line.send(CallEvent::Text { choice, text, token: None }).await?;
        }
        let finish = match reason {
            _ if !calls.is_empty() => Finish::ToolCalls,
            Reason::Stop | Reason::Eos => Finish::Stop,
            Reason::Length => Finish::Length,
            Reason::Cancelled => Finish::Other("cancelled".to_owned()),
        };
        for (index, ToolCall { name, arguments }) in (0..).zip(calls) {
            let id = call_id()?;
            line.send(CallEvent::ToolCall { choice, index, id, name, arguments }).await?;
        }
        line.send(CallEvent::Done { choice, finish }).await
    }
}

/// A name for a tool's call that no other has.
fn call_id() -> Result<String, CallError> {
    let random = getrandom::u64().map_err(|error| CallError::Internal(format!("no random id: {error}")))?;
    Ok(format!("call_{random:016x}"))
}

fn token_info(tokenizer: &Tokenizer, spoken: &Spoken) -> TokenInfo {
    let spell = |id| {
        let bytes = tokenizer.token_bytes(id).to_vec();
        (String::from_utf8_lossy(&bytes).into_owned(), bytes)
    };
    let (token, bytes) = spell(spoken.token);
    let likely = |&(id, logprob): &(u32, f32)| {
        let (text, bytes) = spell(id);
        (text, bytes, logprob)
    };
    TokenInfo {
        id: spoken.token,
        token,
        bytes,
        logprob: spoken.logprob.unwrap_or_default(),
        top: spoken.top.iter().map(likely).collect(),
    }
}
