//! One generation of a function's code: the engine's stream in the sandbox's words.

use super::engine::{Happened, JobStream};
use super::fault;
use super::line::Line;
use super::standing::Conduct;
use coldframe_backbone::engine::{Reason as Ended, Spoken};
use coldframe_backbone::text::Tokenizer;
use coldframe_sandbox::services::{Event, Failure, Generation, Later, Reason, Token};
use std::sync::Arc;

/// A generation at work; its drop cancels it.
pub(super) struct EngineGeneration {
    stream: JobStream,
    tokenizer: Arc<Tokenizer>,
    line: Line,
    conduct: Conduct,
    logprobs: bool,
}

impl EngineGeneration {
    pub(super) fn new(
        stream: JobStream,
        tokenizer: Arc<Tokenizer>,
        line: Line,
        conduct: Conduct,
        logprobs: bool,
    ) -> Self {
        Self { stream, tokenizer, line, conduct, logprobs }
    }

    async fn following(&mut self) -> Result<Option<Event>, Failure> {
        while let Some(event) = self.stream.next().await {
            match event.what {
                Happened::Started { .. } => self.line.started(event.at),
                Happened::Token(spoken) => {
                    self.line.spoke(event.at);
                    return Ok(Some(Event::Token(self.token(spoken))));
                }
                Happened::Done { reason, text, usage } => {
                    return Ok(Some(Event::End {
                        reason: match reason {
                            Ended::Stop | Ended::Eos => Reason::Stop,
                            Ended::Length => Reason::Length,
                            Ended::Cancelled => Reason::Cancelled,
                        },
                        text,
                        prompt_tokens: u32::try_from(usage.prompt).unwrap_or(u32::MAX),
                        completion_tokens: u32::try_from(usage.completion).unwrap_or(u32::MAX),
                    }));
                }
                Happened::Failed(error) => {
                    let failure = fault::to_guest(&fault::of_job(&error));
                    self.conduct.ended(&failure.code);
                    return Err(failure);
                }
            }
        }
        Ok(None)
    }

    fn token(&self, spoken: Spoken) -> Token {
        let text = |id| String::from_utf8_lossy(self.tokenizer.token_bytes(id)).into_owned();
        let top = spoken.top.iter().map(|&(id, logprob)| (id, text(id), logprob)).collect();
        Token { id: spoken.token, text: spoken.text, logprob: spoken.logprob.filter(|_| self.logprobs), top }
    }
}

impl Generation for EngineGeneration {
    fn next(&mut self) -> Later<'_, Result<Option<Event>, Failure>> {
        Box::pin(self.following())
    }

    fn cancel(&mut self) {
        self.stream.cancel();
    }
}
