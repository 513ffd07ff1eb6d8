//! Jobs in memory.

use super::{Memory, registry::recall};
use crate::call::Later;
use crate::store::rules::{self, ATTEMPTS_MAX};
use crate::store::{Job, Jobs, Leased, Rejected, Result, StoreError};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Leased,
    Dead,
}

struct Waiting {
    job: Job,
    token: u64,
    state: State,
    due: Duration,
}

#[derive(Default)]
struct Queue {
    last: u64,
    jobs: BTreeMap<u64, Waiting>,
    done: HashMap<String, ([u8; 32], u64)>,
}

/// Queues by name.
#[derive(Default)]
pub(super) struct Queues {
    queues: BTreeMap<String, Queue>,
}

impl Queue {
    fn bury(&mut self, now: Duration) {
        for waiting in self.jobs.values_mut() {
            let over = waiting.state == State::Leased && waiting.due <= now;
            if over && waiting.job.attempts >= ATTEMPTS_MAX {
                waiting.state = State::Dead;
            }
        }
    }

    fn lease(&mut self, queue: &str, n: usize, now: Duration, until: Duration) -> Vec<Leased> {
        self.bury(now);
        let due = |waiting: &&mut Waiting| waiting.state != State::Dead && waiting.due <= now;
        let take = |waiting: &mut Waiting| {
            waiting.job.attempts += 1;
            waiting.token += 1;
            (waiting.state, waiting.due) = (State::Leased, until);
            Leased { job: waiting.job.clone(), queue: queue.to_owned(), token: waiting.token }
        };
        self.jobs.values_mut().filter(due).take(n).map(take).collect()
    }
}

impl Queues {
    pub fn void_leases(&mut self) {
        for waiting in self.queues.values_mut().flat_map(|queue| queue.jobs.values_mut()) {
            waiting.due = Duration::ZERO;
            waiting.state = match waiting.state {
                State::Leased if waiting.job.attempts >= ATTEMPTS_MAX => State::Dead,
                State::Leased => State::Ready,
                other => other,
            };
        }
    }

    fn queue(&mut self, name: &str) -> &mut Queue {
        self.queues.entry(name.to_owned()).or_default()
    }

    fn enqueue(&mut self, name: &str, payload: Value, idem: &str, now: Duration) -> Result<u64> {
        let fingerprint = rules::fingerprint(&["enqueue", name, &rules::to_text(&payload)?]);
        let queue = self.queue(name);
        if let Some(before) = recall(&queue.done, idem, &fingerprint)? {
            return Ok(before);
        }
        queue.last += 1;
        let job = Job { id: queue.last, payload, attempts: 0 };
        queue.jobs.insert(job.id, Waiting { job, token: 0, state: State::Ready, due: now });
        queue.done.insert(idem.to_owned(), (fingerprint, queue.last));
        Ok(queue.last)
    }

    fn held(&mut self, leased: &Leased) -> Result<&mut Waiting> {
        let waiting = self.queue(&leased.queue).jobs.get_mut(&leased.job.id);
        let same = |waiting: &&mut Waiting| waiting.token == leased.token && waiting.state == State::Leased;
        waiting.filter(same).ok_or(StoreError::Rejected(Rejected::LeaseLost))
    }
}

impl Jobs for Memory {
    fn enqueue<'a>(&'a self, queue: &'a str, payload: Value, idem: &'a str) -> Later<'a, Result<u64>> {
        Box::pin(async move {
            rules::check_queue(queue)?;
            rules::check_idempotency(idem)?;
            self.inner().jobs.enqueue(queue, payload, idem, self.clock.monotonic())
        })
    }

    fn lease<'a>(&'a self, queue: &'a str, n: usize, ttl: Duration) -> Later<'a, Result<Vec<Leased>>> {
        Box::pin(async move {
            rules::check_queue(queue)?;
            let now = self.clock.monotonic();
            Ok(self.inner().jobs.queue(queue).lease(queue, n, now, now + ttl))
        })
    }

    fn extend<'a>(&'a self, leased: &'a Leased, ttl: Duration) -> Later<'a, Result<()>> {
        Box::pin(async move {
            self.inner().jobs.held(leased)?.due = self.clock.monotonic() + ttl;
            Ok(())
        })
    }

    fn ack<'a>(&'a self, leased: &'a Leased) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let mut inner = self.inner();
            inner.jobs.held(leased)?;
            inner.jobs.queue(&leased.queue).jobs.remove(&leased.job.id);
            Ok(())
        })
    }

    fn nack<'a>(&'a self, leased: &'a Leased, after: Duration) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let due = self.clock.monotonic() + after;
            let mut inner = self.inner();
            let waiting = inner.jobs.held(leased)?;
            let last = waiting.job.attempts >= ATTEMPTS_MAX;
            (waiting.state, waiting.due) = (if last { State::Dead } else { State::Ready }, due);
            Ok(())
        })
    }

    fn dead<'a>(&'a self, queue: &'a str) -> Later<'a, Result<Vec<Job>>> {
        Box::pin(async move {
            rules::check_queue(queue)?;
            let now = self.clock.monotonic();
            let mut inner = self.inner();
            let queue = inner.jobs.queue(queue);
            queue.bury(now);
            let dead = |waiting: &&Waiting| waiting.state == State::Dead;
            Ok(queue.jobs.values().filter(dead).map(|waiting| waiting.job.clone()).collect())
        })
    }
}
