//! `coldframe replay-invocations`: functions without tokens under one or more keep-alive times.
//!
//! It opens the trace, runs the simulator once per keep-alive, and prints a row each. Language-model traces belong to `replay`.

use crate::names::regular_file;
use crate::ui::{Ui, print};
use anyhow::{Context, Result, bail};
use clap::Args;
use coldframe_policy::parts::keep_alive::KeepAlivePart;
use coldframe_simulator::invocations::{self, Hooks, InvocationReport, Settings, f1};
use coldframe_simulator::profile::Profiles;
use coldframe_simulator::setup::RunError;
use coldframe_traces::{Format, OpenOptions, Refusal, open};
use cpu_time::ProcessTime;
use std::path::PathBuf;

/// Replay invocations without tokens: cold starts, instance time and latency by keep-alive time
///
/// Each function runs one invocation per instance. An invocation takes the most recently used idle instance; where there
/// is none it starts one and waits for it. An idle instance is stopped when its keep-alive time is over.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  One row per keep-alive time, from never kept to always kept:
    coldframe replay-invocations --trace day.invocations.csv.gz --durations day.durations.csv.gz \\
        --keep-alive 0,60,600,3600,forever --cold-start 0.25
  In 64 GB, 170 MB an instance; the least recently used idle instance goes when there is no room:
    coldframe replay-invocations --trace AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt \\
        --memory-mb 170 --fleet-memory-gb 64
  The made-up day of 4,320,000 invocations that simulators' speeds are compared on:
    coldframe replay-invocations --f1")]
pub struct InvocationsArgs {
    /// Trace file with durations, not tokens (azure-functions-2019, azure-functions-2021, …)
    #[arg(long, short, required_unless_present = "f1")]
    trace: Option<PathBuf>,
    /// Instead of a trace: a made-up Azure-Functions-2019 day of 1,000 functions and 4,320,000 invocations
    #[arg(long, conflicts_with_all = ["trace", "durations", "format"])]
    f1: bool,
    /// Trace format; told by the first line when left out
    #[arg(long)]
    format: Option<String>,
    /// Durations file of an azure-functions-2019 trace: each function takes its average
    #[arg(long)]
    durations: Option<PathBuf>,
    /// Duration of invocations whose record states none, seconds
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    default_duration: f64,
    /// Seconds an idle instance is kept, or `forever`; several, separated by commas, make one row each
    #[arg(long, short, value_delimiter = ',', default_value = "600", value_parser = keep_alive)]
    keep_alive: Vec<f64>,
    /// Keep by each function's arrival rate too: until the next arrival would have come with this probability
    #[arg(long, value_name = "PROBABILITY", value_parser = probability)]
    poisson: Option<f64>,
    /// Start of an instance: seconds, or a regime of `coldframe profiles list cold-start` (its container and libraries)
    #[arg(long, default_value = "0.25")]
    cold_start: String,
    /// Memory of an instance, MB (10^6 bytes)
    #[arg(long, value_parser = seconds)]
    memory_mb: Option<f64>,
    /// Memory of the fleet, GB (10^9 bytes); invocations that find no room are refused
    #[arg(long, requires = "memory_mb", value_parser = seconds)]
    fleet_memory_gb: Option<f64>,
    /// Seed of the placement inside minutes, and of the made-up day
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Turn each row of a counted trace by its own seeded number of minutes
    #[arg(long)]
    rotate: bool,
    /// Sort the trace by arrival in memory
    #[arg(long)]
    sort: bool,
    /// Go on when the trace has rows that can't be read; each is counted and the first are shown
    #[arg(long)]
    skip_bad_rows: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    // The clock holds 584 years; a billion seconds is more than any trace.
    if (0.0..=1e9).contains(&value) { Ok(value) } else { Err("expected a number from 0 to 1e9".to_owned()) }
}

fn keep_alive(text: &str) -> Result<f64, String> {
    if text == "forever" { Ok(f64::INFINITY) } else { seconds(text).map_err(|e| format!("{e} or `forever`")) }
}

fn probability(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err("expected a number between 0 and 1".to_owned()) }
}

fn ns(seconds: f64) -> u64 {
    (seconds * 1e9).round() as u64
}

