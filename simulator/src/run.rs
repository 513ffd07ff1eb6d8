//! One run: a trace streamed through a world, then the report.
//!
//! The run ends with the last request: what is still kept alive then is not counted, for any policy.

use crate::cost::{GpuUsage, Lives, Tariff, Usage, bill};
use crate::measure::account::{Account, Totals};
use crate::measure::functions::function_rows;
use crate::report::model::RunReport;
use crate::report::per_request::RowSink;
use crate::setup::{RunError, Setup};
use crate::start::Placed;
use crate::world::{LogEntry, Watch, World};
use coldframe_policy::log::Line;
use coldframe_traces::{Catalog, Item, Refusal, TraceStream};

/// What a run is given beside its setup.
#[derive(Default)]
pub struct Hooks<'a> {
    /// Rows per request.
    pub rows: Option<&'a mut dyn RowSink>,
    /// Spans for a timeline.
    pub watch: Option<&'a mut dyn Watch>,
    /// Is given the log of the run: every event and decision, of the format the host writes.
    pub decisions: Option<&'a mut dyn FnMut(&Line)>,
    /// Called now and then with the share done; `false` stops the run.
    pub poll: Option<&'a mut dyn FnMut(Option<f64>) -> bool>,
    /// Called with each refused row; `None` makes the first one an error.
    pub refused: Option<&'a mut dyn FnMut(Refusal)>,
    /// Asks the world for contradictions after every so many events (tests).
    pub check_every: Option<u64>,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Outcome {
    /// The report.
    pub report: RunReport,
    /// Rows read from the trace.
    pub rows: u64,
    /// Records replayed.
    pub records: u64,
    /// Rows refused.
    pub refused: u64,
    /// First arrival to last, ns.
    pub span_ns: u64,
    /// Prompt tokens of all records.
    pub prompt_tokens: u64,
    /// Output tokens of all records.
    pub output_tokens: u64,
    /// Functions seen.
    pub functions: u64,
    /// The event log, where it was kept.
    pub log: Vec<LogEntry>,
}

/// Replays a trace. `tariffs[0]` is the primary one.
pub fn run<'a>(
    setup: &'a Setup,
    tariffs: &[Tariff],
    trace: &mut dyn TraceStream,
    hooks: Hooks<'a>,
) -> Result<Outcome, RunError> {
    setup.check()?;
    let Hooks { rows, watch, decisions, mut poll, mut refused, check_every } = hooks;
    let mut world = World::logged(setup, decisions);
    world.rows = rows;
    world.watch = watch;
    let mut placed = setup.start.as_ref().map(|start| {
        world.begin_as(start);
        Placed::new(&mut *trace, start)
    });
    let trace: &mut dyn TraceStream = match &mut placed {
        Some(placed) => placed,
        None => trace,
    };
    let mut seen = Seen::default();
    let mut next = seen.pull(trace, &mut refused)?;
    let mut turns = 0u64;
    loop {
        turns += 1;
        if turns.is_multiple_of(65_536) && poll.as_mut().is_some_and(|p| !p(trace.progress())) {
            return Err(RunError::Stopped);
        }
        if check_every.is_some_and(|n| turns.is_multiple_of(n))
            && let Some(problem) = world.core.contradiction()
        {
            return Err(RunError::Setup(format!("internal contradiction at {} ns: {problem}", world.now())));
        }
        match (&next, world.next_at()) {
            (Some(record), due) if due.is_none_or(|at| record.arrival_ns <= at) => {
                world.arrive(record, trace.catalog())?;
                next = seen.pull(trace, &mut refused)?;
            }
            (None, _) if world.in_flight == 0 => break,
            (_, Some(_)) => world.step(),
            (None, None) => break,
            (Some(_), None) => unreachable!("a record without happenings arrives"),
        }
        if let Some(error) = world.row_error.take() {
            return Err(error.into());
        }
    }
    if seen.records == 0 {
        return Err(RunError::Empty);
    }
    world.end_at(seen.last_ns);
    let counts = &mut world.collect.counts;
    counts.running = world.in_flight;
    let report = report(world, setup, tariffs, trace.catalog(), seen.first_ns)?;
    let (report, log) = report;
    Ok(Outcome {
        report,
        rows: trace.rows_in(),
        records: seen.records,
        refused: seen.refused,
        span_ns: seen.last_ns - seen.first_ns,
        prompt_tokens: seen.prompt_tokens,
        output_tokens: seen.output_tokens,
        functions: trace.catalog().functions().len() as u64,
        log,
    })
}

