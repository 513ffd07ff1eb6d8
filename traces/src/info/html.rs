//! The summary as one self-contained HTML page: plots in SVG, light and dark by the reader's setting.
//!
//! No script and no outside file.

use super::summary::Summary;
use super::text::{render, short};
use std::fmt::Write;

const STYLE: &str = "
:root { --ink: #1d2433; --dim: #5b6577; --page: #fbfbf9; --card: #ffffff; --line: #d9dde4; --mark: #2f6f4f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8ec; --dim: #9aa4b4; --page: #14171c; --card: #1c2027; --line: #323944; --mark: #6cc495; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1rem; margin: 0 0 .4rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: 1rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 1rem; }
pre { white-space: pre-wrap; font-size: 13px; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font-size: 12px; }
.axis { stroke: var(--line); } .bar { fill: var(--mark); } .curve { fill: none; stroke: var(--mark); stroke-width: 1.5; }
";

/// `&`, `<`, `>` and quotes as entities.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Plot area in SVG units.
const LEFT: f64 = 60.0;
const RIGHT: f64 = 510.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 210.0;

struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let kept = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (low, high) = kept.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)));
        let low = if log { low } else { low.min(0.0) };
        if low < high { Self { low, high, log } } else { Self { low: 0.5, high: high.max(1.0), log } }
    }

    /// 0 at the low end, 1 at the high end.
    fn place(&self, value: f64) -> f64 {
        let scaled = |v: f64| if self.log { v.max(self.low).ln() } else { v };
        ((scaled(value) - scaled(self.low)) / (scaled(self.high) - scaled(self.low))).clamp(0.0, 1.0)
    }

    /// Round values within the axis: steps of 1, 2 or 5 times a power of ten, or powers of ten (with their halves and
    /// fifths where the axis spans less than two decades), at most about seven.
    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
            let every = ((last - first) / 6 + 1).max(1);
            let factors: &[f64] = if last - first <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
            let decades = (first..=last).filter(|d| d.rem_euclid(every) == 0);
            let all = decades.flat_map(|d| factors.iter().map(move |f| f * 10f64.powi(d)));
            return all.filter(|v| (self.low..=self.high).contains(v)).collect();
        }
        let rough = (self.high - self.low) / 5.0;
        let scale = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|f| f * scale).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let count = ((self.high - self.low) / step).floor() as i32;
        (0..=count).map(|n| self.low + step * f64::from(n)).collect()
    }
}

fn frame(out: &mut String, title: &str, x: &Axis, y: &Axis, labels: (&str, &str), marks: &str) {
    let _ = write!(
        out,
        "<section><h2>{}</h2><svg viewBox='0 0 530 255' role='img' aria-label='{0}'>",
        escape(title)
    );
    for value in y.ticks() {
        let py = BOTTOM - (BOTTOM - TOP) * y.place(value);
        let _ = write!(
            out,
            "<line class='axis' x1='{LEFT}' x2='{RIGHT}' y1='{py:.1}' y2='{py:.1}'/>\
             <text x='{:.1}' y='{:.1}' text-anchor='end'>{}</text>",
            LEFT - 6.0,
            py + 4.0,
            short(value),
        );
    }
    for value in x.ticks() {
        let px = LEFT + (RIGHT - LEFT) * x.place(value);
        let _ = write!(
            out,
            "<text x='{px:.1}' y='{:.1}' text-anchor='middle'>{}</text>",
            BOTTOM + 16.0,
            short(value)
        );
    }
    let middle = (LEFT + RIGHT) / 2.0;
    let _ = writeln!(
        out,
        "{marks}<text x='{middle}' y='{}' text-anchor='middle'>{} (upward: {})</text></svg></section>",
        BOTTOM + 36.0,
        escape(labels.0),
        escape(labels.1)
    );
}

fn point(x: &Axis, y: &Axis, (a, b): (f64, f64)) -> (f64, f64) {
    (LEFT + (RIGHT - LEFT) * x.place(a), BOTTOM - (BOTTOM - TOP) * y.place(b))
}