/// Runs the command.
pub fn run(args: InvocationsArgs, ui: &Ui) -> Result<()> {
    let settings: Vec<Settings> =
        args.keep_alive.iter().map(|&seconds| args.settings(seconds)).collect::<Result<_>>()?;
    let folder = args.f1.then(tempfile::tempdir).transpose().context("cannot make a temporary folder")?;
    let made_up = match &folder {
        None => None,
        Some(folder) => {
            ui.say("making up the day");
            Some(f1::Day::new(args.seed).write(folder.path()).context("cannot write the made-up day")?)
        }
    };
    let (path, durations) = match (&made_up, &args.trace) {
        (Some(files), _) => (files.invocations.clone(), Some(files.durations.clone())),
        (None, Some(trace)) => (trace.clone(), args.durations.clone()),
        (None, None) => bail!("give a trace with --trace"),
    };
    let options = args.options(durations)?;
    let mut reports = Vec::new();
    for settings in &settings {
        reports.push(one(&args, settings, &path, &options, ui)?);
    }
    if ui.json {
        return print(&(serde_json::to_string_pretty(&reports)? + "\n"));
    }
    print(&table(&reports, args.poisson))
}

fn one(
    args: &InvocationsArgs,
    settings: &Settings,
    path: &std::path::Path,
    options: &OpenOptions,
    ui: &Ui,
) -> Result<InvocationReport> {
    let bar = ui.progress(&format!("keep-alive {}", name(&settings.keep_alive)));
    let mut poll = |done: Option<f64>| {
        done.into_iter().for_each(|share| bar.set_position((share * 1000.0) as u64));
        ui.check().is_ok()
    };
    let mut shown = 0;
    let mut note = |row: Refusal| {
        shown += 1;
        if shown <= 3 {
            let column =
                if row.column.is_empty() { String::new() } else { format!("column `{}`: ", row.column) };
            ui.warn(&format!("{}:{}: {column}{}", row.file.display(), row.line, row.reason));
        }
    };
    let started = ProcessTime::now();
    regular_file(path)?;
    let mut trace = open(path, options)?;
    let hooks = Hooks {
        poll: Some(&mut poll),
        refused: args.skip_bad_rows.then_some(&mut note as &mut dyn FnMut(Refusal)),
    };
    let replayed = invocations::replay(settings, &mut trace, hooks);
    let cpu = started.elapsed().as_secs_f64();
    bar.finish_and_clear();
    let report = match replayed {
        Err(RunError::Stopped) => return Err(crate::ui::Interrupted.into()),
        Err(RunError::Row(row)) => {
            bail!("{}\n--skip-bad-rows goes on without such rows", RunError::Row(row))
        }
        Err(e @ (RunError::Empty | RunError::HasTokens { .. })) => bail!("trace {}: {e}", path.display()),
        other => other?,
    };
    trace.warnings().iter().for_each(|warning| ui.warn(warning));
    if report.without_duration > 0 {
        ui.warn(&format!(
            "{} of {} invocations state no duration and take {} s (--default-duration)",
            report.without_duration, report.arrivals, args.default_duration
        ));
    }
    ui.say(&format!(
        "{} invocations in {cpu:.2} CPU seconds, {:.0} a second, reading included",
        report.arrivals,
        report.arrivals as f64 / cpu.max(1e-9)
    ));
    Ok(report)
}

impl InvocationsArgs {
    fn settings(&self, keep_s: f64) -> Result<Settings> {
        let cold_start_ns = match self.cold_start.parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => ns(value),
            Ok(_) => bail!("--cold-start {}: expected seconds from 0, or a regime's name", self.cold_start),
            Err(_) => invocations::cold_start_ns(&Profiles::cold_start(&self.cold_start)?),
        };
        let keep_alive = match self.poisson {
            None => invocations::keep(keep_s),
            Some(_) if keep_s.is_infinite() => {
                bail!("--poisson needs a time as its upper bound: give --keep-alive seconds, not `forever`")
            }
            // The fixed time is the upper bound; rates are taken over an hour (arbitrary).
            Some(p_offload) => KeepAlivePart::Poisson {
                container_s: keep_s,
                p_offload,
                window_s: 3600.0,
                min_s: 0.0,
                max_s: keep_s,
            },
        };
        Ok(Settings {
            keep_alive,
            cold_start_ns,
            default_duration_ns: ns(self.default_duration),
            instance_bytes: self.memory_mb.map_or(0, |mb| (mb * 1e6).round() as u64),
            memory_cap_bytes: self.fleet_memory_gb.map(|gb| (gb * 1e9).round() as u64),
        })
    }

    fn options(&self, durations: Option<PathBuf>) -> Result<OpenOptions> {
        let by_name = |name: &String| {
            Format::by_name(name)
                .with_context(|| format!("no trace format `{name}`; there are:{}", Format::listing()))
        };
        Ok(OpenOptions {
            format: self.format.as_ref().map(by_name).transpose()?,
            seed: self.seed,
            durations,
            rotate: self.rotate,
            sort: self.sort,
            ..OpenOptions::default()
        })
    }
}

