//! Threads that run one program together and meet at barriers.
//!
//! A decode step has hundreds of phases of a few microseconds, far below what a task pool can start and join. So every
//! thread runs the whole step, claims pieces of each phase from a counter, and spins at a barrier between phases. Who
//! waits longer than a phase takes sleeps instead: the thread it waits for may have lost its core to another process, and
//! spinning would only keep it from coming back.

#![expect(unsafe_code, reason = "the job is lent to the threads for the length of one call")]

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Spins before a waiting thread sleeps: about 100 microseconds, longer than threads are apart that have a core each.
const SPINS: u32 = 5_000;

type Job = *const (dyn Fn(&Worker<'_>) + Sync);

struct Shared {
    /// Generation of the job; odd values never occur.
    epoch: AtomicUsize,
    job: std::cell::UnsafeCell<Option<Job>>,
    arrived: AtomicUsize,
    turn: AtomicUsize,
    running: AtomicUsize,
    poisoned: AtomicBool,
    closing: AtomicBool,
    threads: usize,
    /// Threads that sleep, or are about to.
    asleep: AtomicUsize,
    bed: Mutex<()>,
    alarm: Condvar,
}

impl Shared {
    /// Spins, then sleeps, until `done`; whoever makes it so calls [`Shared::wake`] afterwards.
    fn wait(&self, done: impl Fn() -> bool) {
        for _ in 0..SPINS {
            if done() {
                return;
            }
            std::hint::spin_loop();
        }
        let mut bed = self.bed.lock().unwrap_or_else(PoisonError::into_inner);
        self.asleep.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence of `wake`: either the waker sees this sleeper, or `done` sees what the waker did.
        fence(Ordering::SeqCst);
        while !done() {
            bed = self.alarm.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.asleep.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the threads whose condition may have come true.
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) > 0 {
            drop(self.bed.lock().unwrap_or_else(PoisonError::into_inner));
            self.alarm.notify_all();
        }
    }
}

// SAFETY: `job` is written by the caller of `run` only while no worker runs, and read only after `epoch` announces it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer is only followed while `run` keeps its target alive.
unsafe impl Send for Shared {}

/// A team of threads, the caller being the first.
pub struct Team {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

/// What a thread of the team knows while it runs a job.
pub struct Worker<'a> {
    shared: &'a Shared,
    /// Its number, from 0.
    pub index: usize,
}

impl Worker<'_> {
    /// Waits until every thread of the team is here. What was written before is seen after.
    ///
    /// # Panics
    /// When another thread of the team panicked.
    pub fn barrier(&self) {
        let shared = self.shared;
        if shared.threads == 1 {
            return;
        }
        let turn = shared.turn.load(Ordering::Relaxed);
        if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == shared.threads {
            shared.arrived.store(0, Ordering::Relaxed);
            shared.turn.store(turn.wrapping_add(1), Ordering::Release);
            shared.wake();
            return;
        }
        shared
            .wait(|| shared.turn.load(Ordering::Acquire) != turn || shared.poisoned.load(Ordering::Relaxed));
        assert!(!shared.poisoned.load(Ordering::Relaxed), "another thread of the team panicked");
    }

    /// Ranges of `0..count`, at most `grain` long, that no other thread gets from the same counter.
    pub fn claim<'c>(
        &self,
        counter: &'c AtomicUsize,
        count: usize,
        grain: usize,
    ) -> impl Iterator<Item = Range<usize>> + use<'c> {
        let grain = grain.max(1);
        std::iter::from_fn(move || {
            let start = counter.fetch_add(grain, Ordering::Relaxed);
            (start < count).then(|| start..(start + grain).min(count))
        })
    }

    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }
}

impl Team {
    /// A team of `threads` threads, at least one.
    pub fn new(threads: usize) -> Self {
        let threads = threads.max(1);
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: std::cell::UnsafeCell::new(None),
            arrived: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            poisoned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            threads,
            asleep: AtomicUsize::new(0),
            bed: Mutex::new(()),
            alarm: Condvar::new(),
        });
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let name = format!("coldframe-{index}");
            thread::Builder::new()
                .name(name)
                .spawn(move || serve(&shared, index))
                .expect("the system starts threads")
        };
        let handles = (1..threads).map(start).collect();
        Self { shared, handles }
    }

    /// Threads in the team.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `job` on every thread and returns when all are done.
    ///
    /// # Panics
    /// When the job panics on any thread.
    pub fn run(&mut self, job: &(dyn Fn(&Worker<'_>) + Sync)) {
        let shared = &*self.shared;
        shared.running.store(shared.threads - 1, Ordering::Relaxed);
        shared.arrived.store(0, Ordering::Relaxed);
        // SAFETY: no worker runs now; the lifetime is ended below, before `job` can end, by waiting for `running` = 0.
        unsafe {
            *shared.job.get() =
                Some(std::mem::transmute::<*const (dyn Fn(&Worker<'_>) + Sync + '_), Job>(job))
        };
        shared.epoch.fetch_add(1, Ordering::Release);
        shared.wake();
        let own = catch_unwind(AssertUnwindSafe(|| job(&Worker { shared, index: 0 })));
        if own.is_err() {
            shared.poisoned.store(true, Ordering::Release);
            shared.wake();
        }
        shared.wait(|| shared.running.load(Ordering::Acquire) == 0);
        let poisoned = shared.poisoned.swap(false, Ordering::AcqRel);
        if let Err(panic) = own {
            resume_unwind(panic);
        }
        assert!(!poisoned, "a thread of the team panicked");
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        self.shared.wake();
        for handle in self.handles.drain(..) {
            // A worker catches its job's panics, so it ends well.
            let _ = handle.join();
        }
    }
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Team({} threads)", self.threads())
    }
}

/// A worker's life: wait for a job, run it, say so.
fn serve(shared: &Shared, index: usize) {
    super::cores::keep(index, shared.threads);
    let mut seen = 0;
    loop {
        shared.wait(|| shared.epoch.load(Ordering::Acquire) != seen);
        seen = seen.wrapping_add(1);
        if shared.closing.load(Ordering::Acquire) {
            return;
        }
        // SAFETY: `epoch` announced the job, and `run` keeps it alive until `running` reaches zero.
        let job = unsafe { (*shared.job.get()).map(|job| &*job) }.expect("a job was announced");
        if catch_unwind(AssertUnwindSafe(|| job(&Worker { shared, index }))).is_err() {
            shared.poisoned.store(true, Ordering::Release);
        }
        shared.running.fetch_sub(1, Ordering::AcqRel);
        shared.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_in_every_phase() {
        let mut team = Team::new(3);
        for _ in 0..200 {
            let counters: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
            let sums: Vec<AtomicUsize> = (0..4).map(|_| AtomicUsize::new(0)).collect();
            team.run(&|worker| {
                for (phase, counter) in counters.iter().enumerate() {
                    for piece in worker.claim(counter, 101, 7) {
                        sums[phase].fetch_add(piece.sum(), Ordering::Relaxed);
                    }
                    worker.barrier();
                    assert_eq!(sums[phase].load(Ordering::Relaxed), 100 * 101 / 2);
                }
            });
        }
    }

    #[test]
    fn a_panic_on_one_thread_reaches_the_caller_and_the_team_lives_on() {
        let mut team = Team::new(2);
        let failed = catch_unwind(AssertUnwindSafe(|| {
            team.run(&|worker| {
                assert_ne!(worker.index, 1, "on purpose");
                worker.barrier();
            });
        }));
        assert!(failed.is_err());
        team.run(&|worker| worker.barrier());
    }
}
