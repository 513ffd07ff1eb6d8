//! The engine's thread: takes jobs, looks after readers, steps, hands out what comes of it.

use super::meter::Open;
use super::report::{Observer, Part, Snapshot, StepReport};
use super::{EVENTS_A_CHOICE, Flags, Happened, Job, JobError, JobEvent, Meter, ServiceOptions};
use coldframe_backbone::adapter::Generation;
use coldframe_backbone::engine::{Engine, Event, Request, SequenceId, Step, What};
use coldframe_backbone::error::Error;
use coldframe_backbone::kv::Owner;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// How long the thread sleeps at most while a job is held back: a reader's bell that was missed costs no more.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What others see of the thread.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) closing: AtomicBool,
    /// It has something to compute.
    pub(super) busy: AtomicBool,
    pub(super) fence: OnceLock<String>,
    pub(super) snapshot: Mutex<Snapshot>,
}

/// What the thread is asked.
pub(super) enum Command {
    Submit { job: Box<Job>, sender: mpsc::Sender<JobEvent>, flags: Arc<Flags>, open: Open },
    Forget(Generation, oneshot::Sender<u32>),
}

/// A job in the engine.
struct Seat {
    /// Which choices have not ended.
    alive: Vec<bool>,
    sender: mpsc::Sender<JobEvent>,
    flags: Arc<Flags>,
    meter: Arc<Meter>,
    owner: Owner,
    started: bool,
    cancelled: bool,
    held: Option<Held>,
    _open: Open,
}

/// A reader that lies behind.
struct Held {
    /// Free places in the buffer when last looked.
    room: usize,
    /// When that last changed.
    since: Instant,
}

impl Seat {
    fn choices(&self, first: SequenceId) -> Vec<SequenceId> {
        let alive = self.alive.iter().enumerate().filter(|(_, alive)| **alive);
        alive.map(|(index, _)| first.choice(index)).collect()
    }

    /// Tells the reader, if there still is one.
    fn tell(&self, choice: usize, what: Happened, at: Instant) {
        let event = JobEvent { choice: choice as u32, at, what };
        if self.sender.try_send(event).is_err() {
            // Full is ruled out by the slack of the buffer; closed is a reader that has gone.
            self.flags.cancelled.store(true, Ordering::SeqCst);
        }
    }

    /// Ends every choice with an error.
    fn fail(&mut self, error: &JobError) {
        for choice in 0..self.alive.len() {
            if std::mem::take(&mut self.alive[choice]) {
                self.tell(choice, Happened::Failed(error.clone()), Instant::now());
            }
        }
    }

    /// Whether the buffer might not hold what another step says.
    fn nearly_full(&self) -> bool {
        self.sender.capacity() <= EVENTS_A_CHOICE * self.alive.len()
    }
}

/// The thread's state.
pub(super) struct Desk {
    engine: Engine,
    inbox: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    options: ServiceOptions,
    observer: Arc<dyn Observer>,
    /// By their first choice.
    seats: BTreeMap<SequenceId, Seat>,
    counts: Snapshot,
}

impl Desk {
    pub(super) fn new(
        engine: Engine,
        inbox: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
        options: ServiceOptions,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let pages = engine.pages();
        let counts = Snapshot { pages_total: pages.free + pages.used + pages.cached, ..Snapshot::default() };
        Self { engine, inbox, shared, options, observer, seats: BTreeMap::new(), counts }
    }

    pub(super) fn run(mut self) {
        self.engine.settle();
        self.publish();
        while !self.shared.closing.load(Ordering::SeqCst) {
            let open = self.take_all();
            if let Some(reason) = self.shared.fence.get() {
                let error = JobError::Fenced(reason.clone());
                self.fail_all(&error);
                self.publish();
                std::thread::park();
                continue;
            }
            self.look_after_readers();
            self.shared.busy.store(!self.engine.is_idle(), Ordering::SeqCst);
            if !self.engine.is_idle() {
                self.step();
            } else if !open && self.seats.is_empty() {
                break;
            } else {
                self.rest();
            }
        }
        self.fail_all(&JobError::Stopped);
        self.inbox.close();
        while let Ok(command) = self.inbox.try_recv() {
            self.refuse(command, &JobError::Stopped);
        }
    }

