//! The handle to the task that owns the core: calls in, what operators want in, what is where out.

use super::driver::{self, Driver, Message};
use super::events::EventLog;
use super::functions::{Estimates, backbone_named};
use super::residency::Residency;
use super::seam::{Executors, FunctionInfo, FunctionKey};
use crate::call::{Answer, Call, CallError, Caller, Later};
use crate::meter::LedgerSink;
use crate::records::{Generation, Names};
use coldframe_policy::config::PolicyConfig;
use coldframe_policy::spec::BackboneSpec;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

/// Memory that the policy may use, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Of the device: weights, adapters and KV pages together.
    pub device: u64,
    /// Of the host: code and copies of adapters that left the device.
    pub host: u64,
}

/// A backbone that functions may name.
#[derive(Debug, Clone, PartialEq)]
pub struct BackboneInfo {
    /// Its name in the server's configuration.
    pub name: String,
    /// What the core is told of it.
    pub spec: BackboneSpec,
}

/// Makes the event log once its header is known.
pub type MakeLog = Box<dyn FnOnce(&coldframe_policy::log::Header) -> std::io::Result<EventLog> + Send>;

/// How a live core starts.
pub struct LiveOptions {
    /// The policy, a preset's or a user's own.
    pub policy: PolicyConfig,
    /// Backbones, by number.
    pub backbones: Vec<BackboneInfo>,
    /// Memory.
    pub budget: Budget,
    /// Times of this machine.
    pub estimates: Estimates,
    /// Calls at once, waiting and running. More are refused before the core sees them.
    pub max_calls: usize,
    /// The event log, where one is kept. Makes the log once the header is known.
    pub log: Option<MakeLog>,
    /// Where ledger rows go.
    pub ledger: Arc<dyn LedgerSink>,
    /// Look for contradictions in the book after every event: for tests, costs time that grows with the fleet.
    pub checked: bool,
}

/// What changed among the functions.
#[derive(Debug, Clone, PartialEq)]
pub enum CatalogChange {
    /// A generation may be called from now on. Adding it twice is adding it once.
    Added {
        /// Whose.
        names: Names,
        /// What.
        generation: Arc<Generation>,
    },
    /// A generation is gone: who waits for it is refused, what runs goes on.
    Removed {
        /// Whose.
        names: Names,
        /// Its id.
        generation: String,
    },
}

/// How deep a function sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sleep {
    /// Its device memory is given back; host memory keeps a copy.
    Device,
    /// Host memory is given back as well.
    All,
}

/// Why something asked of the live core did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LiveError {
    /// No such function or generation.
    #[error("no generation `{generation}` of `{function}` is registered here")]
    Unknown {
        /// Which function.
        function: String,
        /// Which generation.
        generation: String,
    },
    /// A backbone that this server does not have.
    #[error("no backbone `{name}` is configured; there are: {known}")]
    Backbone {
        /// What was named.
        name: String,
        /// What there is.
        known: String,
    },
    /// The core's task has ended.
    #[error("the host is shutting down")]
    Gone,
}

/// What operators ask for, by function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    Pin(bool),
    Warm,
    Sleep(Sleep),
}

/// The handle. Its clones are the same core; when the last is dropped, the task ends what runs and stops.
#[derive(Clone)]
pub struct Live {
    messages: mpsc::UnboundedSender<Message>,
    executors: Arc<dyn Executors>,
    backbones: Arc<[String]>,
    room: Arc<Semaphore>,
    tickets: Arc<AtomicU64>,
}

impl Live {
    /// Starts the task. It ends when every handle is dropped and nothing runs.
    ///
    /// # Errors
    /// Where the event log can't be made.
    pub fn start(
        options: LiveOptions,
        executors: Arc<dyn Executors>,
    ) -> std::io::Result<(Self, JoinHandle<()>)> {
        let names: Arc<[String]> = options.backbones.iter().map(|backbone| backbone.name.clone()).collect();
        let room = Arc::new(Semaphore::new(options.max_calls));
        let (messages, inbox) = mpsc::unbounded_channel();
        let driver = Driver::new(options, executors.clone())?;
        let task = tokio::spawn(driver::run(driver, inbox));
        let tickets = Arc::default();
        Ok((Self { messages, executors, backbones: names, room, tickets }, task))
    }

    /// Tells of a function that came or went.
    ///
    /// # Errors
    /// [`LiveError::Backbone`] for a generation made for a backbone that is not here; [`LiveError::Gone`].
    pub fn apply(&self, change: CatalogChange) -> Result<(), LiveError> {
        match change {
            CatalogChange::Added { names, generation } => {
                let info = self.info(names, Some(generation))?;
                self.send(Message::Add(info))
            }
            CatalogChange::Removed { names, generation } => {
                self.send(Message::Remove(FunctionKey { names, generation: Some(generation) }))
            }
        }
    }

    /// Never evicts a generation from now on, and brings it into place; or lets it go.
    ///
    /// # Errors
    /// [`LiveError`].
    pub async fn pin(&self, names: &Names, generation: &str, pinned: bool) -> Result<(), LiveError> {
        self.wish(names, generation, Wish::Pin(pinned)).await
    }

