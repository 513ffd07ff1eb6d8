//! The line to the caller: events in order, the first one with where the time went.

use crate::call::{CallError, CallEvent, Cold, Finish, Phases};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Where a call's events go.
pub type Events = mpsc::Sender<Result<CallEvent, CallError>>;

/// What happened to a call before it was run: loads and parking, as the policy's executors timed them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before {
    /// Phases spent; `prepare`, `queue`, `prefill` and `handler` are added by the run.
    pub phases: Phases,
    /// How cold it was.
    pub cold: Cold,
}

/// Why a call goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// The caller has gone.
    Gone,
    /// It failed.
    Failed(CallError),
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Failed(error)
    }
}

/// The engine's part of the time before the first token.
#[derive(Debug, Default)]
struct Engine {
    submitted: Option<Instant>,
    started: Option<Instant>,
    spoke: Option<Instant>,
}

/// One call's line; its clones are the same line.
#[derive(Clone)]
pub(super) struct Line(Arc<Inner>);

struct Inner {
    events: Events,
    before: Before,
    arrived: Instant,
    began: Instant,
    /// Whether what is left of the time is the code's (else it went into preparing).
    by_code: bool,
    engine: Mutex<Engine>,
    first: OnceLock<Phases>,
    finished: Mutex<Vec<Finish>>,
}

impl Line {
    pub(super) fn new(events: Events, before: Before, arrived: Instant, by_code: bool) -> Self {
        Self(Arc::new(Inner {
            events,
            before,
            arrived,
            began: Instant::now(),
            by_code,
            engine: Mutex::default(),
            first: OnceLock::new(),
            finished: Mutex::default(),
        }))
    }

    /// Sends an event; waits while the caller is slow.
    pub(super) async fn send(&self, event: CallEvent) -> Result<(), Stop> {
        if let CallEvent::Done { finish, .. } = &event {
            self.0.finished.lock().unwrap_or_else(PoisonError::into_inner).push(finish.clone());
        }
        self.0.events.send(Ok(event)).await.map_err(|_| Stop::Gone)
    }

    /// Tells the first token, once.
    pub(super) async fn first(&self) -> Result<(), Stop> {
        if self.0.first.get().is_some() {
            return Ok(());
        }
        let phases = *self.0.first.get_or_init(|| self.phases(Instant::now()));
        self.send(CallEvent::First { phases, cold: self.0.before.cold }).await
    }

    /// Phases and coldness, once the first token was told.
    pub(super) fn told(&self) -> Option<(Phases, Cold)> {
        self.0.first.get().map(|phases| (*phases, self.0.before.cold))
    }

    /// Why each choice ended, of those that did.
    pub(super) fn finished(&self) -> Vec<Finish> {
        std::mem::take(&mut *self.0.finished.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the caller has gone.
    pub(super) async fn gone(&self) {
        self.0.events.closed().await;
    }

    pub(super) fn is_gone(&self) -> bool {
        self.0.events.is_closed()
    }

    /// Sends the error that ends the call, if anyone is there.
    pub(super) async fn fail(&self, error: CallError) {
        // Whoever has gone needs no error.
        let _ = self.0.events.send(Err(error)).await;
    }

    /// The call's first job went to the engine.
    pub(super) fn submitted(&self) {
        self.note(|engine| &mut engine.submitted, Instant::now());
    }

    /// The engine took it up.
    pub(super) fn started(&self, at: Instant) {
        self.note(|engine| &mut engine.started, at);
    }

    /// Its first token came.
    pub(super) fn spoke(&self, at: Instant) {
        self.note(|engine| &mut engine.spoke, at);
    }

    /// Notes a time, of the call's first job only.
    fn note(&self, place: impl FnOnce(&mut Engine) -> &mut Option<Instant>, at: Instant) {
        let mut engine = self.0.engine.lock().unwrap_or_else(PoisonError::into_inner);
        place(&mut engine).get_or_insert(at);
    }

    /// Where the time until `now` went; the phases sum to it.
    fn phases(&self, now: Instant) -> Phases {
        let engine = self.0.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => to.saturating_duration_since(from),
            _ => Duration::ZERO,
        };
        let mut phases = self.0.before.phases;
        (phases.prepare, phases.handler) = (Duration::ZERO, Duration::ZERO);
        let waited = self.0.began.saturating_duration_since(self.0.arrived);
        let before = waited.saturating_sub(phases.total());
        phases.queue = between(engine.submitted, engine.started);
        phases.prefill = between(engine.started, engine.spoke);
        if self.0.by_code {
            phases.prepare = before;
        }
        let rest = now.saturating_duration_since(self.0.arrived).saturating_sub(phases.total());
        let place = if self.0.by_code { &mut phases.handler } else { &mut phases.prepare };
        *place += rest;
        phases
    }
}
