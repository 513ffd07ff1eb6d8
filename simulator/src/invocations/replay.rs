//! The event loop: arrivals from the trace, ends and timers from two queues.
//!
//! One queue entry per invocation in flight and one timer per function with idle instances. It decides nothing.

use super::report::{ClassCount, InstanceTime, InvocationReport};
use super::{Hooks, Settings};
use crate::kernel::digest::Digest;
use crate::kernel::queue::Queue;
use crate::measure::histogram::Histogram;
use crate::setup::RunError;
use coldframe_policy::invocation::{Decision, Invocations, Timer};
use coldframe_policy::units::{Bytes, FunctionId, InstanceId, Nanos};
use coldframe_traces::info::functions::{CovClass, Gaps};
use coldframe_traces::{Catalog, Item, Record, TraceStream};

/// Entries of the digest: what happened.
mod code {
    pub const WARM: u64 = 1;
    pub const COLD: u64 = 2;
    pub const REFUSED: u64 = 3;
    pub const DONE: u64 = 4;
    pub const EVICTED: u64 = 5;
    pub const EXPIRED: u64 = 6;
}

/// How often the caller is asked whether to go on, records.
const POLL_EVERY: u64 = 65_536;

/// Times of one instance, ns; `started` is [`STOPPED`] when it is not alive.
#[derive(Clone, Copy)]
struct Life {
    started: u64,
    idle_since: u64,
}

const STOPPED: u64 = u64::MAX;

#[derive(Clone, Copy, Default)]
struct Counts {
    arrivals: u64,
    cold: u64,
    refused: u64,
}

/// Replays a trace of invocations without tokens to its end.
pub fn replay(
    settings: &Settings,
    trace: &mut dyn TraceStream,
    hooks: Hooks<'_>,
) -> Result<InvocationReport, RunError> {
    let Hooks { mut poll, mut refused } = hooks;
    let mut run = Run::new(settings);
    let mut bad_rows = 0;
    while let Some(item) = trace.next_item()? {
        match item {
            Item::Record(record) => {
                if record.prompt_tokens != 0 || record.output_tokens != 0 {
                    return Err(has_tokens(run.arrivals + 1, &record, trace.catalog()));
                }
                run.arrive(&record)?;
                if run.arrivals.is_multiple_of(POLL_EVERY)
                    && poll.as_mut().is_some_and(|p| !p(trace.progress()))
                {
                    return Err(RunError::Stopped);
                }
            }
            Item::Refused(row) => {
                bad_rows += 1;
                match &mut refused {
                    Some(note) => note(row),
                    None => return Err(RunError::Row(row)),
                }
            }
        }
    }
    if run.arrivals == 0 {
        return Err(RunError::Empty);
    }
    run.finish();
    Ok(run.report(bad_rows, trace.catalog()))
}

#[cold]
fn has_tokens(number: u64, record: &Record, catalog: &Catalog) -> RunError {
    let function = catalog.functions().get(record.function as usize);
    RunError::HasTokens {
        record: number,
        function: function.map_or_else(String::new, |f| f.name.clone()),
        tokens: u64::from(record.prompt_tokens) + u64::from(record.output_tokens),
    }
}

struct Run<'a> {
    settings: &'a Settings,
    core: Invocations,
    ends: Queue<InstanceId>,
    timers: Queue<FunctionId>,
    lives: Vec<Life>,
    stopped: Vec<InstanceId>,
    functions: Vec<(Gaps, Counts)>,
    service: Vec<Counts>,
    latency: Histogram,
    digest: Digest,
    time: InstanceTime,
    arrivals: u64,
    without_duration: u64,
    evicted: u64,
    expired: u64,
    peak: usize,
    first: u64,
    now: u64,
}

