//! All of a store in memory: the model that durable back ends are held to, and a store for tests that need none.
//!
//! It keeps the same rules in the plainest way and nothing past its own end. [`Flaky`](super::flaky::Flaky) around it
//! answers as a network would.

mod blobs;
mod jobs;
mod journal;
mod registry;
mod state;

pub use blobs::MemoryBlobs;

use super::clock::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Records, jobs, books and state in memory.
pub struct Memory {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    registry: registry::Records,
    jobs: jobs::Queues,
    books: journal::Books,
    state: state::Values,
}

impl Memory {
    /// An empty store.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, inner: Mutex::default() }
    }

    /// What a start after a crash does to a durable store: leases are void, watchers gone.
    pub fn reopen(&self) {
        let mut inner = self.inner();
        inner.registry.let_watchers_go();
        inner.jobs.void_leases();
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
