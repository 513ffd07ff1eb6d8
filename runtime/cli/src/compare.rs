//! `coldframe compare`: any number of reports side by side, as a table, HTML, JSON or CSV.
//!
//! It reads and prints; the statistics are in the simulator's report module. It leaves out running anything.

use crate::ui::{Ui, WholeFile, printable};
use anyhow::{Context, bail};
use coldframe_simulator::report::compare::{Comparison, merge};
use coldframe_simulator::report::metrics::METRICS;
use coldframe_simulator::report::model::Report;
use coldframe_simulator::report::per_request::quote;
use coldframe_simulator::report::table::{self, TableOptions};
use coldframe_simulator::report::units::Unit;
use coldframe_simulator::report::{html, json, summary};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Put reports side by side: which policy is better, by how much, and how sure the seeds are
///
/// Reads reports written by `coldframe replay --out`. A policy that occurs in several files is shown as
/// FILE/POLICY. Where the inputs of two files differ (trace, fleet, limits, tariff, profiles, seeds) a warning says so.
#[derive(clap::Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct CompareArgs {
    /// Reports to put side by side
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Write one self-contained HTML page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the merged report, which `compare` reads again
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    /// Measure the others against this policy
    #[arg(long, value_name = "POLICY")]
    baseline: Option<String>,
    /// Print CSV: a line for each policy and metric, with mean and 95 % interval
    #[arg(long)]
    csv: bool,
}

const EXAMPLES: &str = "\
Examples:
  # What did sharing the backbone bring? Two replays of one trace, one table
  coldframe compare shared.json unshared.json --baseline unshared/serverlesslora

  # A page to send on
  coldframe compare monday.json tuesday.json --html week.html

  # The mean TTFT of every policy
  coldframe compare report.json --csv | grep ',ttft_mean,'

  # Change against the baseline, for a script
  coldframe compare a.json b.json --json | jq '.changes[] | select(.metric == \"ttft_mean\")'

Numbers after ± are half the 95 % interval over seeds. Changes are paired: runs of one seed saw the same requests.
Several seeds come from `coldframe replay --seeds N`; with one there is no interval.";

/// Runs the command.
pub fn run(args: CompareArgs, ui: &Ui) -> anyhow::Result<()> {
    if args.csv && ui.json {
        bail!("--csv and --json both take stdout: give one of them");
    }
    outputs_spare_inputs(&args)?;
    let report = merge(read(&args.files, ui)?)?;
    let baseline = args.baseline.as_deref().map(|name| known_policy(&report, name)).transpose()?;
    for warning in report.warnings.iter().filter(|_| ui.json || args.csv) {
        ui.warn(&printable(warning));
    }
    if let Some(path) = &args.out {
        write(path, &json::to_string(&report), ui)?;
    }
    if let Some(path) = &args.html {
        write(path, &html::render_against(&report, baseline), ui)?;
    }
    let baseline = baseline.map(str::to_owned);
    print(&text(&args, ui, report, baseline))
}

fn text(args: &CompareArgs, ui: &Ui, report: Report, baseline: Option<String>) -> String {
    if ui.json {
        json::pretty(&Comparison::new(report, baseline.as_deref()))
    } else if args.csv {
        csv(&report)
    } else {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        table::render(&report, &TableOptions { width: width(), baseline, colour })
    }
}

fn read(files: &[PathBuf], ui: &Ui) -> anyhow::Result<Vec<(String, Report)>> {
    let mut reports = Vec::new();
    for path in files {
        ui.check()?;
        let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        reports.push((stem, json::read(path)?));
    }
    Ok(reports)
}

/// An output over an input would lose what was compared.
fn outputs_spare_inputs(args: &CompareArgs) -> anyhow::Result<()> {
    let same = |a: &Path, b: &Path| match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    };
    for output in args.out.iter().chain(&args.html) {
        if args.files.iter().any(|input| same(input, output)) {
            bail!("{} is one of the reports to compare: write to another file", output.display());
        }
    }
    match (&args.out, &args.html) {
        (Some(out), Some(html)) if same(out, html) => bail!("--out and --html name one file: give two"),
        _ => Ok(()),
    }
}

/// The name as the report has it, or an error that names the nearest.
fn known_policy<'a>(report: &'a Report, name: &str) -> anyhow::Result<&'a str> {
    let names: Vec<&str> = report.policies.iter().map(|policy| policy.name.as_str()).collect();
    if let Some(found) = names.iter().find(|known| **known == name) {
        return Ok(found);
    }
    let near = |known: &&&str| {
        let short = known.rsplit('/').next().unwrap_or(known);
        let distance = |text: &str| strsim::damerau_levenshtein(text, name);
        distance(known).min(distance(short) + 1)
    };
    match names.iter().min_by_key(near) {
        Some(nearest) => bail!(
            "no policy `{name}` in these reports; did you mean `{}`? There are: {}",
            printable(nearest),
            printable(&names.join(", "))
        ),
        None => bail!("no policy `{name}`: these reports hold no policies"),
    }
}

