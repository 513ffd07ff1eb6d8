//! Time as stores see it: a clock that never goes back for leases, and the calendar for what people read.
//!
//! Injected, so that a test moves it by hand. It schedules nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a store takes the time from.
pub trait Clock: Send + Sync + 'static {
    /// Time since some moment in this process; never goes back, whatever happens to the calendar.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970; may jump.
    fn wall_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands until it is moved.
#[derive(Debug, Default)]
pub struct ManualClock {
    monotonic_ns: AtomicU64,
    wall_ms: AtomicU64,
}

impl ManualClock {
    /// A clock at zero whose calendar shows `wall_ms`.
    pub fn new(wall_ms: u64) -> Self {
        Self { monotonic_ns: AtomicU64::new(0), wall_ms: AtomicU64::new(wall_ms) }
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let ns = u64::try_from(by.as_nanos()).expect("tests move the clock by less than 584 years");
        self.monotonic_ns.fetch_add(ns, Ordering::SeqCst);
        self.wall_ms.fetch_add(ns / 1_000_000, Ordering::SeqCst);
    }

    /// Sets the calendar alone, as an administrator might.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}