impl<'a> Run<'a> {
    fn new(settings: &'a Settings) -> Self {
        Self {
            settings,
            core: Invocations::new(settings.keep_alive.clone(), settings.memory_cap_bytes.map(Bytes)),
            ends: Queue::default(),
            timers: Queue::default(),
            lives: vec![],
            stopped: vec![],
            functions: vec![],
            service: vec![],
            latency: Histogram::default(),
            digest: Digest::default(),
            time: InstanceTime::default(),
            arrivals: 0,
            without_duration: 0,
            evicted: 0,
            expired: 0,
            peak: 0,
            first: 0,
            now: 0,
        }
    }

    /// Lets pass what comes before an arrival at `at`, then the arrival.
    #[inline]
    fn arrive(&mut self, record: &Record) -> Result<(), RunError> {
        let at = record.arrival_ns;
        if self.arrivals == 0 {
            self.first = at;
        } else if at < self.now {
            return Err(RunError::Setup(format!(
                "record {} arrives before the one ahead of it: sort the trace by arrival",
                self.arrivals + 1
            )));
        }
        self.pass(at);
        self.arrivals += 1;
        let function = record.function as usize;
        while self.functions.len() <= function {
            let next = FunctionId(self.functions.len() as u32);
            self.core.register(next, Bytes(self.settings.instance_bytes));
            self.functions.push(Default::default());
        }
        let class = record.slo_class as usize;
        if self.service.len() <= class {
            self.service.resize(class + 1, Counts::default());
        }
        let mut duration = record.duration_ns;
        if duration == 0 {
            duration = self.settings.default_duration_ns;
            self.without_duration += 1;
        }
        let decision = self.core.arrived(Nanos(at), FunctionId(record.function), &mut self.stopped);
        let (wait, instance, what) = match decision {
            Decision::Warm(instance) => {
                self.time.idle_ns += u128::from(at - self.lives[instance.index()].idle_since);
                (0, instance, code::WARM)
            }
            Decision::Cold(instance) => {
                if !self.stopped.is_empty() {
                    self.stop(at, code::EVICTED);
                }
                let life = Life { started: at, idle_since: at };
                match self.lives.get_mut(instance.index()) {
                    Some(slot) => *slot = life,
                    None => self.lives.push(life),
                }
                self.peak = self.peak.max(self.core.alive());
                self.time.cold_ns += u128::from(self.settings.cold_start_ns);
                (self.settings.cold_start_ns, instance, code::COLD)
            }
            Decision::Refuse => (0, InstanceId(u32::MAX), code::REFUSED),
        };
        let (gaps, counts) = &mut self.functions[function];
        gaps.add(at);
        for counts in [counts, &mut self.service[class]] {
            counts.arrivals += 1;
            counts.cold += u64::from(what == code::COLD);
            counts.refused += u64::from(what == code::REFUSED);
        }
        self.digest.add(at, what, u64::from(record.function), u64::from(instance.0));
        if what != code::REFUSED {
            let latency = wait.saturating_add(duration);
            let end = at.checked_add(latency).filter(|&end| end < STOPPED).ok_or_else(too_late)?;
            self.time.busy_ns += u128::from(duration);
            self.latency.add(latency);
            self.ends.push(end, instance);
        }
        Ok(())
    }

    /// Ends up to and at `until`, and timers before it.
    #[inline]
    fn pass(&mut self, until: u64) {
        loop {
            let end = self.ends.next_at().unwrap_or(u64::MAX);
            let timer = self.timers.next_at().unwrap_or(u64::MAX);
            if end <= timer && end <= until {
                self.end();
            } else if timer < until {
                self.ring();
            } else {
                break;
            }
        }
        self.now = until;
    }

    #[inline]
    fn end(&mut self) {
        let Some((at, instance)) = self.ends.pop() else { return };
        self.digest.add(at, code::DONE, 0, u64::from(instance.0));
        self.lives[instance.index()].idle_since = at;
        if let Some(Timer { at, function }) = self.core.done(Nanos(at), instance) {
            self.timers.push(at.0, function);
        }
    }

    fn ring(&mut self) {
        let Some((at, function)) = self.timers.pop() else { return };
        let next = self.core.timer(Nanos(at), function, &mut self.stopped);
        self.stop(at, code::EXPIRED);
        if let Some(Timer { at, function }) = next {
            self.timers.push(at.0, function);
        }
    }

