//! The ledger's counter: rows are handed over on the request path without waiting and written a few times a second.
//!
//! A row is durable within a second of [`Ledger::record`] while the disk takes writes. While it does not, rows wait in
//! memory, up to a limit; what is turned away is counted, never silently gone. Rows have names, so a repeat after an
//! unknown outcome adds nothing twice.

use super::StoreError;
use super::journal::{Book, Journal, Row};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// Time between two writes; half of the second that is promised.
const PERIOD: Duration = Duration::from_millis(500);
/// Rows in one write.
const WRITE_MAX: usize = 2_000;
/// Rows that may wait. Arbitrary: minutes of a busy server.
const WAITING_MAX: usize = 100_000;

enum Message {
    Row(Box<Row>),
    Flush(oneshot::Sender<Result<(), StoreError>>),
    Close,
}

/// Where rows are handed over. Clones share it.
#[derive(Clone)]
pub struct Ledger {
    messages: mpsc::Sender<Message>,
    lost: Arc<AtomicU64>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Ledger {
    /// Starts writing rows into a book. The task ends, everything written, when the last clone is dropped.
    pub fn start(journal: Arc<dyn Journal>, book: Book) -> Self {
        let (messages, received) = mpsc::channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let desk = Desk { journal, book, waiting: Vec::new(), lost: Arc::clone(&lost) };
        let task = Arc::new(Mutex::new(Some(tokio::spawn(desk.work(received)))));
        Self { messages, lost, task }
    }

    /// Hands a row over. `false`: it was turned away, because too many wait.
    pub fn record(&self, row: Row) -> bool {
        let taken = self.messages.try_send(Message::Row(Box::new(row))).is_ok();
        if !taken {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }

    /// Rows that will never be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over before is durable.
    ///
    /// # Errors
    /// The store takes nothing now; the rows still wait.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let ended = || StoreError::Unavailable("the ledger has ended".to_owned());
        let (reply, answer) = oneshot::channel();
        self.messages.send(Message::Flush(reply)).await.map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Writes what waits, if the store takes it, and lets the store go. Rows handed over later are turned away.
    pub async fn close(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // Either fails only where the task has ended already.
            let _ = self.messages.send(Message::Close).await;
            let _ = task.await;
        }
    }
}

struct Desk {
    journal: Arc<dyn Journal>,
    book: Book,
    waiting: Vec<Row>,
    lost: Arc<AtomicU64>,
}

impl Desk {
    async fn work(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.write_and_tell().await,
                // While as many wait as may, no more are taken and `record` says so.
                message = messages.recv(), if self.waiting.len() < WAITING_MAX => match message {
                    Some(Message::Row(row)) => {
                        self.waiting.push(*row);
                        if self.waiting.len().is_multiple_of(WRITE_MAX) {
                            self.write_and_tell().await;
                        }
                    }
                    // Whoever asked may have gone.
                    Some(Message::Flush(reply)) => drop(reply.send(self.write().await)),
                    Some(Message::Close) | None => break,
                },
            }
        }
        self.write_and_tell().await;
    }

    async fn write_and_tell(&mut self) {
        if let Err(problem) = self.write().await {
            tracing::warn!(%problem, rows = self.waiting.len(), "rows of the ledger wait");
        }
    }

    async fn write(&mut self) -> Result<(), StoreError> {
        while !self.waiting.is_empty() {
            let count = self.waiting.len().min(WRITE_MAX);
            match self.journal.append(self.book, self.waiting[..count].to_vec()).await {
                Ok(()) => drop(self.waiting.drain(..count)),
                Err(StoreError::Rejected(_)) => self.write_singly(count).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// One of these rows is refused for good: the others go in without it.
    async fn write_singly(&mut self, count: usize) -> Result<(), StoreError> {
        for _ in 0..count {
            match self.journal.append(self.book, vec![self.waiting[0].clone()]).await {
                Err(StoreError::Rejected(problem)) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%problem, row = %self.waiting[0].name, "a row of the ledger is refused");
                }
                outcome => outcome?,
            }
            self.waiting.remove(0);
        }
        Ok(())
    }
}
