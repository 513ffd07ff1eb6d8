//! Runs a plan: every policy with every seed, on threads; order and results do not depend on how many.

use super::Plan;
use crate::ui::{Interrupted, Ui};
use anyhow::Result;
use coldframe_simulator::report::model::Speed;
use coldframe_simulator::run::{Hooks, Outcome, run};
use coldframe_simulator::setup::RunError;
use coldframe_traces::Refusal;
use cpu_time::ThreadTime;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

/// Refused rows shown on stderr; the rest is counted.
const SHOWN: u64 = 5;

/// One run of a plan.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Index of the policy.
    pub policy: usize,
    /// The seed.
    pub seed: u64,
}

/// What one run left.
pub struct JobResult {
    /// The outcome, speed filled in.
    pub outcome: Outcome,
    /// What the reader of the trace had to say.
    pub warnings: Vec<String>,
}

/// Runs all jobs, policies first, seeds within.
pub fn execute(plan: &Plan, ui: &Ui, threads: usize) -> Result<Vec<JobResult>> {
    let jobs: Vec<Job> = (0..plan.policies.len())
        .flat_map(|policy| plan.seeds.iter().map(move |&seed| Job { policy, seed }))
        .collect();
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let results: Mutex<Vec<Option<Result<JobResult>>>> = Mutex::new((0..jobs.len()).map(|_| None).collect());
    let shares: Vec<Mutex<f64>> = jobs.iter().map(|_| Mutex::new(0.0)).collect();
    let bar = ui.progress("replaying");
    let work = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            let Some(&job) = jobs.get(n) else { return };
            let poll = |share: Option<f64>| {
                *shares[n].lock().expect("no panics while held") = share.unwrap_or(0.0);
                let sum: f64 = shares.iter().map(|s| *s.lock().expect("no panics while held")).sum();
                bar.set_position((1000.0 * sum / jobs.len() as f64) as u64);
                ui.check().is_ok() && !failed.load(Ordering::Relaxed)
            };
            let result = one(plan, job, ui, poll);
            *shares[n].lock().expect("no panics while held") = 1.0;
            if result.is_err() {
                failed.store(true, Ordering::Relaxed);
                next.store(jobs.len(), Ordering::Relaxed);
            }
            results.lock().expect("no panics while held")[n] = Some(result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
        work();
    });
    bar.finish_and_clear();
    ui.check()?;
    let (mut done, mut wrong) = (Vec::new(), Vec::new());
    for result in results.into_inner().expect("threads are done").into_iter().flatten() {
        result.map_or_else(|e| wrong.push(e), |d| done.push(d));
    }
    // Runs that another's failure stopped have nothing to tell.
    wrong.sort_by_key(|e| e.is::<Interrupted>());
    wrong.into_iter().next().map_or(Ok(done), Err)
}

fn one(plan: &Plan, job: Job, ui: &Ui, mut poll: impl FnMut(Option<f64>) -> bool) -> Result<JobResult> {
    let mut setup = plan.base.clone();
    setup.policy = plan.policies[job.policy].clone();
    setup.seed = job.seed;
    let (cpu, wall) = (ThreadTime::now(), Instant::now());
    let names = super::outputs::Names::default();
    let mut trace = plan.source.open(job.seed)?;
    if plan.requests.is_some() || plan.timeline.is_some() {
        trace = Box::new(super::outputs::Tap::new(trace, names.clone(), None));
    }
    let mut seen = 0u64;
    let mut note = |row: Refusal| {
        seen += 1;
        if seen <= SHOWN && job.policy == 0 {
            let column =
                if row.column.is_empty() { String::new() } else { format!("column `{}`: ", row.column) };
            ui.warn(&format!("skipped {}:{}: {column}{}", row.file.display(), row.line, row.reason));
        }
    };
    let mut files = super::outputs::Outputs::open(plan, &setup, &names)?;
    let (rows, watch) = files.hooks();
    let hooks = Hooks {
        rows,
        watch,
        poll: Some(&mut poll),
        refused: plan.skip_bad_rows.then_some(&mut note as &mut dyn FnMut(Refusal)),
        decisions: None,
        check_every: None,
    };
    let outcome = run(&setup, &plan.tariffs, trace.as_mut(), hooks);
    let mut outcome = outcome.map_err(|e| match e {
        RunError::Stopped => anyhow::Error::from(Interrupted),
        RunError::Row(row) => {
            anyhow::anyhow!("{}\n--skip-bad-rows goes on without such rows", RunError::Row(row))
        }
        // These tell what the trace holds, not which trace it is.
        RunError::Empty | RunError::NoTokens { .. } | RunError::Model { .. } => {
            anyhow::anyhow!("trace {}: {e}", plan.trace.name)
        }
        other => other.into(),
    })?;
    files.finish()?;
    let cpu_s = cpu.elapsed().as_secs_f64();
    outcome.report.speed = Speed {
        wall_s: wall.elapsed().as_secs_f64(),
        cpu_s,
        requests_per_cpu_s: outcome.records as f64 / cpu_s.max(1e-9),
        peak_rss_bytes: peak_rss_bytes(),
    };
    Ok(JobResult { outcome, warnings: trace.warnings() })
}

/// Peak resident memory of this process, bytes; 0 where the system does not say.
pub fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
