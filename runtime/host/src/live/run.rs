//! Running one call on a function that is in place: the built-in handler or the function's own code, to the end.

use super::chat;
use super::engine::Meter;
use super::guest;
use super::line::{Before, Events, Line, Stop};
use super::logs::Logs;
use super::model::Model;
use super::resident::Resident;
use super::standing::Standings;
use super::state::StateStore;
use crate::call::{Answer, Call, CallError, CallEvent, Cold, Finish, Phases, Usage};
use coldframe_backbone::kv::TenantId;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant as At;

/// Events between a call and its caller. Arbitrary and small: behind it lies the engine's own buffer.
const EVENTS: usize = 16;

/// What code gets beyond the deadline to end by its own limits, which tell more.
const GRACE: Duration = Duration::from_millis(250);

/// How long the last event waits for a caller who takes nothing. Arbitrary.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a caller whose time ran out should try again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a call runs on. Held until the call has ended, and with it the function's memory.
#[derive(Clone)]
pub struct Place {
    /// The backbone.
    pub model: Arc<Model>,
    /// The function.
    pub resident: Arc<Resident>,
    /// The tenant's number: pages never cross it.
    pub tenant: TenantId,
    /// The function's store.
    pub state: Arc<dyn StateStore>,
    /// Where its code logs.
    pub logs: Arc<Logs>,
    /// Which functions give way.
    pub standings: Arc<Standings>,
    /// Counts what the call uses; one of its own for each call.
    pub meter: Arc<Meter>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Every event was sent.
    Finished,
    /// The caller had gone.
    Dropped,
    /// It failed, and the caller was told.
    Failed(CallError),
}

/// What became of a call, for whoever meters it; also where the caller saw nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What it used, to the last token.
    pub usage: Usage,
    /// Phases and coldness, where there was a first token.
    pub first: Option<(Phases, Cold)>,
    /// From arrival to end.
    pub took: Duration,
    /// Why each choice ended, of those that did.
    pub finished: Vec<Finish>,
}

/// Starts a call on a task of its own.
pub fn start_call(call: Call, place: Place, before: Before) -> (Answer, JoinHandle<Outcome>) {
    let (sender, events) = mpsc::channel(EVENTS);
    let outcome = tokio::spawn(run_call(call, place, before, sender));
    (Answer { events }, outcome)
}

/// Runs a call to its end. When it returns, the engine has nothing of it any more.
pub async fn run_call(call: Call, place: Place, before: Before, events: Events) -> Outcome {
    let arrived = call.arrived;
    let by_code = place.resident.code.is_some();
    let line = Line::new(events, before, arrived, by_code);
    let grace = if by_code { GRACE } else { Duration::ZERO };
    let deadline = At::from_std(call.deadline + grace);
    let spent = guest::Spent::default();
    let work = AssertUnwindSafe(work(call, &place, &line, &spent)).catch_unwind();
    let stopped = tokio::select! {
        biased;
        () = line.gone() => Err(Stop::Gone),
        done = work => done.unwrap_or_else(|_| {
            Err(Stop::Failed(CallError::Internal("the call panicked; the host's log says where".to_owned())))
        }),
        () = tokio::time::sleep_until(deadline) => Err(Stop::Failed(late())),
    };
    place.meter.settled().await;
    let usage = usage(&place.meter, &spent);
    let ending = tokio::time::timeout(PATIENCE, end(stopped, usage, &line)).await.unwrap_or(Ending::Dropped);
    let took = Instant::now().saturating_duration_since(arrived);
    Outcome { ending, usage, first: line.told(), took, finished: line.finished() }
}

/// Tells the caller the end.
async fn end(stopped: Result<(), Stop>, usage: Usage, line: &Line) -> Ending {
    let stopped = match stopped {
        Ok(()) => line.send(CallEvent::End { usage }).await,
        Err(stop) => Err(stop),
    };
    match stopped {
        Ok(()) => Ending::Finished,
        Err(Stop::Gone) => Ending::Dropped,
        // Code may see that nobody listens any more before this does, and fail of it.
        Err(Stop::Failed(_)) if line.is_gone() => Ending::Dropped,
        Err(Stop::Failed(error)) => {
            line.fail(error.clone()).await;
            Ending::Failed(error)
        }
    }
}

async fn work(call: Call, place: &Place, line: &Line, spent: &guest::Spent) -> Result<(), Stop> {
    match &place.resident.code {
        Some(code) => guest::answer(call, &**code, place, line, spent).await,
        None => chat::answer(call, place, line).await,
    }
}

fn late() -> CallError {
    CallError::Overloaded {
        code: "timed_out",
        what: "the time for this request is over".to_owned(),
        retry_after: RETRY_AFTER,
    }
}

fn usage(meter: &Meter, spent: &guest::Spent) -> Usage {
    let used = meter.read();
    let end = spent.read();
    Usage {
        prompt_tokens: used.prompt,
        cached_tokens: used.cached,
        completion_tokens: used.completion,
        device_ns: used.device_ns,
        sandbox_ns: end.cpu_ns,
        fuel: end.fuel,
        guest_bytes: end.memory_bytes,
    }
}