    /// Closes the books of instances just stopped.
    fn stop(&mut self, at: u64, why: u64) {
        let count = self.stopped.len() as u64;
        *(if why == code::EVICTED { &mut self.evicted } else { &mut self.expired }) += count;
        for instance in self.stopped.drain(..) {
            let life = &mut self.lives[instance.index()];
            self.time.idle_ns += u128::from(at - life.idle_since);
            self.time.alive_ns += u128::from(at - life.started);
            life.started = STOPPED;
            self.digest.add(at, why, 0, u64::from(instance.0));
        }
    }

    /// Runs to the last end; instances alive then are idle, and counted up to then.
    fn finish(&mut self) {
        while !self.ends.is_empty() {
            let end = self.ends.next_at().unwrap_or(self.now);
            self.pass(end);
        }
        for life in self.lives.iter().filter(|life| life.started != STOPPED) {
            self.time.idle_ns += u128::from(self.now - life.idle_since);
            self.time.alive_ns += u128::from(self.now - life.started);
        }
    }

    fn report(&self, bad_rows: u64, catalog: &Catalog) -> InvocationReport {
        let total = |of: fn(&Counts) -> u64| self.service.iter().map(of).sum::<u64>();
        let (cold_starts, refused) = (total(|c| c.cold), total(|c| c.refused));
        let completed = self.latency.count();
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        let bytes = self.settings.instance_bytes;
        InvocationReport {
            settings: self.settings.clone(),
            arrivals: self.arrivals,
            completed,
            refused,
            cold_starts,
            warm_starts: completed - cold_starts,
            cold_share: share(cold_starts as f64, completed as f64),
            without_duration: self.without_duration,
            bad_rows,
            functions: self.functions.iter().filter(|(_, counts)| counts.arrivals > 0).count() as u64,
            span_ns: self.now - self.first,
            instance_time: self.time,
            idle_share: share(self.time.idle_ns as f64, self.time.alive_ns as f64),
            gb_s: (bytes > 0).then(|| self.time.alive_ns as f64 / 1e9 * (bytes as f64 / 1e9)),
            latency_s: self.latency.quantiles(),
            peak_instances: self.peak as u64,
            evicted: self.evicted,
            expired: self.expired,
            by_pattern: self.by_pattern(),
            by_service_class: self.by_service_class(catalog),
            digest: self.digest.hex(),
            events: self.digest.entries,
        }
    }

    fn by_pattern(&self) -> Vec<ClassCount> {
        let row = |(name, class): (&str, CovClass)| {
            let mut row = ClassCount { class: name.to_owned(), ..ClassCount::default() };
            let members = self.functions.iter().filter(|(gaps, counts)| {
                counts.arrivals > 0 && CovClass::of(gaps.count, gaps.cov()) == class
            });
            for (_, counts) in members {
                row.functions += 1;
                add(&mut row, counts);
            }
            row
        };
        CovClass::ALL.map(row).to_vec()
    }

    fn by_service_class(&self, catalog: &Catalog) -> Vec<ClassCount> {
        if self.service.iter().skip(1).all(|counts| counts.arrivals == 0) {
            return vec![];
        }
        let used = self.service.iter().enumerate().filter(|(_, counts)| counts.arrivals > 0);
        let row = |(n, counts): (usize, &Counts)| {
            let class = catalog.slo_classes.get(n).cloned().unwrap_or_default();
            let mut row = ClassCount { class, ..ClassCount::default() };
            add(&mut row, counts);
            row
        };
        used.map(row).collect()
    }
}

fn add(row: &mut ClassCount, counts: &Counts) {
    row.arrivals += counts.arrivals;
    row.cold_starts += counts.cold;
    row.refused += counts.refused;
}

#[cold]
fn too_late() -> RunError {
    RunError::Setup("an invocation ends more than 584 years after the start: check its duration".to_owned())
}