    /// Takes what lies in the inbox; `false` once no more can come.
    fn take_all(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(command) => self.take(command),
                Err(mpsc::error::TryRecvError::Empty) => return true,
                Err(mpsc::error::TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take(&mut self, command: Command) {
        if let Some(reason) = self.shared.fence.get() {
            return self.refuse(command, &JobError::Fenced(reason.clone()));
        }
        match command {
            Command::Submit { job, sender, flags, open } => self.seat(*job, sender, flags, open),
            Command::Forget(generation, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.engine.forget(generation));
            }
        }
    }

    fn refuse(&self, command: Command, error: &JobError) {
        if let Command::Submit { sender, .. } = command {
            let what = Happened::Failed(error.clone());
            let _ = sender.try_send(JobEvent { choice: 0, at: Instant::now(), what });
        }
    }

    fn seat(&mut self, job: Job, sender: mpsc::Sender<JobEvent>, flags: Arc<Flags>, open: Open) {
        if flags.cancelled.load(Ordering::SeqCst) {
            return;
        }
        let Job { tenant, adapter, yields, prompt, max_tokens, voices, meter } = job;
        let alive = vec![true; voices.len()];
        let request = Request { tenant, adapter, yields, prompt, max_tokens, voices };
        let owner = request.owner();
        let seat = |alive| Seat {
            alive,
            sender,
            flags,
            meter,
            owner,
            started: false,
            cancelled: false,
            held: None,
            _open: open,
        };
        match self.engine.submit(request) {
            Ok(first) => drop(self.seats.insert(first, seat(alive))),
            Err(error) => seat(vec![true]).fail(&JobError::Backbone(Arc::new(error))),
        }
    }

    /// Cancels for readers that have gone, lets go on whose reader has caught up, ends those that nobody reads.
    fn look_after_readers(&mut self) {
        let (now, low) = (Instant::now(), self.options.buffered_events / 4);
        let mut slow = Vec::new();
        for (first, seat) in &mut self.seats {
            let wanted = !seat.flags.cancelled.load(Ordering::SeqCst);
            if !wanted && !seat.cancelled {
                seat.cancelled = true;
                for id in seat.choices(*first) {
                    self.engine.cancel(id);
                }
            }
            let Some(held) = seat.held.as_mut().filter(|_| wanted) else { continue };
            let room = seat.sender.capacity();
            if seat.sender.max_capacity() - room <= low {
                seat.held = None;
                seat.flags.held.store(false, Ordering::SeqCst);
                for id in seat.choices(*first) {
                    self.engine.resume(id);
                }
            } else if room != held.room {
                *held = Held { room, since: now };
            } else if now.duration_since(held.since) >= self.options.idle_limit {
                slow.push(*first);
            }
        }
        slow.into_iter().for_each(|first| self.end_slow(first));
    }

    fn end_slow(&mut self, first: SequenceId) {
        let Some(mut seat) = self.seats.remove(&first) else { return };
        for id in seat.choices(first) {
            self.engine.cancel(id);
        }
        // The buffer keeps a place for each choice's end.
        seat.fail(&JobError::SlowReader);
        self.counts.slow_readers += 1;
    }

    fn step(&mut self) {
        let begun = Instant::now();
        let Self { engine, seats, .. } = self;
        let mut ends = Vec::new();
        // Tokens go out as they are chosen; an end waits until its seat and pages count as free.
        let mut hear = |event: Event| match event.what {
            What::Started { .. } | What::Token(_) => hand_out(seats, event, begun),
            What::Done { .. } | What::Failed { .. } => ends.push(event),
        };
        // A panic in the executor leaves the engine in a state that no one knows.
        let done = catch_unwind(AssertUnwindSafe(|| engine.step_telling(&mut hear)));
        match done {
            Ok(Ok(step)) => self.deliver(&step, ends, begun),
            Ok(Err(error)) => self.lost(error),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                let _ = self.shared.fence.set(format!("the engine panicked: {text}; start the host again"));
            }
        }
    }

    /// A step failed as a whole: the engine has no sequences any more.
    fn lost(&mut self, error: Error) {
        self.counts.failed_steps += 1;
        if matches!(error, Error::Changed { .. }) {
            let _ = self.shared.fence.set(error.to_string());
        }
        self.fail_all(&JobError::Backbone(Arc::new(error)));
        self.publish();
    }

