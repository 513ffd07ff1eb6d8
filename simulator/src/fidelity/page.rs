//! Fidelity as a page: both worlds' curves on one plot, every number side by side, where decisions part.

use super::compare::Row;
use super::decisions::{Agreement, Dated, SameFate};
use crate::report::html::markup::{Cell, Table, esc, section};
use crate::report::html::svg::{self, Plot, Scale, tick_text};
use crate::report::html::theme::{dash, page as frame};
use crate::report::model::RunReport;
use crate::report::units;

/// What the page shows.
pub struct Pair<'a> {
    /// A heading.
    pub title: &'a str,
    /// Trace, policy and fleet in words.
    pub about: &'a str,
    /// Live runs.
    pub live: &'a [RunReport],
    /// The simulation, or one for each live run.
    pub simulated: &'a [RunReport],
    /// Every number.
    pub rows: &'a [Row],
    /// Decisions, where both logs are there: of the pair whose fates agree least.
    pub agreement: Option<&'a Agreement>,
    /// Each live run's fates beside its simulation's.
    pub same_fate: Option<SameFate>,
    /// Fates of each two live runs.
    pub same_fate_live: Option<SameFate>,
}

/// The page.
pub fn page(pair: &Pair<'_>) -> String {
    let mut sections = vec![
        ("curves", "Latency", curves(pair)),
        ("numbers", "Numbers", section("numbers", "Numbers", INTRO, &numbers(pair.rows))),
    ];
    if pair.live.iter().any(|run| !run.memory.over_time.is_empty()) {
        sections.push(("residency", "Adapters in memory", residency(pair)));
    }
    if let Some(agreement) = pair.agreement {
        sections.push(("decisions", "Decisions", decisions(agreement, pair)));
    }
    let contents: Vec<(&str, &str)> = sections.iter().map(|(id, title, _)| (*id, *title)).collect();
    let body: String = sections.iter().map(|(_, _, html)| html.as_str()).collect();
    frame(pair.title, &format!("<p class=\"about\">{}</p>", esc(pair.about)), &contents, &body)
}

const INTRO: &str = "Live is the mean of the live runs, noise half their spread over it, simulated the mean of the \
                     simulations; error is simulated over live, less one.";

fn curves(pair: &Pair<'_>) -> String {
    let ttft = cdf(pair, "time to first token", |run| &run.ttft_cdf);
    let e2e = cdf(pair, "arrival to last token", |run| &run.e2e_cdf);
    let intro = "A line for each run. A simulation starts with what its live run's host had measured.";
    section("curves", "Latency", intro, &(ttft + &e2e))
}

type Curve = fn(&RunReport) -> &Vec<(f64, f64)>;

/// The worlds; all runs of one are drawn alike.
const WORLDS: [&str; 2] = ["live", "simulated"];

/// A run's line: its world, its name, its points.
type Line = (usize, String, Vec<(f64, f64)>);

/// Runs with their world and name, the simulated ones last.
fn named<'a>(pair: &'a Pair<'_>) -> Vec<(usize, String, &'a RunReport)> {
    let all = |world: usize, runs: &'a [RunReport]| {
        let what = WORLDS[world];
        let name =
            move |n: usize| if runs.len() == 1 { what.to_owned() } else { format!("{what} {}", n + 1) };
        runs.iter().enumerate().map(move |(n, run)| (world, name(n), run))
    };
    all(0, pair.live).chain(all(1, pair.simulated)).collect()
}

fn cdf(pair: &Pair<'_>, what: &str, curve: Curve) -> String {
    let runs = named(pair);
    let scale = Scale::log(runs.iter().flat_map(|(_, _, run)| curve(run).iter().map(|p| p.0)));
    let points = |run: &RunReport| curve(run).iter().map(|&(x, y)| (scale.place(x), y)).collect();
    let lines: Vec<Line> =
        runs.iter().map(|(world, name, run)| (*world, name.clone(), points(run))).collect();
    let seconds = |v: f64| {
        if v < 0.9995 { format!("{} ms", tick_text(v * 1e3)) } else { format!("{} s", tick_text(v)) }
    };
    let share = Scale::Linear(1.0).ticks(|v| format!("{:.0} %", v * 100.0));
    let x = (scale.ticks(seconds), format!("{what}, logarithmic"));
    figure(
        &format!("Share of completed requests by {what}"),
        x,
        (share, "share at or below".to_owned()),
        &lines,
    )
}

