//! What a call uses of the engine, counted where it happens: also for jobs that nobody reads to their end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Counts of one call, over all its jobs.
#[derive(Debug, Default)]
pub struct Meter {
    prompt: AtomicU64,
    cached: AtomicU64,
    completion: AtomicU64,
    device_ns: AtomicU64,
    /// Jobs that the engine still has.
    open: AtomicUsize,
    settled: Notify,
}

/// What a [`Meter`] shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Used {
    /// Tokens of prompts.
    pub prompt: u64,
    /// Of these, found in cached pages.
    pub cached: u64,
    /// Tokens generated.
    pub completion: u64,
    /// Share of the steps' time by share of their tokens, nanoseconds.
    pub device_ns: u64,
}

impl Meter {
    /// Counts so far.
    pub fn read(&self) -> Used {
        let value = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        Used {
            prompt: value(&self.prompt),
            cached: value(&self.cached),
            completion: value(&self.completion),
            device_ns: value(&self.device_ns),
        }
    }

    /// Waits until the engine has none of the call's jobs: at most a step after the last was cancelled.
    pub async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Registered before the look, so that an end between the two is not missed.
            settled.as_mut().enable();
            if self.open.load(Ordering::SeqCst) == 0 {
                return;
            }
            settled.await;
        }
    }

    pub(super) fn started(&self, prompt: usize, cached: usize) {
        self.prompt.fetch_add(prompt as u64, Ordering::Release);
        self.cached.fetch_add(cached as u64, Ordering::Release);
    }

    pub(super) fn token(&self) {
        self.completion.fetch_add(1, Ordering::Release);
    }

    pub(super) fn device(&self, ns: u64) {
        self.device_ns.fetch_add(ns, Ordering::Release);
    }
}

/// A job that the engine has; its drop closes it.
pub(super) struct Open(Arc<Meter>);

impl Open {
    pub(super) fn new(meter: &Arc<Meter>) -> Self {
        meter.open.fetch_add(1, Ordering::SeqCst);
        Self(meter.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.settled.notify_waiters();
        }
    }
}
