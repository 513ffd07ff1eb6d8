//! The report as text for a terminal: policies side by side, where GPU time went, cold-start stages, reductions.
//!
//! Several seeds show as mean ± half the 95 % interval. The best value of a column carries a `*`. It leaves out
//! curves, functions and inputs beyond a line: those are in the HTML page and the JSON.

use super::grid::{Cell, Column, Grid, shorten, wrap};
use super::metrics::{self, METRICS, Metric};
use super::model::{PolicyReport, Report, RunReport};
use super::summary;
use super::units;

/// How the table is drawn.
#[derive(Clone, Debug)]
pub struct TableOptions {
    /// Characters a line may have; wide tables wrap into blocks.
    pub width: usize,
    /// Policy the others are measured against; `None` for each in turn, or the first when there are more than four.
    pub baseline: Option<String>,
    /// ANSI colour; give `false` unless stdout is a terminal.
    pub colour: bool,
}

impl Default for TableOptions {
    fn default() -> Self {
        TableOptions { width: 120, baseline: None, colour: false }
    }
}

/// More policies than this show reductions against the first only; arbitrary, to stay on a page.
const ALL_BASELINES_MAX: usize = 4;

/// Metrics of the reduction tables: few enough for a line.
const REDUCED: [&str; 6] = ["ttft_mean", "ttft_p99", "e2e_mean", "slo_both", "gpu_hours", "money_per_1000"];

/// The whole text: heading, tables, warnings.
pub fn render(report: &Report, options: &TableOptions) -> String {
    let mut out = heading(report, options.width);
    if report.policies.is_empty() {
        out.push_str("no policy was run\n");
        return out;
    }
    for grid in [headline(report), gpu_time(report), stages(report)] {
        out.push('\n');
        out.push_str(&grid.render(options.width, options.colour));
    }
    for baseline in baselines(report, options) {
        out.push('\n');
        out.push_str(&reductions(report, baseline).render(options.width, options.colour));
    }
    if options.baseline.is_none() && report.policies.len() > ALL_BASELINES_MAX {
        wrap(&mut out, "Measured against the first policy; --baseline NAME takes another.", options.width);
    }
    warnings(&mut out, report, options.width);
    out
}

fn heading(report: &Report, width: usize) -> String {
    let (trace, inputs) = (&report.trace, &report.inputs);
    let hash = match trace.sha256.chars().filter(char::is_ascii_hexdigit).take(12).collect::<String>() {
        none if none.is_empty() => "no file".to_owned(),
        start => format!("sha256 {start}…"),
    };
    let seeds = summary::seeds(report);
    let mut out = format!("{}\n", shorten(&report.title, width));
    let about_trace = format!(
        "trace {} ({hash}): {} requests, {} functions over {}",
        shorten(&trace.name, 50),
        units::count(trace.records),
        units::count(trace.functions),
        units::duration(trace.span_s)
    );
    let about_inputs = format!(
        "fleet {}; limits TTFT {}, TPOT {}; tariff {}; {}",
        shorten(&inputs.fleet, 60),
        units::duration(inputs.slo_ttft_s),
        units::duration(inputs.slo_tpot_s),
        shorten(&inputs.primary_tariff, 30),
        if seeds > 1 {
            format!("{seeds} seeds, ± is half the 95 % interval")
        } else {
            "one seed".to_owned()
        }
    );
    wrap(&mut out, &about_trace, width);
    wrap(&mut out, &about_inputs, width);
    out
}

fn names(report: &Report) -> Vec<String> {
    report.policies.iter().map(|policy| policy.name.clone()).collect()
}

fn headline(report: &Report) -> Grid {
    let shown = METRICS.iter().take_while(|metric| metric.key != "goodput");
    let columns = shown.map(|metric| column(report, metric)).collect();
    let ranked = report.policies.iter().filter(|policy| !metrics::is_bound(policy)).count();
    let mut note = String::new();
    if ranked > 1 {
        note.push_str("* best value of the column. ");
    }
    if ranked < report.policies.len() {
        note.push_str("The clairvoyant bound is not ranked: no system can run it. ");
    }
    note.push_str("SLO met: share of arrived requests within both limits.");
    Grid { title: "Policies".to_owned(), label: "policy".to_owned(), rows: names(report), columns, note }
}

fn column(report: &Report, metric: &Metric) -> Column {
    let best = summary::best(report, metric);
    let cell = |(i, policy): (usize, &PolicyReport)| {
        let text = match summary::over_seeds(policy, metric) {
            None => "–".to_owned(),
            Some(found) => match found.half {
                Some(half) if half > 0.0 => metric.unit.format_pair(found.mean, half),
                _ => metric.unit.format(found.mean),
            },
        };
        Cell { text, best: best.contains(&i) }
    };
    Column {
        heading: metric.heading.to_owned(),
        unit: metric.unit.heading().to_owned(),
        cells: report.policies.iter().enumerate().map(cell).collect(),
    }
}