fn figure(about: &str, x: (Vec<svg::Tick>, String), y: (Vec<svg::Tick>, String), lines: &[Line]) -> String {
    let (mut curves, mut legend) = (String::new(), String::new());
    let mut runs = [0; WORLDS.len()];
    for (world, name, points) in lines.iter().filter(|(_, _, points)| !points.is_empty()) {
        runs[*world] += 1;
        curves += &format!(
            "<path class=\"curve s{world}\" stroke-dasharray=\"{}\" d=\"{}\"><title>{}</title></path>",
            dash(*world),
            svg::path(points.iter().copied()),
            esc(name)
        );
    }
    for (world, what) in WORLDS.iter().enumerate().filter(|(world, _)| runs[*world] > 0) {
        let count = if runs[world] > 1 { format!(", {} runs", runs[world]) } else { String::new() };
        legend += &format!("<li><b class=\"key s{world}\">{}</b> {what}{count}</li>", world + 1);
    }
    let plot = Plot { about: esc(about), x, y, height_px: 320, curves, marks: String::new() };
    let caption = esc(about);
    format!(
        "<figure><ul class=\"legend\">{legend}</ul>{}<figcaption>{caption}</figcaption></figure>",
        plot.render()
    )
}

fn residency(pair: &Pair<'_>) -> String {
    const ADAPTERS: usize = 2;
    let runs = named(pair);
    let span = |run: &RunReport| run.memory.step_s * run.memory.over_time.len() as f64;
    let across = Scale::up_to(runs.iter().map(|(_, _, run)| span(run)));
    let bytes = |row: &Vec<u64>| row.get(ADAPTERS).copied().unwrap_or(0) as f64 / 1e6;
    let up = Scale::linear(runs.iter().flat_map(|(_, _, run)| run.memory.over_time.iter().map(bytes)));
    let line = |run: &RunReport| {
        let at = |n: usize| across.place((n as f64 + 0.5) * run.memory.step_s);
        run.memory.over_time.iter().enumerate().map(|(n, row)| (at(n), up.place(bytes(row)))).collect()
    };
    let lines: Vec<Line> = runs.iter().map(|(world, name, run)| (*world, name.clone(), line(run))).collect();
    let x = (across.ticks(tick_text), "seconds".to_owned());
    let y = (up.ticks(tick_text), "10⁶ bytes of adapters in device memory".to_owned());
    let intro = "From the hosts' logs, through the simulator's own account.";
    section(
        "residency",
        "Adapters in memory",
        intro,
        &figure("Adapters in device memory over time", x, y, &lines),
    )
}

fn numbers(rows: &[Row]) -> String {
    let row = |row: &Row| {
        let error = row.error().map_or("live is zero".to_owned(), units::change);
        let heading = match row.unit.heading() {
            "" => esc(&row.what),
            unit => format!("{}, {unit}", esc(&row.what)),
        };
        let values =
            [row.unit.format(row.live), units::percent(row.noise()), row.unit.format(row.simulated), error];
        std::iter::once(heading).chain(values).map(Cell::new).collect()
    };
    Table {
        caption: "Live and simulated".to_owned(),
        head: ["", "live", "noise", "simulated", "error"].map(str::to_owned).into(),
        rows: rows.iter().map(row).collect(),
        class: "numbers",
    }
    .render()
}

fn decisions(agreement: &Agreement, pair: &Pair<'_>) -> String {
    let share = |value: f64| units::percent(value);
    let mut body = String::new();
    let shares = [
        ("a live run and its simulation", pair.same_fate),
        ("two live runs of the same trace", pair.same_fate_live),
    ];
    for (whose, same) in shares.iter().filter_map(|(whose, same)| Some((whose, (*same)?))) {
        body += &format!(
            "<p>Requests with the same fate (refused, or admitted after waiting for the same stages) in {whose}: {} on the \
             mean, {} where they agree least.</p>",
            share(same.mean),
            share(same.least)
        );
    }
    let in_order = agreement.in_order.map_or("too different to tell".to_owned(), share);
    body += &format!(
        "<p>Where they agree least: {} live and {} simulated decisions, {in_order} of them common in order.</p>",
        agreement.counts[0], agreement.counts[1]
    );
    let rows = agreement.kinds.iter().map(|(kind, [live, simulated])| {
        [(*kind).to_owned(), live.to_string(), simulated.to_string()].map(Cell::new).to_vec()
    });
    let table = Table {
        caption: "Decisions by kind".to_owned(),
        head: ["kind", "live", "simulated"].map(str::to_owned).into(),
        rows: rows.collect(),
        class: "numbers",
    };
    body += &table.render();
    if let Some(parted) = &agreement.parted {
        let before = parted.before.as_ref().map_or("nothing".to_owned(), |d| format!("{d:?}"));
        body += &format!(
            "<p>They part at decision {}, after {}: live {}, simulated {}.</p>",
            parted.place + 1,
            esc(&before),
            esc(&dated(parted.live.as_ref())),
            esc(&dated(parted.simulated.as_ref()))
        );
    }
    section("decisions", "Decisions", "", &body)
}

/// A decision with its time, in words.
pub fn dated(decision: Option<&Dated>) -> String {
    decision.map_or("the list ends".to_owned(), |(at, what)| format!("{what:?} at {:.3} s", *at as f64 / 1e9))
}
