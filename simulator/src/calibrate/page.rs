//! The calibration as a page: what was measured, the curves fitted through it, and how far they are apart.

use super::derive::{Derived, host_ns};
use super::measured::{Measured, ServingPoint, StepPoint};
use crate::report::html::markup::{Cell, Table, esc, section};
use crate::report::html::svg::{self, Plot, Scale, tick_text};
use crate::report::html::theme::{dash, page as frame};
use crate::report::units;

const NS_PER_MS: f64 = 1e6;
/// Points of a drawn curve; arbitrary.
const CURVE_POINTS: u64 = 60;

/// The page.
pub fn page(measured: &Measured, derived: &Derived) -> String {
    let machine = &measured.machine;
    let header = format!(
        "<p class=\"about\">{} on {}, {}: {}. Dots are measured, lines are what the simulator uses.</p>",
        esc(&measured.shape.name),
        esc(&machine.device),
        esc(&machine.date),
        machine.how_often()
    );
    let sections = [
        ("fits", "Fits", section("fits", "Fits", "Errors are shares of each measured time.", &fits(derived))),
        ("prefill", "Prefill", prefill(measured, derived)),
        ("decode", "Decode", decode(measured, derived)),
        ("all", "All steps", all(measured, derived)),
        ("loads", "Loads", section("loads", "Loads", "", &loads(measured))),
        ("bandwidth", "Bandwidths", section("bandwidth", "Bandwidths", "", &bandwidths(measured))),
    ];
    let contents: Vec<(&str, &str)> = sections.iter().map(|(id, title, _)| (*id, *title)).collect();
    let body: String = sections.iter().map(|(_, _, html)| html.as_str()).collect();
    frame(&format!("Calibration of {}", machine.name), &header, &contents, &body)
}

fn table(caption: &str, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let cells = |row: Vec<String>| row.into_iter().map(Cell::new).collect();
    Table {
        caption: caption.to_owned(),
        head: head.iter().map(|h| (*h).to_owned()).collect(),
        rows: rows.into_iter().map(cells).collect(),
        class: "numbers",
    }
    .render()
}

fn fits(derived: &Derived) -> String {
    let row = |note: &super::FitNote| {
        let e = note.errors;
        let texts = [note.what.to_owned(), esc(note.formula), e.points.to_string()];
        texts.into_iter().chain([units::percent(e.mean), units::percent(e.worst)]).collect()
    };
    let rows = derived.fits.iter().map(row).collect();
    table("Formulas and their errors", &["steps", "formula", "points", "mean error", "worst error"], rows)
}

/// A dot a point, a line a series; x and y in the plot's units.
struct Series {
    name: String,
    dots: Vec<(f64, f64)>,
    line: Vec<(f64, f64)>,
}

fn plot(about: &str, x_label: &str, y_label: &str, series: &[Series]) -> String {
    let every = || series.iter().flat_map(|s| s.dots.iter().chain(&s.line));
    let (across, up) = (Scale::log(every().map(|p| p.0)), Scale::log(every().map(|p| p.1)));
    let place = |p: &(f64, f64)| (across.place(p.0), up.place(p.1));
    let (mut curves, mut marks) = (String::new(), String::new());
    for (n, one) in series.iter().enumerate() {
        let name = esc(&one.name);
        curves += &format!(
            "<path class=\"curve s{}\" stroke-dasharray=\"{}\" d=\"{}\"><title>{name}</title></path>",
            n % 7,
            dash(n),
            svg::path(one.line.iter().map(place))
        );
        for dot in &one.dots {
            let title = format!("{name}: {} → {}", units::sig(dot.0), units::sig(dot.1));
            marks += &svg::dot(n, place(dot), &title);
        }
    }
    let plot = Plot {
        about: esc(about),
        x: (across.ticks(tick_text), format!("{x_label}, logarithmic")),
        y: (up.ticks(tick_text), format!("{y_label}, logarithmic")),
        height_px: 320,
        curves,
        marks,
    };
    format!("<figure>{}<figcaption>{}</figcaption></figure>", plot.render(), esc(about))
}

fn prefill(measured: &Measured, derived: &Derived) -> String {
    let host = host_ns(&measured.steps);
    let of = |with: bool, name: &str| {
        let points: Vec<&StepPoint> =
            measured.steps.iter().filter(|p| p.rows == 0 && (p.adapters > 0) == with).collect();
        let (first, last) = points.iter().fold((u64::MAX, 1), |(a, b), p| (a.min(p.prompt), b.max(p.prompt)));
        let like = points.first().copied().copied().unwrap_or_default();
        let at = |n: u64| {
            let span = (last as f64 / first.max(1) as f64).powf(n as f64 / CURVE_POINTS as f64);
            let tokens = (first.max(1) as f64 * span).round() as u64;
            (tokens as f64, derived.predict_ns(&StepPoint { prompt: tokens, ..like }) / NS_PER_MS)
        };
        Series {
            name: name.to_owned(),
            dots: points.iter().map(|p| (p.prompt as f64, step_ms(p, host))).collect(),
            line: if points.is_empty() { Vec::new() } else { (0..=CURVE_POINTS).map(at).collect() },
        }
    };
    let series = [of(false, "no adapter"), of(true, "under an adapter")];
    let about = "Prefill by prompt length: without adapter (solid) and under one (dashed)";
    section("prefill", "Prefill", "", &plot(about, "prompt tokens", "milliseconds", &series))
}