#[derive(Default)]
struct Seen {
    records: u64,
    refused: u64,
    first_ns: u64,
    last_ns: u64,
    prompt_tokens: u64,
    output_tokens: u64,
}

impl Seen {
    /// The next good record, counting on the way.
    fn pull(
        &mut self,
        trace: &mut dyn TraceStream,
        refused: &mut Option<&mut dyn FnMut(Refusal)>,
    ) -> Result<Option<coldframe_traces::Record>, RunError> {
        loop {
            match trace.next_item()? {
                None => return Ok(None),
                Some(Item::Record(record)) => {
                    if self.records == 0 {
                        self.first_ns = record.arrival_ns;
                    }
                    self.records += 1;
                    self.last_ns = self.last_ns.max(record.arrival_ns);
                    self.prompt_tokens += u64::from(record.prompt_tokens);
                    self.output_tokens += u64::from(record.output_tokens);
                    return Ok(Some(record));
                }
                Some(Item::Refused(row)) => {
                    self.refused += 1;
                    match refused {
                        Some(note) => note(row),
                        None => return Err(RunError::Row(row)),
                    }
                }
            }
        }
    }
}

fn report(
    mut world: World,
    setup: &Setup,
    tariffs: &[Tariff],
    catalog: &Catalog,
    first_ns: u64,
) -> Result<(RunReport, Vec<LogEntry>), RunError> {
    let end = world.now();
    let log = world.log.take().unwrap_or_default();
    let mut out = RunReport {
        seed: setup.seed,
        event_digest: world.digest.hex(),
        events: world.digest.entries,
        preemptions: world.preemptions,
        simulated_s: (end - first_ns) as f64 / 1e9,
        links: world.moved.links(),
        adapters: world.moved.adapters(),
        ..RunReport::default()
    };
    world.collect.report(end - first_ns, &mut out);
    let account = std::mem::replace(&mut world.account, Account::new(0));
    let (totals, gpu, memory, lives) = account.finish(end);
    (out.gpu, out.memory) = (gpu, memory);
    let usage = usage(setup, totals, lives, &out);
    out.bills = tariffs.iter().map(|t| bill(t, &usage)).collect::<Result<_, _>>()?;
    let backbone = |info: &_| {
        setup.model_of(info).map_or_else(|_| String::new(), |m| setup.models[m].profile.name.clone())
    };
    function_rows(&world.collect.functions, catalog.functions(), backbone, &mut out);
    Ok((out, log))
}

/// What a run is billed for.
pub(crate) fn usage(setup: &Setup, totals: Totals, lives: Lives, run: &RunReport) -> Usage {
    let gpus = u128::from(setup.workers * setup.gpus_per_worker).max(1);
    Usage {
        gpu: vec![GpuUsage {
            gpu: setup.gpu.name.clone(),
            memory_bytes: setup.gpu.memory_bytes,
            reserved_ns: totals.reserved_ns,
            busy_ns: totals.busy_ns,
            loading_ns: totals.loading_ns,
            idle_ns: totals.idle_ns,
            byte_ns: totals.byte_ns,
            lives,
        }],
        // CPUs and host memory of a worker come with its GPUs, in proportion to those reserved.
        vcpu_ns: u128::from(totals.reserved_ns) * u128::from(setup.vcpus) * u128::from(setup.workers) / gpus,
        host_byte_ns: u128::from(totals.reserved_ns)
            * u128::from(setup.host_memory_bytes)
            * u128::from(setup.workers)
            / gpus,
        requests: run.requests.arrived,
        completed: run.requests.completed,
        tokens: run.prompt_tokens + run.output_tokens,
    }
}