    fn fail_all(&mut self, error: &JobError) {
        std::mem::take(&mut self.seats).values_mut().for_each(|seat| seat.fail(error));
    }

    fn deliver(&mut self, step: &Step, ends: Vec<Event>, begun: Instant) {
        let parts = self.parts(step);
        self.counts.steps += 1;
        self.counts.preempted += step.stats.preempted as u64;
        self.counts.resumed += step.stats.resumed as u64;
        self.counts.prefill_tokens += step.stats.prefill_tokens as u64;
        self.counts.decode_tokens += step.stats.decode_tokens as u64;
        self.counts.busy_ns += step.stats.step_ns;
        // Whoever hears of an end sees its seat and pages free.
        self.publish();
        ends.into_iter().for_each(|event| hand_out(&mut self.seats, event, begun));
        self.hold_back();
        self.publish();
        self.observer.stepped(&StepReport { stats: step.stats, parts: &parts, snapshot: self.counts });
    }

    /// Splits the step's time by tokens, to the nanosecond, and charges the meters.
    fn parts(&self, step: &Step) -> Vec<Part> {
        let all: u128 = step.advances.iter().map(|advance| advance.tokens as u128).sum();
        let (mut before, mut charged) = (0_u128, 0_u64);
        let mut parts = Vec::with_capacity(step.advances.len());
        for advance in &step.advances {
            before += advance.tokens as u128;
            let until = (u128::from(step.stats.step_ns) * before / all.max(1)) as u64;
            let device_ns = until - std::mem::replace(&mut charged, until);
            if let Some((_, seat)) = self.seats.range(..=advance.sequence).next_back() {
                seat.meter.device(device_ns);
                parts.push(Part { owner: seat.owner, tokens: advance.tokens, device_ns });
            }
        }
        parts
    }

    /// Holds back the jobs whose buffers might not take another step.
    fn hold_back(&mut self) {
        for (first, seat) in &mut self.seats {
            if seat.held.is_none() && !seat.cancelled && seat.nearly_full() {
                seat.held = Some(Held { room: seat.sender.capacity(), since: Instant::now() });
                seat.flags.held.store(true, Ordering::SeqCst);
                for id in seat.choices(*first) {
                    self.engine.pause(id);
                }
            }
        }
    }

    /// Sleeps until there is something to do.
    fn rest(&mut self) {
        self.publish();
        if self.seats.is_empty() {
            std::thread::park();
        } else {
            std::thread::park_timeout(LOOK_AGAIN.min(self.options.idle_limit));
        }
    }

    fn publish(&mut self) {
        self.counts.running = self.engine.running();
        self.counts.yielding = self.engine.yielding();
        self.counts.waiting = self.engine.waiting();
        self.counts.held = self.engine.paused();
        self.counts.pages = self.engine.pages();
        self.counts.swapped_bytes = self.engine.swapped_bytes();
        *self.shared.snapshot.lock().unwrap_or_else(PoisonError::into_inner) = self.counts;
    }
}

/// Tells a job what a step that began then did for it.
fn hand_out(seats: &mut BTreeMap<SequenceId, Seat>, event: Event, begun: Instant) {
    let Some((first, seat)) = seats.range_mut(..=event.sequence).next_back() else { return };
    let (first, choice) = (*first, (event.sequence.0 - first.0) as usize);
    // Ends of a job that was ended here already name choices of no seat.
    if !seat.alive.get(choice).copied().unwrap_or(false) {
        return;
    }
    let ended = matches!(event.what, What::Done { .. } | What::Failed { .. });
    seat.alive[choice] = !ended;
    // A prompt is taken up as the step begins; everything else is there when it ends.
    let at = if matches!(event.what, What::Started { .. }) { begun } else { Instant::now() };
    let what = match event.what {
        What::Started { prompt, cached } => {
            if !std::mem::replace(&mut seat.started, true) {
                seat.meter.started(prompt, cached);
            }
            Happened::Started { prompt, cached }
        }
        What::Token(spoken) => {
            seat.meter.token();
            Happened::Token(spoken)
        }
        What::Done { reason, text, usage } => Happened::Done { reason, text, usage },
        What::Failed { error, .. } => Happened::Failed(JobError::Backbone(Arc::new(error))),
    };
    seat.tell(choice, what, at);
    if ended && !seat.alive.contains(&true) {
        seats.remove(&first);
    }
}