    /// Brings a generation into place, as far as idle ones make room; returns when that has begun.
    ///
    /// # Errors
    /// [`LiveError`].
    pub async fn warm(&self, names: &Names, generation: &str) -> Result<(), LiveError> {
        self.wish(names, generation, Wish::Warm).await
    }

    /// Puts a generation to sleep; the next call wakes it, as [`Live::warm`] does.
    ///
    /// # Errors
    /// [`LiveError`].
    pub async fn sleep(&self, names: &Names, generation: &str, level: Sleep) -> Result<(), LiveError> {
        self.wish(names, generation, Wish::Sleep(level)).await
    }

    /// Lets another policy decide. What waits is decided anew, what runs goes on.
    ///
    /// # Errors
    /// [`LiveError::Gone`].
    pub async fn set_policy(&self, policy: PolicyConfig) -> Result<(), LiveError> {
        let (done, changed) = oneshot::channel();
        self.send(Message::Policy(Box::new(policy), done))?;
        changed.await.map_err(|_| LiveError::Gone)
    }

    /// The policy that decides.
    ///
    /// # Errors
    /// [`LiveError::Gone`].
    pub async fn policy(&self) -> Result<PolicyConfig, LiveError> {
        let (answer, asked) = oneshot::channel();
        self.send(Message::AskPolicy(answer))?;
        asked.await.map(|policy| *policy).map_err(|_| LiveError::Gone)
    }

    /// What is where now.
    ///
    /// # Errors
    /// [`LiveError::Gone`].
    pub async fn residency(&self) -> Result<Residency, LiveError> {
        let (answer, asked) = oneshot::channel();
        self.send(Message::Look(answer))?;
        asked.await.map(|seen| *seen).map_err(|_| LiveError::Gone)
    }

    /// Takes no more calls; returns when none is left.
    ///
    /// # Errors
    /// [`LiveError::Gone`].
    pub async fn drain(&self) -> Result<(), LiveError> {
        let (done, drained) = oneshot::channel();
        self.send(Message::Drain(done))?;
        drained.await.map_err(|_| LiveError::Gone)
    }

    async fn wish(&self, names: &Names, generation: &str, wish: Wish) -> Result<(), LiveError> {
        let key = FunctionKey { names: names.clone(), generation: Some(generation.to_owned()) };
        let (answer, asked) = oneshot::channel();
        self.send(Message::Wish(key, wish, answer))?;
        match asked.await.map_err(|_| LiveError::Gone)? {
            true => Ok(()),
            false => Err(LiveError::Unknown {
                function: names.function.clone(),
                generation: generation.to_owned(),
            }),
        }
    }

    fn send(&self, message: Message) -> Result<(), LiveError> {
        self.messages.send(message).map_err(|_| LiveError::Gone)
    }

    fn info(&self, names: Names, generation: Option<Arc<Generation>>) -> Result<FunctionInfo, LiveError> {
        let name = generation.as_ref().map_or(&names.function, |generation| &generation.backbone);
        let backbone = backbone_named(&self.backbones, name)
            .ok_or_else(|| LiveError::Backbone { name: name.clone(), known: self.backbones.join(", ") })?;
        let id = generation.as_ref().map(|generation| generation.id.clone());
        Ok(FunctionInfo { key: FunctionKey { names, generation: id }, backbone, generation })
    }

    async fn start_call(&self, call: Call) -> Result<Answer, CallError> {
        let gone = || overloaded("draining", "the host is shutting down", Duration::from_secs(1));
        let info = self.info(call.names.clone(), call.generation.clone());
        let info = info.map_err(|error| CallError::Start(error.to_string()))?;
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            return Err(overloaded(
                "queue_full",
                "the host has as many calls as it may",
                Duration::from_secs(1),
            ));
        };
        let size = self.executors.size(&call).await;
        let (ticket, deadline) = (self.tickets.fetch_add(1, Ordering::Relaxed), call.deadline);
        let (answer, admitted) = oneshot::channel();
        let asked = driver::Asked { ticket, call, info, size, answer, _room: room };
        self.messages.send(Message::Call(Box::new(asked))).map_err(|_| gone())?;
        let mut waiting = Waiting { ticket: Some(ticket), messages: &self.messages };
        let answered = tokio::time::timeout_at(deadline.into(), admitted).await;
        match answered {
            Err(_) => {
                Err(overloaded("timed_out", "the time for this request is over", Duration::from_secs(1)))
            }
            Ok(answer) => {
                waiting.ticket = None;
                answer.unwrap_or_else(|_| Err(gone()))
            }
        }
    }
}

/// Tells the core when who waits goes away.
struct Waiting<'a> {
    ticket: Option<u64>,
    messages: &'a mpsc::UnboundedSender<Message>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            // A core that has ended has forgotten it.
            let _ = self.messages.send(Message::GivenUp(ticket));
        }
    }
}

pub(super) fn overloaded(code: &'static str, what: &str, retry_after: Duration) -> CallError {
    CallError::Overloaded { code, what: what.to_owned(), retry_after }
}

impl Caller for Live {
    fn call(&self, call: Call) -> Later<'_, Result<Answer, CallError>> {
        Box::pin(self.start_call(call))
    }
}