fn csv(report: &Report) -> String {
    let mut out = String::from("policy,metric,unit,seeds,mean,low,high\n");
    for policy in &report.policies {
        for metric in METRICS {
            let Some(found) = summary::over_seeds(policy, metric) else { continue };
            let (low, high) = match found.half {
                Some(_) => (found.low().to_string(), found.high().to_string()),
                None => (String::new(), String::new()),
            };
            let unit = match metric.unit {
                Unit::Count => "count",
                Unit::Seconds | Unit::Millis => "s",
                Unit::Share | Unit::Ratio => "ratio",
                Unit::GpuHours => "gpu_h",
                Unit::NanoUsd => "nano_usd",
                Unit::Usd => "usd",
                Unit::PerSecond => "per_s",
            };
            let name = quote(&policy.name);
            out += &format!("{name},{},{unit},{},{},{low},{high}\n", metric.key, found.n, found.mean);
        }
    }
    out
}

fn write(path: &Path, text: &str, ui: &Ui) -> anyhow::Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    file.finish()?;
    ui.say(&format!("wrote {}", path.display()));
    Ok(())
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // The reader (`head`, a pager) has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

/// `COLUMNS` where the shell exports it, else a usual terminal; never so narrow that a name has no room.
fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.unwrap_or(120usize).clamp(60, 120)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use coldframe_simulator::report::model::{PolicyReport, Quantiles, RunReport, SCHEMA};
    use std::collections::BTreeMap;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CompareArgs,
    }

    fn args(line: &[&str]) -> CompareArgs {
        Line::try_parse_from(std::iter::once(&"compare").chain(line)).expect("a good line").args
    }

    fn report(policy: &str) -> Report {
        let run = RunReport {
            seed: 1,
            ttft_s: Quantiles { count: 2, mean: 0.5, ..Quantiles::default() },
            ..RunReport::default()
        };
        Report {
            schema: SCHEMA.into(),
            tool: "test".into(),
            title: "t".into(),
            trace: Default::default(),
            inputs: Default::default(),
            policies: vec![PolicyReport {
                name: policy.into(),
                about: String::new(),
                parameters: BTreeMap::new(),
                runs: vec![run],
            }],
            warnings: Vec::new(),
            limits: Vec::new(),
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("coldframe-compare-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).expect("a temporary folder");
            Folder(path)
        }

        fn put(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("a temporary file");
            path.to_string_lossy().into_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn quiet() -> Ui {
        Ui { json: false, quiet: true, stop: Default::default() }
    }

    #[test]
    fn writes_a_page_and_a_report_that_reads_back() {
        let folder = Folder::new("files");
        let a = folder.put("a.json", &json::to_string(&report("lru")));
        let b = folder.put("b.json", &json::to_string(&report("lru")));
        let (page, merged) = (folder.0.join("new/x.html"), folder.0.join("m.json"));
        let (page_text, merged_text) = (page.to_string_lossy(), merged.to_string_lossy());
        run(args(&[&a, &b, "--html", &page_text, "--out", &merged_text, "--baseline", "b/lru"]), &quiet())
            .expect("two good reports");
        assert!(std::fs::read_to_string(&page).expect("written").starts_with("<!doctype html>"));
        let back = json::read(&merged).expect("our own file");
        assert_eq!(back.policies.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a/lru", "b/lru"]);
    }

    #[test]
    fn mistakes_say_what_to_do() {
        let folder = Folder::new("mistakes");
        let good = folder.put("good.json", &json::to_string(&report("lru")));
        let other = folder.put("other.json", "{\"schema\": \"coldframe.report/2\"}");
        let told = |line: &[&str]| format!("{:#}", run(args(line), &quiet()).expect_err("a mistake"));
        assert!(told(&[&good, "--baseline", "lruu"]).contains("did you mean `lru`"));
        assert!(told(&[&good, &other]).contains("update"));
        assert!(told(&[&good, "--out", &good]).contains("write to another file"));
        assert!(told(&["no-such.json"]).contains("cannot read no-such.json"));
    }

    #[test]
    fn csv_has_a_line_a_metric() {
        let text = csv(&report("a,b"));
        assert!(text.contains("\"a,b\",ttft_mean,s,1,0.5,,\n"), "{text}");
    }

    #[test]
    fn a_short_name_finds_its_file() {
        let merged = merge(vec![("x".into(), report("serverless")), ("y".into(), report("serverless"))]);
        let told = known_policy(&merged.expect("one schema"), "serverles").expect_err("unknown").to_string();
        assert!(told.contains("did you mean `x/serverless`"), "{told}");
    }
}