fn decode(measured: &Measured, derived: &Derived) -> String {
    let host = host_ns(&measured.steps);
    let points: Vec<&StepPoint> =
        measured.steps.iter().filter(|p| p.prompt == 0 && p.adapters == 0).collect();
    let mut batches: Vec<u64> = points.iter().map(|p| p.rows).collect();
    batches.sort_unstable();
    batches.dedup();
    let of = |rows: u64| {
        let mine: Vec<&&StepPoint> = points.iter().filter(|p| p.rows == rows).collect();
        let context = |p: &StepPoint| p.cached as f64 / p.rows.max(1) as f64;
        let mut line: Vec<(f64, f64)> =
            mine.iter().map(|p| (context(p), derived.predict_ns(p) / NS_PER_MS)).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        Series {
            name: format!("{rows} sequences"),
            dots: mine.iter().map(|p| (context(p), step_ms(p, host))).collect(),
            line,
        }
    };
    let sizes: Vec<String> = batches.iter().map(u64::to_string).collect();
    let series: Vec<Series> = batches.into_iter().map(of).collect();
    let about = format!(
        "Decode step by context of each sequence, a line for each batch size: from below {} sequences",
        sizes.join(", ")
    );
    let behind = "Dots are the engine alone, without adapters; lines are steps of a server's streams less what adapters add.";
    let intro = if measured.serving.is_empty() { "" } else { behind };
    section("decode", "Decode", intro, &plot(&about, "cached tokens of a sequence", "milliseconds", &series))
}

fn all(measured: &Measured, derived: &Derived) -> String {
    let host = host_ns(&measured.steps);
    let pair = |p: &StepPoint| (step_ms(p, host), derived.predict_ns(p) / NS_PER_MS);
    let of = |name: &str, wanted: fn(&StepPoint) -> bool| Series {
        name: name.to_owned(),
        dots: measured.steps.iter().filter(|p| wanted(p)).map(pair).collect(),
        line: Vec::new(),
    };
    let mut series = vec![
        of("prefill", |p| p.rows == 0 && p.adapters == 0),
        of("decode", |p| p.prompt == 0 && p.adapters == 0),
        of("with adapters", |p| p.adapters > 0),
        of("prefill beside decode", |p| p.rows > 0 && p.prompt > 0 && p.adapters == 0),
    ];
    let served =
        |p: &ServingPoint| ((p.step_ns as f64 - host) / NS_PER_MS, derived.predict_ns(&p.step()) / NS_PER_MS);
    if !measured.serving.is_empty() {
        let dots = measured.serving.iter().map(served).collect();
        series.push(Series { name: "behind a server".to_owned(), dots, line: Vec::new() });
    }
    let times = series.iter().flat_map(|s| s.dots.iter().map(|d| d.0));
    let (low, high) = times.fold((f64::INFINITY, 0.0f64), |(a, b), t| (a.min(t), b.max(t)));
    series.push(Series { name: "equal".to_owned(), dots: Vec::new(), line: vec![(low, low), (high, high)] });
    let about = "Every step: measured against predicted; on the line they agree";
    section("all", "All steps", "", &plot(about, "measured, ms", "predicted, ms", &series))
}

fn step_ms(p: &StepPoint, host: f64) -> f64 {
    ((p.device_ns + p.host_ns) as f64 - host).max(1.0) / NS_PER_MS
}

fn loads(measured: &Measured) -> String {
    let ms = |ns: u64| format!("{:.2}", ns as f64 / NS_PER_MS);
    let maybe = |ns: Option<u64>| ns.map_or("not measured".to_owned(), ms);
    let adapters = measured.adapters.iter().map(|load| {
        let name = format!("adapter of rank {}", load.rank);
        vec![name, units::bytes(load.bytes), maybe(load.disk_ns), ms(load.memory_ns)]
    });
    let b = &measured.backbone;
    let backbone = vec!["backbone".to_owned(), units::bytes(b.bytes), maybe(b.disk_ns), ms(b.map_ns)];
    let rows = std::iter::once(backbone).chain(adapters).collect();
    table("Milliseconds to load", &["what", "bytes in memory", "from disk", "from memory"], rows)
}

fn bandwidths(measured: &Measured) -> String {
    let b = &measured.bandwidths;
    let rate = |bytes: u64| format!("{:.2}", bytes as f64 / 1e9);
    let maybe = |bytes: Option<u64>| bytes.map_or("not measured".to_owned(), rate);
    let rows = vec![
        vec!["disk, page cache dropped".to_owned(), maybe(b.disk_alone), maybe(b.disk_contended)],
        vec!["memory, reading".to_owned(), rate(b.memory_alone), rate(b.memory_contended)],
        vec!["memory, copying".to_owned(), rate(b.copy_alone), rate(b.copy_contended)],
    ];
    table("10⁹ bytes a second", &["what", "one alone", "all at once, in all"], rows)
}