fn name(part: &KeepAlivePart) -> String {
    match part {
        KeepAlivePart::Forever {} => "forever".to_owned(),
        KeepAlivePart::Fixed { container_s, .. } => format!("{container_s} s"),
        KeepAlivePart::Poisson { container_s, .. } => format!("by rate, to {container_s} s"),
    }
}

/// One row per report; the shape of arrivals below, from the first.
fn table(reports: &[InvocationReport], poisson: Option<f64>) -> String {
    let head = [
        "keep-alive",
        "completed",
        "refused",
        "cold",
        "cold %",
        "busy h",
        "cold h",
        "idle h",
        "idle %",
        "GB h",
        "peak",
        "p50 s",
        "p99 s",
    ];
    let hours = |ns: u128| format!("{:.2}", ns as f64 / 3.6e12);
    let row = |r: &InvocationReport| {
        vec![
            name(&r.settings.keep_alive),
            r.completed.to_string(),
            r.refused.to_string(),
            r.cold_starts.to_string(),
            format!("{:.3}", r.cold_share * 100.0),
            hours(r.instance_time.busy_ns),
            hours(r.instance_time.cold_ns),
            hours(r.instance_time.idle_ns),
            format!("{:.2}", r.idle_share * 100.0),
            r.gb_s.map_or_else(|| "-".to_owned(), |gb_s| format!("{:.2}", gb_s / 3600.0)),
            r.peak_instances.to_string(),
            format!("{:.3}", r.latency_s.p50),
            format!("{:.3}", r.latency_s.p99),
        ]
    };
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(reports.iter().map(row));
    let mut text = aligned(&rows);
    if let Some(p) = poisson {
        text.push_str(&format!("kept until the next arrival would have come with probability {p}\n"));
    }
    for report in reports {
        let classes = report.by_pattern.iter().chain(&report.by_service_class).filter(|c| c.arrivals > 0);
        let class = |c: &invocations::ClassCount| {
            let share = 100.0 * c.cold_starts as f64 / (c.arrivals - c.refused).max(1) as f64;
            let name = if c.class.is_empty() { "(no class)" } else { &c.class };
            format!("{name} {} ({share:.2} % cold)", c.arrivals)
        };
        let all: Vec<String> = classes.map(class).collect();
        text.push_str(&format!("{}: {}\n", name(&report.settings.keep_alive), all.join(", ")));
    }
    text
}

fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(n, (cell, &width))| {
            if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: InvocationsArgs,
    }

    fn parse(words: &str) -> Result<InvocationsArgs, clap::Error> {
        Line::try_parse_from(words.split_whitespace()).map(|line| line.args)
    }

    #[test]
    fn keep_alive_times_and_cold_starts() {
        let args = parse("x --trace t --keep-alive 0,60,forever --cold-start container").expect("good");
        assert_eq!(args.keep_alive, [0.0, 60.0, f64::INFINITY]);
        let regime = Profiles::cold_start("container").expect("shipped");
        let settings = args.settings(60.0).expect("good");
        assert_eq!(settings.cold_start_ns, regime.container_ns + regime.runtime_ns);
        assert_eq!(
            parse("x --trace t").expect("good").settings(1.0).expect("good").cold_start_ns,
            250_000_000
        );
        let by_rate = parse("x --f1 --poisson 0.9").expect("good");
        assert!(by_rate.settings(600.0).is_ok() && by_rate.settings(f64::INFINITY).is_err());
        assert_eq!(name(&args.settings(f64::INFINITY).expect("good").keep_alive), "forever");
        for wrong in [
            "x",
            "x --trace t --f1",
            "x --f1 --keep-alive -1",
            "x --f1 --keep-alive soon",
            "x --f1 --poisson 1",
            "x --f1 --fleet-memory-gb 1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(parse("x --f1 --cold-start=-1").expect("a text").settings(1.0).is_err());
        assert!(parse("x --f1 --cold-start nowhere").expect("a text").settings(1.0).is_err());
    }

    #[test]
    fn columns_line_up() {
        let rows = [["a", "10"], ["long", "7"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(aligned(&rows), "a     10\nlong   7\n");
    }
}
