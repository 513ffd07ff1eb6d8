//! The calls of one request as one stream of events: several prompts are several calls.
//!
//! Dropping it drops every answer, which cancels its call.

use crate::call::{Answer, Call, CallError, CallEvent, Cold, Phases, Usage};
use crate::http::app::App;
use crate::http::problem::{Problem, Result};
use futures_util::future::try_join_all;
use http::StatusCode;
use std::collections::VecDeque;
use std::task::{Context, Poll};
use std::time::Instant;

/// Calls under way.
pub struct Merged {
    answers: Vec<Option<Answer>>,
    /// Whose turn it is, so that one answer does not starve the others.
    turn: usize,
    /// Events that were read ahead.
    early: VecDeque<(usize, CallEvent)>,
    /// When it must be over.
    deadline: Instant,
    /// What the calls that have ended used.
    pub usage: Usage,
    /// Where the time before the first token went, once it is there.
    pub opening: Option<(Phases, Cold)>,
}

impl Merged {
    /// Starts calls and waits until one of them has something to say.
    ///
    /// # Errors
    /// What the first call that failed says: nothing was sent to the client yet.
    pub async fn open(app: &App, calls: Vec<Call>, deadline: Instant) -> Result<Self> {
        let started = try_join_all(calls.into_iter().map(|call| app.behind.caller.call(call)));
        let answers = match tokio::time::timeout_at(deadline.into(), started).await {
            Ok(answers) => answers?,
            Err(_) => return Err(too_late()),
        };
        let mut merged = Self {
            answers: answers.into_iter().map(Some).collect(),
            turn: 0,
            early: VecDeque::new(),
            deadline,
            usage: Usage::default(),
            opening: None,
        };
        while let Some(event) = merged.fresh().await? {
            // A handler's head may come long before its first token: the phases are worth the wait.
            let head = matches!(event.1, CallEvent::Head { .. });
            merged.early.push_back(event);
            if !head {
                break;
            }
        }
        Ok(merged)
    }

    /// The next event with the number of its call; `None` once all calls have ended.
    ///
    /// # Errors
    /// The first failure of any call, and the deadline.
    pub async fn next(&mut self) -> Result<Option<(usize, CallEvent)>> {
        match self.early.pop_front() {
            Some(event) => Ok(Some(event)),
            None => self.fresh().await,
        }
    }

    /// The next event, if one is there already.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn next_now(&mut self) -> Result<Option<(usize, CallEvent)>> {
        if let Some(event) = self.early.pop_front() {
            return Ok(Some(event));
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        match self.poll(&mut context) {
            Poll::Ready(polled) => Ok(polled?),
            Poll::Pending => Ok(None),
        }
    }

    /// Whether all calls have ended.
    pub fn is_over(&self) -> bool {
        self.early.is_empty() && self.answers.iter().all(Option::is_none)
    }

    async fn fresh(&mut self) -> Result<Option<(usize, CallEvent)>> {
        let deadline = self.deadline;
        let next = std::future::poll_fn(|context| self.poll(context));
        match tokio::time::timeout_at(deadline.into(), next).await {
            Ok(event) => Ok(event?),
            Err(_) => Err(too_late()),
        }
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<std::result::Result<Option<(usize, CallEvent)>, CallError>> {
        let count = self.answers.len();
        let mut open = false;
        for step in 0..count {
            let place = (self.turn + step) % count;
            while let Some(answer) = &mut self.answers[place] {
                let Poll::Ready(event) = answer.events.poll_recv(context) else {
                    open = true;
                    break;
                };
                let event = event.unwrap_or_else(|| {
                    Err(CallError::Internal("an answer broke off without an end".into()))
                })?;
                if let CallEvent::End { usage } = event {
                    self.usage = sum(self.usage, usage);
                    self.answers[place] = None;
                    continue;
                }
                if let CallEvent::First { phases, cold } = event {
                    self.opening.get_or_insert((phases, cold));
                }
                self.turn = place + 1;
                return Poll::Ready(Ok(Some((place, event))));
            }
        }
        if open { Poll::Pending } else { Poll::Ready(Ok(None)) }
    }
}

fn sum(a: Usage, b: Usage) -> Usage {
    Usage {
        prompt_tokens: a.prompt_tokens + b.prompt_tokens,
        cached_tokens: a.cached_tokens + b.cached_tokens,
        completion_tokens: a.completion_tokens + b.completion_tokens,
        device_ns: a.device_ns + b.device_ns,
        sandbox_ns: a.sandbox_ns + b.sandbox_ns,
        fuel: a.fuel + b.fuel,
        guest_bytes: a.guest_bytes.max(b.guest_bytes),
    }
}

fn too_late() -> Problem {
    let message = "the call took longer than the server allows; ask for fewer tokens";
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline", message)
}
