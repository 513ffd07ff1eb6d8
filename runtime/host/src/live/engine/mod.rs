//! The engine on a thread of its own: jobs go in, streams come out, and no reader ever makes it wait.
//!
//! One thread owns the backbone's `Engine` and steps it while there is work. Each job has a bounded buffer of events:
//! when it is nearly full the job's sequences are held back (they give up seat and pages) until the reader has caught
//! up, and a reader that takes nothing for [`ServiceOptions::idle_limit`] loses its job. Dropping a [`JobStream`] cancels
//! within one step. Nothing here knows calls, functions or policies.

mod desk;
mod meter;
mod report;

pub use meter::{Meter, Used};
pub use report::{Observer, Part, Snapshot, StepReport, Unobserved};

use coldframe_backbone::adapter::{Adapter, Generation};
use coldframe_backbone::engine::{Engine, Reason, Spoken, Usage, Voice};
use coldframe_backbone::error::Error;
use coldframe_backbone::kv::TenantId;
use desk::{Command, Desk, Shared};
use meter::Open;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Events of a choice that a buffer must have room for before a step: its start, a token, its end, and the end it is
/// given when it is cancelled instead.
const EVENTS_A_CHOICE: usize = 4;

/// How long [`EngineService::meanwhile`] waits before it looks again whether the engine computes.
const MEANWHILE: Duration = Duration::from_millis(10);

/// Rests between two of its pieces, in times of a piece: it takes a fifth of a core at most. Arbitrary.
const RESTS: u32 = 4;

/// Settings of the service.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Events that a job's reader may lie behind before its sequences are held back. Arbitrary: a few seconds of text.
    pub buffered_events: usize,
    /// How long a reader may take nothing while its job is held back.
    pub idle_limit: Duration,
    /// Jobs between the callers and the thread; more wait. Arbitrary: the thread takes all of them before each step.
    pub inbox: usize,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self { buffered_events: 256, idle_limit: Duration::from_secs(30), inbox: 256 }
    }
}

/// Something to generate: one prompt, one or more choices.
pub struct Job {
    /// Whose it is.
    pub tenant: TenantId,
    /// The adapter; held until the job has ended.
    pub adapter: Option<Arc<Adapter>>,
    /// It gives way to those of functions in good standing.
    pub yields: bool,
    /// Token ids.
    pub prompt: Vec<u32>,
    /// Tokens of each choice at most; `None` is as many as context and pages allow.
    pub max_tokens: Option<usize>,
    /// One for each choice.
    pub voices: Vec<Box<dyn Voice>>,
    /// Counts what the job uses, read or not.
    pub meter: Arc<Meter>,
}

/// Something happened to a choice of a job.
#[derive(Debug)]
pub struct JobEvent {
    /// Which choice.
    pub choice: u32,
    /// When it happened on the engine's thread.
    pub at: Instant,
    /// What.
    pub what: Happened,
}

/// What happened to a choice. After [`Happened::Done`] or [`Happened::Failed`] it says no more.
#[derive(Debug)]
pub enum Happened {
    /// Its prompt is being computed, or was found.
    Started {
        /// Tokens of the prompt.
        prompt: usize,
        /// Of these, found in cached pages.
        cached: usize,
    },
    /// A token.
    Token(Spoken),
    /// It ended.
    Done {
        /// Why.
        reason: Reason,
        /// Text held back until now.
        text: String,
        /// What it used.
        usage: Usage,
    },
    /// It failed.
    Failed(JobError),
}

/// Why a job, or a choice of it, has no end of its own.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JobError {
    /// The backbone refused it or failed in it.
    #[error("{0}")]
    Backbone(Arc<Error>),
    /// The backbone cannot be used any more.
    #[error("the backbone is out of use: {0}")]
    Fenced(String),
    /// Its reader took nothing for too long.
    #[error("the reader took nothing for too long: read the answer as it comes")]
    SlowReader,
    /// The service is stopping.
    #[error("the engine is stopping")]
    Stopped,
}

/// What a stream and the thread tell each other beside the events.
#[derive(Debug, Default)]
struct Flags {
    /// The reader wants no more.
    cancelled: AtomicBool,
    /// The job is held back until the reader has caught up.
    held: AtomicBool,
}

/// A job under way. Dropping it cancels it within one step.
pub struct JobStream {
    events: mpsc::Receiver<JobEvent>,
    flags: Arc<Flags>,
    thread: Thread,
    /// Buffered events at which a job that is held back goes on.
    low: usize,
}

