//! F1: a made-up day in the schema of the Azure Functions trace of 2019, to compare the speed of simulators on.
//!
//! 1,000 functions of Zipf 1.1 popularity, exactly 4,320,000 invocations under a day's rise and fall, and log-normal mean
//! durations with the parameters fitted to the public trace's sample, cut at 600 s. Everything is drawn from one seed. It
//! holds no real data, and says nothing about real fleets: functions here are Poisson within the day's shape.

use super::{Hooks, InvocationReport, Settings, replay};
use crate::setup::RunError;
use coldframe_traces::rng::{Stream, Weighted};
use coldframe_traces::{Format, OpenOptions, open};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Functions of the day.
pub const FUNCTIONS: u32 = 1000;
/// Invocations of the day.
pub const INVOCATIONS: u64 = 4_320_000;
/// Exponent of the popularity law.
pub const ZIPF: f64 = 1.1;
/// Natural-log mean and deviation of a function's mean duration, seconds; fit of the trace's sample of 1,350 functions.
pub const DURATION_LN: (f64, f64) = (-0.308, 2.276);
/// Longest mean duration, seconds; arbitrary, near the time limit of the cheapest plans.
pub const DURATION_MAX_S: f64 = 600.0;

const MINUTES: u32 = 1440;
/// Swing of the day around its mean rate; arbitrary, near the public trace's (busiest minute over mean: 1.2).
const SWING: f64 = 0.3;

/// The day as two files in the public schema.
pub struct Day {
    /// `HashOwner,HashApp,HashFunction,Trigger,1,…,1440`.
    pub invocations_csv: String,
    /// `HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum`, milliseconds.
    pub durations_csv: String,
}

impl Day {
    /// The day of a seed.
    pub fn new(seed: u64) -> Self {
        let minute_rate = |minute: u32| {
            let angle = std::f64::consts::TAU * f64::from(minute) / f64::from(MINUTES);
            1.0 - SWING * libm::cos(angle)
        };
        let weights: Vec<f64> = (0..MINUTES).map(minute_rate).collect();
        let minutes = Weighted::new(&weights).expect("finite weights above zero");
        let (mut when, mut long) = (Stream::new(seed, "f1-minutes"), Stream::new(seed, "f1-durations"));
        let mut names = Stream::new(seed, "f1-names");
        let mut invocations_csv = String::from("HashOwner,HashApp,HashFunction,Trigger");
        (1..=MINUTES).for_each(|minute| write!(invocations_csv, ",{minute}").expect("a string takes all"));
        invocations_csv.push('\n');
        let mut durations_csv =
            String::from("HashOwner,HashApp,HashFunction,Average,Count,Minimum,Maximum\n");
        for total in totals() {
            let mut hash = || (0..4).map(|_| format!("{:016x}", names.bits())).collect::<String>();
            let name = [hash(), hash(), hash()].join(",");
            let mut counts = [0u32; MINUTES as usize];
            (0..total).for_each(|_| counts[minutes.draw(&mut when) as usize] += 1);
            invocations_csv.push_str(&name);
            invocations_csv.push_str(",http");
            counts.iter().for_each(|n| write!(invocations_csv, ",{n}").expect("a string takes all"));
            invocations_csv.push('\n');
            let ms = long.log_normal(DURATION_LN.0, DURATION_LN.1).min(DURATION_MAX_S) * 1e3;
            // Whole milliseconds as in the public files, and never none.
            let ms = (ms.round() as u64).max(1);
            writeln!(durations_csv, "{name},{ms},{total},{ms},{ms}").expect("a string takes all");
        }
        Self { invocations_csv, durations_csv }
    }

    /// Writes both files into a folder that exists.
    pub fn write(&self, folder: &Path) -> std::io::Result<Files> {
        let files = Files {
            invocations: folder.join("f1.invocations.csv"),
            durations: folder.join("f1.durations.csv"),
        };
        std::fs::write(&files.invocations, &self.invocations_csv)?;
        std::fs::write(&files.durations, &self.durations_csv)?;
        Ok(files)
    }
}

/// Where the day lies.
#[derive(Clone, Debug)]
pub struct Files {
    /// Counts per minute.
    pub invocations: PathBuf,
    /// Mean durations.
    pub durations: PathBuf,
}

/// Invocations by function, most popular first: the law's shares, rounded down, the rest to those that lost most.
fn totals() -> Vec<u64> {
    let weights: Vec<f64> = (1..=FUNCTIONS).map(|rank| libm::pow(f64::from(rank), -ZIPF)).collect();
    let sum: f64 = weights.iter().sum();
    let shares: Vec<f64> = weights.iter().map(|w| w / sum * INVOCATIONS as f64).collect();
    let mut totals: Vec<u64> = shares.iter().map(|share| *share as u64).collect();
    let mut order: Vec<usize> = (0..totals.len()).collect();
    order.sort_by(|&a, &b| shares[b].fract().total_cmp(&shares[a].fract()).then(a.cmp(&b)));
    let left = INVOCATIONS - totals.iter().sum::<u64>();
    order.iter().take(left as usize).for_each(|&n| totals[n] += 1);
    totals
}

/// What the comparison reports, besides the times, which the caller takes.
#[derive(Clone, Debug)]
pub struct F1Figures {
    /// Invocations replayed.
    pub invocations: u64,
    /// Digest of the events.
    pub digest: String,
    /// The whole report.
    pub report: InvocationReport,
}

/// Reads the day's files and replays them: reading, placing inside the minutes and simulating all happen in this call.
pub fn f1_bench(files: &Files, seed: u64, settings: &Settings) -> Result<F1Figures, RunError> {
    let options = OpenOptions {
        format: Some(Format::AzureFunctions2019),
        seed,
        durations: Some(files.durations.clone()),
        ..OpenOptions::default()
    };
    let mut trace = open(&files.invocations, &options)?;
    let report = replay(settings, &mut trace, Hooks::default())?;
    Ok(F1Figures { invocations: report.arrivals, digest: report.digest.clone(), report })
}
