//! The epoch's clock: ticks while guests live, and sleeps while there are none.
//!
//! A thread that woke every two milliseconds for nobody would take its share from an engine that computes on the same
//! cores. It goes on for a little while after the last guest, so that calls one after another wake nobody.

use crate::engine::TICK;
use crate::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Thread;
use wasmtime::Engine;

/// Ticks without a guest before the clock sleeps. Arbitrary: a tenth of a second.
const LINGER: u32 = 50;

/// What guests and the clock tell each other.
#[derive(Debug, Default)]
struct Beat {
    guests: AtomicUsize,
    asleep: AtomicBool,
    stop: AtomicBool,
}

/// Ticks the engine's epoch until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticker {
    beat: Arc<Beat>,
    thread: Thread,
}

/// A guest that lives: the epoch goes on.
#[derive(Debug)]
pub(crate) struct Living(Arc<Beat>);

impl Drop for Living {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> Result<Self, Error> {
        let beat = Arc::new(Beat::default());
        let (shared, engine) = (beat.clone(), engine.weak());
        let tick = move || {
            let mut idle = 0;
            while !shared.stop.load(Ordering::SeqCst) {
                std::thread::sleep(TICK);
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
                idle = if shared.guests.load(Ordering::SeqCst) > 0 { 0 } else { idle + 1 };
                if idle >= LINGER {
                    idle = 0;
                    shared.sleep();
                }
            }
        };
        let thread = std::thread::Builder::new().name("sandbox-epoch".to_owned()).spawn(tick);
        let thread = thread.map_err(|error| Error::Engine(format!("no thread for the epoch: {error}")))?;
        Ok(Self { beat, thread: thread.thread().clone() })
    }

    /// A guest begins to live.
    pub(crate) fn guest(&self) -> Living {
        self.beat.guests.fetch_add(1, Ordering::SeqCst);
        // Told before it was looked at, and the other way round there: one of the two sees the other.
        if self.beat.asleep.load(Ordering::SeqCst) {
            self.thread.unpark();
        }
        Living(self.beat.clone())
    }
}

impl Beat {
    /// Sleeps until there is a guest or nothing more to do.
    fn sleep(&self) {
        self.asleep.store(true, Ordering::SeqCst);
        while self.guests.load(Ordering::SeqCst) == 0 && !self.stop.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.beat.stop.store(true, Ordering::SeqCst);
        self.thread.unpark();
    }
}
