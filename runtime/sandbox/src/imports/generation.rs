//! A generation as the guest's handle holds it.

use crate::services::{self, Event, Failure};
use std::future::poll_fn;
use std::task::Poll;

/// A generation at work, or what came of it. Dropping it cancels what still runs.
pub struct Generation {
    state: State,
    /// Tokens given to the guest.
    pub(crate) tokens: u32,
}

enum State {
    Running(Box<dyn services::Generation>),
    /// Something came while several were waited for.
    Holding(Box<dyn services::Generation>, Result<Option<Event>, Failure>),
    /// It could not start.
    Failed(Failure),
    Over,
}

impl Generation {
    pub(crate) fn new(started: Result<Box<dyn services::Generation>, Failure>) -> Self {
        let state = match started {
            Ok(generation) => State::Running(generation),
            Err(failure) => State::Failed(failure),
        };
        Self { state, tokens: 0 }
    }

    /// It takes room among those that may be alive.
    pub(crate) fn is_alive(&self) -> bool {
        matches!(self.state, State::Running(_) | State::Holding(..))
    }

    /// Something can be had without waiting.
    pub(crate) fn is_ready(&self) -> bool {
        !matches!(self.state, State::Running(_))
    }

    pub(crate) fn cancel(&mut self) {
        if let State::Running(generation) | State::Holding(generation, _) = &mut self.state {
            generation.cancel();
        }
    }

    /// The next thing, waiting for it. After an end or a failure nothing follows.
    pub(crate) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        let next = match &mut self.state {
            State::Running(generation) => generation.next().await,
            State::Over => return Ok(None),
            _ => match std::mem::replace(&mut self.state, State::Over) {
                State::Holding(generation, next) => {
                    self.state = State::Running(generation);
                    next
                }
                State::Failed(failure) => Err(failure),
                State::Running(_) | State::Over => unreachable!("matched above"),
            },
        };
        if !matches!(next, Ok(Some(Event::Token(_)))) {
            self.state = State::Over;
        }
        next
    }

    fn hold(&mut self, next: Result<Option<Event>, Failure>) {
        if let State::Running(generation) = std::mem::replace(&mut self.state, State::Over) {
            self.state = State::Holding(generation, next);
        }
    }
}

/// Waits until one of several has something, which is kept for its `next`; the place of that one. At least one is given.
pub(crate) async fn wait_any(generations: &mut [Generation]) -> usize {
    if let Some(place) = generations.iter().position(Generation::is_ready) {
        return place;
    }
    let (place, next) = {
        let running = generations.iter_mut().filter_map(|generation| match &mut generation.state {
            State::Running(generation) => Some(generation.next()),
            _ => None,
        });
        let mut waits: Vec<_> = running.collect();
        poll_fn(|context| {
            for (place, wait) in waits.iter_mut().enumerate() {
                if let Poll::Ready(next) = wait.as_mut().poll(context) {
                    return Poll::Ready((place, next));
                }
            }
            Poll::Pending
        })
        .await
    };
    generations[place].hold(next);
    place
}
