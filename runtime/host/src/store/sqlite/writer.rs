//! The thread that writes a database: work that comes within two milliseconds shares one commit and one sync.
//!
//! Each piece of work runs in a savepoint, so that one that is refused leaves its neighbours alone. Nobody hears of
//! anything before the commit is on the disk. Work has no timeout: it is done or it fails.

use super::super::hub::{self, Hub};
use super::super::{Change, Result, StoreError};
use super::acked::Acked;
use super::faults::{Fault, is_fatal, translate};
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long a commit waits for company.
const GATHER: Duration = Duration::from_millis(2);
/// Pieces of work in a commit.
const BATCH_MAX: usize = 256;
/// Pieces of work that may wait; more are turned away.
const WAITING_MAX: usize = 4_096;
/// Bytes written between two checkpoints, about: the write-ahead log stays near this size.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// Bytes a commit adds to the log beside its work, about: a few pages.
const COMMIT_BYTES: u64 = 16 << 10;

/// What work sees.
pub(super) struct Session<'a> {
    /// Inside the batch's transaction.
    pub connection: &'a Connection,
    /// What watchers are told after the commit.
    pub changes: Vec<Change>,
    /// Bytes written, about.
    pub bytes: u64,
}

trait Work: Send {
    /// Does it; an error of the database comes back to the batch.
    fn run(&mut self, session: &mut Session<'_>) -> std::result::Result<bool, rusqlite::Error>;
    /// Tells whoever asked, once the commit is settled.
    fn answer(self: Box<Self>, commit: Result<()>);
}

struct Asked<T, F> {
    work: Option<F>,
    outcome: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Work for Asked<T, F>
where
    T: Send,
    F: FnOnce(&mut Session<'_>) -> std::result::Result<T, Fault> + Send,
{
    fn run(&mut self, session: &mut Session<'_>) -> std::result::Result<bool, rusqlite::Error> {
        let work = self.work.take().expect("work runs once");
        match work(session) {
            Ok(done) => {
                self.outcome = Some(Ok(done));
                Ok(true)
            }
            Err(Fault::Refused(error)) => {
                self.outcome = Some(Err(error));
                Ok(false)
            }
            Err(Fault::Broken(error)) => {
                self.outcome = Some(Err(translate(&error)));
                Err(error)
            }
        }
    }

    fn answer(self: Box<Self>, commit: Result<()>) {
        let Self { outcome, reply, .. } = *self;
        let untried = || Err(StoreError::Unavailable("the write was not tried".to_owned()));
        // Whoever asked may have gone; what was done stays done.
        let _ = reply.send(commit.and_then(|()| outcome.unwrap_or_else(untried)));
    }
}

/// A backlog for a watcher: `None` where it must list again.
pub(super) type Backlog =
    fn(&Connection, &str, u64) -> std::result::Result<Option<Vec<Change>>, rusqlite::Error>;

enum Message {
    Write(Box<dyn Work>),
    Watch {
        prefix: String,
        from: u64,
        backlog: Backlog,
        reply: oneshot::Sender<Result<mpsc::Receiver<Change>>>,
    },
    Stop,
}

/// Asks the writing thread.
pub(super) struct Writer {
    queue: SyncSender<Message>,
    broken: Arc<OnceLock<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread that owns `connection` from now on.
    pub fn start(connection: Connection, acked: Acked, path: PathBuf) -> std::io::Result<Self> {
        let (queue, messages) = sync_channel(WAITING_MAX);
        let broken = Arc::new(OnceLock::new());
        let mut desk = Desk {
            connection,
            acked,
            path,
            broken: Arc::clone(&broken),
            hub: Hub::default(),
            since_checkpoint: 0,
        };
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            desk.work(&messages);
            desk.close();
        })?;
        Ok(Self { queue, broken, thread: Mutex::new(Some(thread)) })
    }

    /// Why nothing is written any more, where that is so.
    pub fn broken(&self) -> Option<String> {
        self.broken.get().cloned()
    }

    fn send(&self, message: Message) -> Result<()> {
        self.queue.try_send(message).map_err(|refused| {
            StoreError::Unavailable(match refused {
                TrySendError::Full(_) => "too many writes wait: try again in a second".to_owned(),
                TrySendError::Disconnected(_) => "the store is closed".to_owned(),
            })
        })
    }

    /// Writes; durable when it returns.
    pub async fn write<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Session<'_>) -> std::result::Result<T, Fault> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Write(Box::new(Asked { work: Some(work), outcome: None, reply })))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store ended meanwhile".to_owned())))
    }

