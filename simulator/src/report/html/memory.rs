//! Device memory by use over time: one small chart a policy on one scale, and a table of means and peaks.
//!
//! With several seeds the chart shows the first; the table holds means over all.

use super::super::model::{Report, RunReport};
use super::super::summary;
use super::super::units;
use super::markup::{Cell, Table, esc, letter, policy, section as frame};
use super::svg::{Scale, fill_legend};
use super::{part_names, words};
use std::fmt::Write;

/// Fills of the uses: base blue, duplicates red and crossed, free palest.
const FILLS: [usize; 7] = [0, 3, 1, 5, 4, 6, 7];

pub(super) fn section(report: &Report) -> String {
    let names = part_names(report, |run| run.memory.by_use.iter().map(|used| used.name.as_str()).collect());
    let all = report.policies.iter().filter_map(|p| p.runs.first()).flat_map(|run| &run.memory.over_time);
    let scale = Scale::up_to(all.map(|row| gigabytes(row)));
    let mut body = fill_legend(
        names
            .iter()
            .enumerate()
            .map(|(i, n)| (FILLS[i % 7], words(n)))
            .collect::<Vec<_>>()
            .iter()
            .map(|(f, n)| (*f, n.as_str())),
    );
    body.push_str("<div class=\"multiples\">");
    for (i, p) in report.policies.iter().enumerate() {
        let Some(run) = p.runs.first() else { continue };
        let _ = write!(
            body,
            "<figure><h3>{}</h3>{}</figure>",
            policy(report, i),
            chart(run, &names, scale, &format!("{}: device memory by use over time", letter(i)))
        );
    }
    body.push_str("</div>");
    body.push_str(&table(report, &names).render());
    let mut intro = "Whole fleet, in GB of 10^9 bytes, all charts on one scale.".to_owned();
    if summary::seeds(report) > 1 {
        intro.push_str(" The charts show each policy's first seed, the table means over seeds.");
    }
    frame("memory", "Memory by use", &intro, &body)
}

fn gigabytes(row: &[u64]) -> f64 {
    row.iter().map(|bytes| *bytes as f64).sum::<f64>() * 1e-9
}

const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 40.0;
const BOTTOM: f64 = 22.0;

fn chart(run: &RunReport, names: &[&str], scale: Scale, about: &str) -> String {
    let rows = &run.memory.over_time;
    let (right, top) = (WIDTH - 8.0, 8.0);
    let x = |i: usize| LEFT + (right - LEFT) * i as f64 / (rows.len().max(2) - 1) as f64;
    let y = |value: f64| top + (HEIGHT - top) * (1.0 - scale.place(value));
    let mut out =
        format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" aria-label=\"{about}\">", HEIGHT + BOTTOM);
    for tick in scale.ticks(|v| format!("{} GB", units::sig(v))) {
        let at = top + (HEIGHT - top) * (1.0 - tick.place);
        let _ =
            write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>");
        if !tick.minor {
            let text = tick.text.trim_end_matches(" GB");
            let _ = write!(
                out,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 6.0,
                at + 4.0
            );
        }
    }
    // A single step is drawn as wide as the chart.
    let places: Vec<usize> = if rows.len() == 1 { vec![0, 0] } else { (0..rows.len()).collect() };
    let mut below = vec![0.0; places.len()];
    for (u, name) in names.iter().enumerate() {
        let above: Vec<f64> = places
            .iter()
            .zip(&below)
            .map(|(&i, base)| base + rows[i].get(u).copied().unwrap_or(0) as f64 * 1e-9)
            .collect();
        if above != below {
            let mut d = String::new();
            let edge = above.iter().enumerate().chain(below.iter().enumerate().rev());
            for (k, (i, value)) in edge.enumerate() {
                let _ = write!(d, "{}{:.1} {:.1}", if k == 0 { "M" } else { "L" }, x(i), y(*value));
            }
            let _ = write!(
                out,
                "<path d=\"{d}Z\" fill=\"url(#fill{})\"><title>{}</title></path>",
                FILLS[u % FILLS.len()],
                words(name)
            );
        }
        below = above;
    }
    if rows.is_empty() {
        let _ =
            write!(out, "<text x=\"{}\" y=\"80\" text-anchor=\"middle\">not recorded</text>", WIDTH / 2.0);
    }
    let span = run.memory.step_s * rows.len() as f64;
    let floor = HEIGHT + 16.0;
    let _ = write!(
        out,
        "<text x=\"{LEFT}\" y=\"{floor}\">0</text><text x=\"{right}\" y=\"{floor}\" text-anchor=\"end\">{}</text></svg>",
        esc(&units::duration(span))
    );
    out
}

fn table(report: &Report, names: &[&str]) -> Table {
    let row = |i: usize| {
        let runs = &report.policies[i].runs;
        let cell = |name: &&str| {
            let of = |value: fn(&super::super::model::MemoryUse) -> u64| {
                let values = runs
                    .iter()
                    .map(|run| run.memory.by_use.iter().find(|u| u.name == *name).map_or(0, value));
                units::bytes(u64::try_from(summary::mean_whole(values)).unwrap_or(u64::MAX))
            };
            Cell::new(format!("{} <small>peak {}</small>", of(|u| u.mean_bytes), of(|u| u.peak_bytes)))
        };
        std::iter::once(Cell::new(policy(report, i))).chain(names.iter().map(cell)).collect()
    };
    Table {
        caption: "Mean and peak bytes by use, whole fleet".to_owned(),
        head: std::iter::once("policy".to_owned()).chain(names.iter().map(|name| words(name))).collect(),
        rows: (0..report.policies.len()).map(row).collect(),
        class: "numbers stacked",
    }
}