fn curve(out: &mut String, title: &str, points: &[(f64, f64)], logs: (bool, bool), labels: (&str, &str)) {
    if points.is_empty() {
        return;
    }
    let x = Axis::of(points.iter().map(|p| p.0), logs.0);
    let y = Axis::of(points.iter().map(|p| p.1), logs.1);
    let mut marks = String::from("<polyline class='curve' points='");
    for p in points {
        let (px, py) = point(&x, &y, *p);
        let _ = write!(marks, "{px:.1},{py:.1} ");
    }
    marks.push_str("'/>");
    frame(out, title, &x, &y, labels, &marks);
}

fn bars(out: &mut String, title: &str, bins: &[(f64, u64)], labels: (&str, &str)) {
    if bins.is_empty() {
        return;
    }
    let x = Axis::of(bins.iter().map(|p| p.0), true);
    let y = Axis::of(bins.iter().map(|p| p.1 as f64), false);
    let width = (RIGHT - LEFT) / bins.len() as f64 * 0.9;
    let mut marks = String::new();
    for (value, count) in bins {
        let (px, py) = point(&x, &y, (*value, *count as f64));
        let left = px.min(RIGHT - width);
        let _ = write!(
            marks,
            "<rect class='bar' x='{left:.1}' y='{py:.1}' width='{width:.1}' height='{:.1}'><title>{}: {count}</title></rect>",
            BOTTOM - py,
            short(*value)
        );
    }
    frame(out, title, &x, &y, labels, &marks);
}

/// The page about `name`.
pub fn page(name: &str, summary: &Summary) -> String {
    let mut plots = String::new();
    curve(
        &mut plots,
        "Rate over time",
        &summary.rate_over_time,
        (false, false),
        ("seconds", "requests per second"),
    );
    bars(&mut plots, "Gaps between requests", &summary.iat_histogram, ("seconds, log scale", "requests"));
    bars(&mut plots, "Prompt length", &summary.prompt_histogram, ("tokens, log scale", "requests"));
    bars(&mut plots, "Output length", &summary.output_histogram, ("tokens, log scale", "requests"));
    let ranks: Vec<(f64, f64)> =
        summary.popularity.iter().enumerate().map(|(i, n)| (i as f64 + 1.0, *n as f64)).collect();
    if ranks.len() > 1 {
        curve(
            &mut plots,
            "Popularity",
            &ranks,
            (true, true),
            ("function by rank, log scale", "requests, log scale"),
        );
    }
    let name = escape(name);
    let facts = escape(&render(summary));
    format!(
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' \
         content='width=device-width'><title>{name}</title><style>{STYLE}</style></head><body>\n<h1>{name}</h1>\n\
         <div class='plots'>\n{plots}</div>\n<section style='margin-top:1rem'><h2>Numbers</h2><pre>{facts}</pre>\
         </section>\n</body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_stands_alone() {
        let summary = Summary {
            rate_over_time: vec![(0.0, 1.0), (1.0, 3.0)],
            iat_histogram: vec![(0.1, 4), (1.0, 2)],
            popularity: vec![10, 5, 1],
            class_functions: [("predictable", 1.0), ("normal", 0.0), ("bursty", 0.0)].into(),
            class_requests: [("predictable", 1.0), ("normal", 0.0), ("bursty", 0.0)].into(),
            ..Summary::default()
        };
        let page = page("a<b>", &summary);
        assert!(page.contains("<h1>a&lt;b&gt;</h1>") && page.contains("prefers-color-scheme: dark"));
        assert!(!page.contains("http") && !page.contains("NaN") && page.matches("<svg").count() == 3);
        // Empty and one-value summaries draw without dividing by zero.
        let flat = Summary { rate_over_time: vec![(0.0, 0.0)], popularity: vec![3, 3], ..summary };
        assert!(!super::page("x", &flat).contains("NaN"));
        assert!(!super::page("x", &Summary::default()).contains("<svg"));
    }
}