/// Ten-thousandths of a GPU-hour, rounded so that the row adds up.
const GPU_STEP_NS: u128 = 360_000_000;

fn gpu_time(report: &Report) -> Grid {
    let causes: Vec<String> = first_run(report).map_or(Vec::new(), |run| names_of(&run.gpu.causes));
    let rows: Vec<(Vec<u128>, u128)> = report
        .policies
        .iter()
        .map(|policy| {
            let part = |cause: &String| {
                summary::mean_whole(policy.runs.iter().map(|run| find(&run.gpu.causes, cause)))
            };
            units::round_parts(&causes.iter().map(part).collect::<Vec<_>>(), GPU_STEP_NS)
        })
        .collect();
    let hours = |tenths: u128| Cell::new(format!("{}.{:04}", tenths / 10_000, tenths % 10_000));
    let mut columns: Vec<Column> = causes
        .iter()
        .enumerate()
        .map(|(i, cause)| Column {
            heading: cause.replace("_weights", "s").replace('_', " "),
            unit: String::new(),
            cells: rows.iter().map(|(parts, _)| hours(parts[i])).collect(),
        })
        .collect();
    columns.push(Column {
        heading: "= total".to_owned(),
        unit: String::new(),
        cells: rows.iter().map(|(_, total)| hours(*total)).collect(),
    });
    Grid {
        title: format!("GPU time by cause, GPU-hours{}", mean_note(report)),
        label: "policy".to_owned(),
        rows: names(report),
        columns,
        note: String::new(),
    }
}

fn stages(report: &Report) -> Grid {
    let stages: Vec<String> =
        first_run(report).map_or(Vec::new(), |run| run.stages.iter().map(|s| s.stage.clone()).collect());
    let mean = |policy: &PolicyReport, value: &dyn Fn(&RunReport) -> f64| {
        let served: Vec<f64> = policy.runs.iter().filter(|run| run.ttft_s.count > 0).map(value).collect();
        Cell::new(summary::interval(&served).map_or("–".to_owned(), |found| format!("{:.4}", found.mean)))
    };
    let mut columns: Vec<Column> = stages
        .iter()
        .map(|stage| Column {
            heading: stage.clone(),
            unit: String::new(),
            cells: report
                .policies
                .iter()
                .map(|policy| {
                    mean(policy, &|run| {
                        run.stages.iter().find(|s| s.stage == *stage).map_or(0.0, |s| s.mean_s)
                    })
                })
                .collect(),
        })
        .collect();
    for (heading, value) in [
        ("= TTFT", (&|run: &RunReport| run.ttft_s.mean) as &dyn Fn(&RunReport) -> f64),
        ("cold only", &|run: &RunReport| run.stages.iter().map(|s| s.cold_mean_s).sum()),
    ] {
        let cells = report.policies.iter().map(|policy| mean(policy, value)).collect();
        columns.push(Column { heading: heading.to_owned(), unit: String::new(), cells });
    }
    Grid {
        title: format!(
            "Cold-start stages, mean seconds of TTFT over completed requests{}",
            mean_note(report)
        ),
        label: "policy".to_owned(),
        rows: names(report),
        columns,
        note: "cold only: the mean TTFT of requests that met a cold start.".to_owned(),
    }
}

fn baselines<'a>(report: &'a Report, options: &TableOptions) -> Vec<&'a PolicyReport> {
    if report.policies.len() < 2 {
        return Vec::new();
    }
    match &options.baseline {
        Some(name) => report.policies.iter().filter(|policy| policy.name == *name).collect(),
        None if report.policies.len() > ALL_BASELINES_MAX => report.policies.iter().take(1).collect(),
        None => report.policies.iter().collect(),
    }
}

fn reductions(report: &Report, baseline: &PolicyReport) -> Grid {
    let others: Vec<&PolicyReport> =
        report.policies.iter().filter(|policy| policy.name != baseline.name).collect();
    let columns = REDUCED
        .iter()
        .filter_map(|key| metrics::by_key(key))
        .map(|metric| Column {
            heading: metric.heading.to_owned(),
            unit: String::new(),
            cells: others.iter().map(|policy| Cell::new(change_text(policy, baseline, metric))).collect(),
        })
        .collect();
    let several = others.iter().any(|policy| policy.runs.len() > 1);
    let note = if several { "[95 % interval of the differences paired by seed]" } else { "" };
    Grid {
        title: format!("Change against {}", shorten(&baseline.name, 60)),
        label: "policy".to_owned(),
        rows: others.iter().map(|policy| policy.name.clone()).collect(),
        columns,
        note: note.to_owned(),
    }
}

