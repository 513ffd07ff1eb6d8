//! Two lanes for guests, so that one which computes on and on takes nothing from those that only have a word to say.
//!
//! A call runs in front, on the threads of whoever made it, where it costs no hop. What it computes there is booked against a
//! share that its function has of them; while the share is used up, the call's work goes on behind, on threads which the kernel
//! lets run when others leave it time. Waiting is done in front, so a call comes back there as soon as it waits. Here is who runs
//! where; what runs, and when it must be over, is the call's business.

use crate::options::{Background, Priority};
use cpu_time::ThreadTime;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// The most a function can owe, in time it must wait: after that it runs in front again, whatever it did before.
const DEBT_MAX: Duration = Duration::from_secs(1);

/// The lane behind, and the clock of all shares.
pub(crate) struct Lanes {
    options: Background,
    start: Instant,
    /// Made when it is first needed; `None` where the machine refused its threads.
    behind: OnceLock<Option<Runtime>>,
}

/// A function's share of the threads in front.
#[derive(Debug, Default)]
pub(crate) struct Share {
    /// When what was used is paid off, nanoseconds of the lanes' clock.
    paid_at: AtomicU64,
}

/// What is left of a call.
struct Work<T> {
    body: Pin<Box<dyn Future<Output = T> + Send>>,
    /// CPU time of its threads while they ran it.
    cpu_ns: Arc<AtomicU64>,
}

impl Share {
    fn owes(&self, now: u64) -> u64 {
        self.paid_at.load(Ordering::Relaxed).saturating_sub(now)
    }

    /// Books work that takes so long to pay off. Two calls that book at once may lose one's slice; the next one counts.
    fn book(&self, now: u64, cost: u64) {
        let paid_at = self.paid_at.load(Ordering::Relaxed).max(now).saturating_add(cost);
        self.paid_at.store(paid_at.min(now.saturating_add(nanos(DEBT_MAX))), Ordering::Relaxed);
    }
}

impl Lanes {
    pub(crate) fn new(options: Background) -> Arc<Self> {
        Arc::new(Self { options, start: Instant::now(), behind: OnceLock::new() })
    }

    /// Runs a body to its end, in front and behind by turns; its result and the CPU time it took. Behind it is given up where it
    /// is not done by `patience`, since a thread that is given no time cannot end it: then there is no result.
    ///
    /// Dropping this drops the body, at once in front and after its slice behind.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        body: impl Future<Output = T> + Send + 'static,
        share: &Arc<Share>,
        patience: Instant,
    ) -> (Option<T>, u64) {
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let mut work = Work { body: Box::pin(body), cpu_ns: cpu_ns.clone() };
        let done = loop {
            let front = poll_fn(|context| match self.behind(share) {
                Some(behind) => Poll::Ready(Err(behind)),
                None => self.slice(&mut work, share, context).map(Ok),
            });
            let behind = match front.await {
                Ok(done) => break Some(done),
                Err(behind) => behind,
            };
            match self.go_behind(behind, work, share, patience).await {
                Some((_, Some(done))) => break Some(done),
                Some((left, None)) => work = left,
                None => break None,
            }
        };
        (done, cpu_ns.load(Ordering::Relaxed))
    }

    fn now(&self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// How long a function pays for so much work.
    fn cost(&self, work_ns: u64) -> u64 {
        work_ns.saturating_mul(100) / u64::from(self.options.share_percent.max(1))
    }

    fn is_over(&self, share: &Share) -> bool {
        share.owes(self.now()) > self.cost(nanos(self.options.burst))
    }

    /// The lane behind, where that is the one to run in now.
    fn behind(&self, share: &Share) -> Option<&Runtime> {
        if self.options.threads == 0 || !self.is_over(share) {
            return None;
        }
        self.behind.get_or_init(|| threads(&self.options)).as_ref()
    }

    /// Polls once and books the time it took, past what is free.
    fn slice<T>(&self, work: &mut Work<T>, share: &Share, context: &mut Context<'_>) -> Poll<T> {
        let start = ThreadTime::now();
        let polled = work.body.as_mut().poll(context);
        let used = nanos(start.elapsed());
        let total = work.cpu_ns.fetch_add(used, Ordering::Relaxed).saturating_add(used);
        let booked = used.min(total.saturating_sub(nanos(self.options.free)));
        if booked > 0 {
            share.book(self.now(), self.cost(booked));
        }
        polled
    }

    /// What is left of the work when it comes back, and its result if nothing is.
    async fn go_behind<T: Send + 'static>(
        self: &Arc<Self>,
        behind: &Runtime,
        work: Work<T>,
        share: &Arc<Share>,
        patience: Instant,
    ) -> Option<(Work<T>, Option<T>)> {
        let front = Handle::try_current().ok();
        let mut task = Ending(behind.spawn(self.clone().stay_behind(work, share.clone(), front)));
        match tokio::time::timeout_at(patience.into(), &mut task.0).await {
            Ok(Ok(back)) => Some(back),
            Ok(Err(error)) => error.try_into_panic().map(|panic| std::panic::resume_unwind(panic)).ok(),
            Err(_) => None,
        }
    }

    /// Runs work for as long as it has something to do and its function's share is used up.
    async fn stay_behind<T>(
        self: Arc<Self>,
        mut work: Work<T>,
        share: Arc<Share>,
        front: Option<Handle>,
    ) -> (Work<T>, Option<T>) {
        let done = poll_fn(|context| {
            // Timers, sockets and tasks of its host calls are the front's, whose threads look after them in time.
            let _front = front.as_ref().map(Handle::enter);
            let waits = Arc::new(Waits { task: context.waker().clone(), is_woken: AtomicBool::new(false) });
            let waker = Waker::from(waits.clone());
            match self.slice(&mut work, &share, &mut Context::from_waker(&waker)) {
                Poll::Ready(done) => Poll::Ready(Some(done)),
                Poll::Pending if waits.is_woken.load(Ordering::Acquire) && self.is_over(&share) => {
                    Poll::Pending
                }
                Poll::Pending => Poll::Ready(None),
            }
        })
        .await;
        (work, done)
    }
}

impl Drop for Lanes {
    /// The last one may go on a thread of the lane behind, which cannot wait for itself.
    fn drop(&mut self) {
        if let Some(Some(behind)) = self.behind.take() {
            behind.shutdown_background();
        }
    }
}

/// A task that ends when nobody waits for it any more.
struct Ending<T>(JoinHandle<T>);

impl<T> Drop for Ending<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Tells work that gave up its thread for others from work that waits: the first has woken itself.
struct Waits {
    task: Waker,
    is_woken: AtomicBool,
}

impl Wake for Waits {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}

/// The threads of the lane behind. They have neither timers nor sockets: those are the front's.
fn threads(options: &Background) -> Option<Runtime> {
    let priority = options.priority;
    let built = Builder::new_multi_thread()
        .worker_threads(options.threads)
        .thread_name("sandbox-behind")
        .on_thread_start(move || lower(priority))
        .build();
    built.ok()
}

/// Lowers this thread's priority. Where the kernel refuses, it runs like any other, and slices still bound it.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "libc has no safe form of either call")]
fn lower(priority: Priority) {
    // SAFETY: on Linux both calls change the calling thread only, and read nothing but the struct they are given.
    unsafe {
        match priority {
            Priority::Nice(nice) => libc::setpriority(libc::PRIO_PROCESS, 0, nice),
            Priority::Idle => {
                libc::sched_setscheduler(0, libc::SCHED_IDLE, &libc::sched_param { sched_priority: 0 })
            }
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn lower(_priority: Priority) {}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