impl JobStream {
    /// The next event, waiting for it; `None` after the last choice's end. A dropped future loses nothing.
    pub async fn next(&mut self) -> Option<JobEvent> {
        let event = self.events.recv().await;
        if self.flags.held.load(Ordering::SeqCst) && self.events.len() <= self.low {
            self.thread.unpark();
        }
        event
    }

    /// Cancels it: ends with [`Reason::Cancelled`] still come.
    pub fn cancel(&self) {
        self.flags.cancelled.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for JobStream {
    fn drop(&mut self) {
        self.cancel();
    }
}

/// The engine's thread, from outside.
pub struct EngineService {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    thread: Thread,
    joined: Mutex<Option<JoinHandle<()>>>,
    options: ServiceOptions,
}

impl EngineService {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        engine: Engine,
        options: ServiceOptions,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        let (commands, inbox) = mpsc::channel(options.inbox.max(1));
        let shared = Arc::new(Shared::default());
        let desk = Desk::new(engine, inbox, shared.clone(), options.clone(), observer);
        let joined = std::thread::Builder::new().name("engine".to_owned()).spawn(move || desk.run())?;
        let thread = joined.thread().clone();
        Ok(Self { commands, shared, thread, joined: Mutex::new(Some(joined)), options })
    }

    /// Gives the engine a job. What it refuses comes as the stream's first event.
    ///
    /// # Errors
    /// [`JobError::Fenced`], [`JobError::Stopped`].
    pub async fn submit(&self, job: Job) -> Result<JobStream, JobError> {
        if let Some(reason) = self.fenced() {
            return Err(JobError::Fenced(reason.to_owned()));
        }
        let slack = EVENTS_A_CHOICE * job.voices.len() + 1;
        let (sender, events) = mpsc::channel(self.options.buffered_events.max(1) + slack);
        let flags = Arc::new(Flags::default());
        let open = Open::new(&job.meter);
        let command = Command::Submit { job: Box::new(job), sender, flags: flags.clone(), open };
        self.commands.send(command).await.map_err(|_| JobError::Stopped)?;
        self.thread.unpark();
        let low = self.options.buffered_events / 4;
        Ok(JobStream { events, flags, thread: self.thread.clone(), low })
    }

    /// Drops the cached pages of a generation, when its adapter is unloaded; sequences in flight go on.
    ///
    /// Returns how many pages.
    pub async fn forget(&self, generation: Generation) -> u32 {
        let (sender, answer) = oneshot::channel();
        if self.commands.send(Command::Forget(generation, sender)).await.is_err() {
            return 0;
        }
        self.thread.unpark();
        answer.await.unwrap_or(0)
    }

    /// As [`EngineService::forget`], before the next step, without waiting for the one under way.
    pub async fn forget_soon(&self, generation: Generation) {
        // Nobody hears the answer.
        let (sender, _) = oneshot::channel();
        if self.commands.send(Command::Forget(generation, sender)).await.is_ok() {
            self.thread.unpark();
        }
    }

    /// Has work done on a thread of its own, a piece at a time with rests in between, and none while the engine computes:
    /// `piece` says whether there is more. For work that nobody waits for; ends with the engine. The thread has the usual weight:
    /// a piece may hold locks of the whole process, which one that gets no core would not give back.
    pub fn meanwhile(&self, name: &str, mut piece: impl FnMut() -> bool + Send + 'static) {
        let shared = self.shared.clone();
        let work = move || {
            while !shared.closing.load(Ordering::SeqCst) && shared.fence.get().is_none() {
                if shared.busy.load(Ordering::SeqCst) {
                    std::thread::sleep(MEANWHILE);
                    continue;
                }
                let begun = Instant::now();
                if !piece() {
                    return;
                }
                std::thread::sleep(begun.elapsed() * RESTS);
            }
        };
        // Nothing depends on it.
        let _ = std::thread::Builder::new().name(name.to_owned()).spawn(work);
    }

    /// Counts and gauges, as of the last step.
    pub fn snapshot(&self) -> Snapshot {
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the backbone can't be used any more, if so.
    pub fn fenced(&self) -> Option<&str> {
        self.shared.fence.get().map(String::as_str)
    }

    /// Takes the backbone out of use for good: every job fails, none is taken.
    pub fn fence(&self, reason: String) {
        // The first reason stands.
        let _ = self.shared.fence.set(reason);
        self.thread.unpark();
    }

    /// Ends the thread after the step it is in; jobs under way fail with [`JobError::Stopped`].
    pub fn stop(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}

impl Drop for EngineService {
    fn drop(&mut self) {
        self.stop();
        let joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(joined) = joined.filter(|joined| joined.thread().id() != std::thread::current().id()) {
            // A panic of the thread was told to every job already.
            let _ = joined.join();
        }
    }
}