/// A change with its interval, e.g. `−62 % [−70, −51]`; `–` where there is none.
pub fn change_text(policy: &PolicyReport, baseline: &PolicyReport, metric: &Metric) -> String {
    let Some(found) = summary::change(policy, baseline, metric) else { return "–".to_owned() };
    let end = |relative: f64| units::change(relative).trim_end_matches(" %").to_owned();
    match found.interval {
        Some((low, high)) if low != high => {
            format!("{} [{}, {}]", units::change(found.relative), end(low), end(high))
        }
        _ => units::change(found.relative),
    }
}

fn warnings(out: &mut String, report: &Report, width: usize) {
    if !report.warnings.is_empty() {
        out.push('\n');
    }
    for warning in &report.warnings {
        let clean: String = warning.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        wrap(out, &format!("warning: {clean}"), width);
    }
}

fn first_run(report: &Report) -> Option<&RunReport> {
    report.policies.iter().flat_map(|policy| &policy.runs).next()
}

fn names_of(parts: &[(String, u64)]) -> Vec<String> {
    parts.iter().map(|(name, _)| name.clone()).collect()
}

fn find(parts: &[(String, u64)], name: &str) -> u64 {
    parts.iter().find(|(part, _)| part == name).map_or(0, |(_, value)| *value)
}

fn mean_note(report: &Report) -> &'static str {
    if summary::seeds(report) > 1 { ", mean over seeds" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn lines_fit(text: &str, width: usize) {
        for line in text.lines() {
            assert!(line.chars().count() <= width, "{} characters: {line}", line.chars().count());
        }
    }

    #[test]
    fn fits_and_is_plain_without_a_terminal() {
        for report in
            [sample::report(4, 3), sample::report(1, 1), sample::report(16, 5), sample::nothing_completed()]
        {
            let text = render(&report, &TableOptions::default());
            lines_fit(&text, 120);
            assert!(!text.contains('\x1b') && !text.contains("NaN") && !text.contains("inf"), "{text}");
            lines_fit(&render(&report, &TableOptions { width: 80, ..TableOptions::default() }), 80);
        }
    }

    /// Set `COLDFRAME_SAMPLES` to a folder to look at the tables.
    #[test]
    fn writes_samples_when_asked() {
        let Some(folder) = std::env::var_os("COLDFRAME_SAMPLES").map(std::path::PathBuf::from) else {
            return;
        };
        for (name, report) in
            [("four", sample::report(4, 5)), ("one", sample::report(1, 1)), ("many", sample::report(16, 3))]
        {
            let text = render(&report, &TableOptions::default());
            std::fs::write(folder.join(format!("{name}.txt")), text).expect("the folder can be written");
        }
    }

    #[test]
    fn shows_units_marks_and_reductions() {
        let text = render(&sample::report(4, 3), &TableOptions::default());
        for wanted in
            ["TTFT mean", "GPU-h", "±", "*", "= total", "Change against keep-alive-fixed", "warning:"]
        {
            assert!(text.contains(wanted), "{wanted} is missing from\n{text}");
        }
        let one = TableOptions { baseline: Some("serverless-llm".into()), ..TableOptions::default() };
        assert_eq!(render(&sample::report(4, 3), &one).matches("Change against").count(), 1);
        assert!(render(&sample::report(1, 1), &TableOptions::default()).contains("one seed"));
    }

    #[test]
    fn gpu_rows_add_up_as_shown() {
        let text = gpu_time(&sample::report(4, 3)).render(400, false);
        for line in text.lines().skip(3) {
            let numbers: Vec<u64> = line
                .split_whitespace()
                .skip(1)
                .map(|word| word.replace('.', "").parse().expect("a number"))
                .collect();
            let (total, parts) = numbers.split_last().expect("causes and a total");
            assert_eq!(parts.iter().sum::<u64>(), *total, "{line}");
        }
    }

    #[test]
    fn colour_only_when_asked() {
        let options = TableOptions { colour: true, ..TableOptions::default() };
        assert!(render(&sample::report(2, 1), &options).contains("\x1b[1;32m"));
    }

    #[test]
    fn hostile_names_cannot_drive_the_terminal() {
        let mut report = sample::report(2, 1);
        report.title = "a\x1b]0;owned\x07".into();
        report.policies[0].name = "\x1b[2Jx".into();
        report.trace.name = "\x1b[31mred".into();
        report.warnings.push("\x1b[0mw".into());
        assert!(!render(&report, &TableOptions::default()).contains('\x1b'));
    }
}