    /// Watches; in order with commits, so that nothing falls between backlog and news.
    pub async fn watch(&self, prefix: String, from: u64, backlog: Backlog) -> Result<mpsc::Receiver<Change>> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Watch { prefix, from, backlog, reply })?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store ended meanwhile".to_owned())))
    }

    /// Does what waits, moves the log into the database and ends.
    pub fn stop(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Waits for room where the queue is full; fails only where the thread has ended already.
            let _ = self.queue.send(Message::Stop);
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the thread owns.
struct Desk {
    connection: Connection,
    acked: Acked,
    path: PathBuf,
    broken: Arc<OnceLock<String>>,
    hub: Hub,
    since_checkpoint: u64,
}

impl Desk {
    fn work(&mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Stop => return,
                    Message::Watch { prefix, from, backlog, reply } => {
                        let _ = reply.send(self.watch(&prefix, from, backlog));
                    }
                    Message::Write(work) => {
                        let (batch, other) = gather(work, messages);
                        self.batch(batch);
                        next = other;
                    }
                }
            }
        }
    }

    fn watch(&mut self, prefix: &str, from: u64, backlog: Backlog) -> Result<mpsc::Receiver<Change>> {
        let missed = backlog(&self.connection, prefix, from).map_err(|error| translate(&error))?;
        Ok(missed.map_or_else(hub::lagged, |missed| self.hub.join(prefix, missed)))
    }

    fn batch(&mut self, mut batch: Vec<Box<dyn Work>>) {
        let commit = match self.broken.get() {
            Some(reason) => Err(StoreError::Unavailable(reason.clone())),
            None => self.commit(&mut batch),
        };
        for work in batch {
            work.answer(commit.clone());
        }
        if commit.is_ok() && self.since_checkpoint >= CHECKPOINT_BYTES {
            self.checkpoint();
        }
    }

    fn commit(&mut self, batch: &mut [Box<dyn Work>]) -> Result<()> {
        match self.transact(batch) {
            Ok((changes, commits)) => {
                if let Err(problem) = self.acked.note(commits) {
                    tracing::warn!(%problem, "the number of acknowledged commits could not be noted");
                }
                changes.iter().for_each(|change| self.hub.publish(change));
                Ok(())
            }
            Err(error) => {
                if !self.connection.is_autocommit() {
                    // A failed statement may leave the transaction open; nothing of it is to stay.
                    let _ = self.connection.execute_batch("ROLLBACK");
                }
                self.failed(&error);
                Err(translate(&error))
            }
        }
    }

    /// Everything of a batch in one transaction; what watchers are told, and the number of the commit.
    fn transact(&mut self, batch: &mut [Box<dyn Work>]) -> rusqlite::Result<(Vec<Change>, u64)> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut session = Session { connection: &self.connection, changes: Vec::new(), bytes: COMMIT_BYTES };
        for work in batch {
            session.connection.execute_batch("SAVEPOINT work")?;
            let told = session.changes.len();
            let outcome = work.run(&mut session);
            if session.connection.is_autocommit() {
                // The database ended the whole transaction: nothing of the batch was stored.
                return Err(outcome.err().unwrap_or(rusqlite::Error::InvalidQuery));
            }
            if !matches!(outcome, Ok(true)) {
                session.changes.truncate(told);
                session.connection.execute_batch("ROLLBACK TO work")?;
            }
            session.connection.execute_batch("RELEASE work")?;
        }
        let count = "UPDATE meta SET number = number + 1 WHERE name = 'commits' RETURNING number";
        let commits: i64 = session.connection.query_row(count, [], |row| row.get(0))?;
        let (changes, bytes) = (session.changes, session.bytes);
        self.connection.execute_batch("COMMIT")?;
        self.since_checkpoint += bytes;
        Ok((changes, super::unsigned(commits)))
    }

    /// Moves the log into the database. Readers are not disturbed; what they still need stays for the next time.
    fn checkpoint(&mut self) {
        match self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
            Ok(()) => self.since_checkpoint = 0,
            Err(error) => {
                // Nothing is lost: the log still holds it. Tried again after as many bytes.
                self.since_checkpoint = 0;
                tracing::warn!(%error, database = %self.path.display(), "the log could not be moved into the database");
                self.failed(&error);
            }
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        if is_fatal(error) {
            let path = self.path.display();
            let reason = format!(
                "{path}: {error}; what is on the disk is not known, so nothing is written until the server is started \
                 again: check the disk first; reads go on"
            );
            tracing::error!(%reason, "the store is read-only");
            let _ = self.broken.set(reason);
            self.hub.lag_all();
        }
    }

    fn close(self) {
        if self.broken.get().is_none() {
            // A failure leaves the log, which the next start reads.
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

/// More work for the same commit, and the message that ended the gathering.
fn gather(first: Box<dyn Work>, messages: &Receiver<Message>) -> (Vec<Box<dyn Work>>, Option<Message>) {
    let mut batch = vec![first];
    let until = Instant::now() + GATHER;
    while batch.len() < BATCH_MAX {
        match messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Message::Write(work)) => batch.push(work),
            Ok(other) => return (batch, Some(other)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    (batch, None)
}
