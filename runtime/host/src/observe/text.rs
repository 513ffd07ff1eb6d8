//! Prometheus' text format, version 0.0.4: families with their help, samples below them.
//!
//! Written here because vLLM's names hold colons and gateways read them to the letter. A family is written once and
//! whole, which is what the format asks for.

use super::histogram::Histogram;
use std::fmt::Write as _;

/// What a family counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; its name ends with `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

/// A label and its value.
pub type Label<'a> = (&'a str, &'a str);

/// What is scraped.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Begins a family; its samples follow.
    pub fn family<'p>(&'p mut self, name: &'static str, kind: Kind, help: &str) -> Family<'p> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {word}\n"));
        Family { page: self, name }
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &str, value: u64) {
        self.family(name, Kind::Counter, help).count(&[], value);
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: f64) {
        self.family(name, Kind::Gauge, help).value(&[], value);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// A family that is being written.
pub struct Family<'p> {
    page: &'p mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// A whole number.
    pub fn count(&mut self, labels: &[Label<'_>], value: u64) {
        self.line("", labels, None, &value.to_string());
    }

    /// A number.
    pub fn value(&mut self, labels: &[Label<'_>], value: f64) {
        self.line("", labels, None, &number(value));
    }

    /// A histogram: its buckets, cumulated, then sum and count.
    pub fn histogram(&mut self, labels: &[Label<'_>], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.buckets() {
            below += count;
            let bound = if bound.is_infinite() { "+Inf".to_owned() } else { number(bound) };
            self.line("_bucket", labels, Some(&bound), &below.to_string());
        }
        self.line("_sum", labels, None, &number(histogram.sum()));
        self.line("_count", labels, None, &below.to_string());
    }

    fn line(&mut self, suffix: &str, labels: &[Label<'_>], bound: Option<&str>, value: &str) {
        let text = &mut self.page.text;
        text.push_str(self.name);
        text.push_str(suffix);
        let all = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
        for (place, (name, value)) in all.enumerate() {
            text.push(if place == 0 { '{' } else { ',' });
            // Writing to a text does not fail.
            let _ = write!(text, "{name}=\"{}\"", escape(value));
        }
        if !labels.is_empty() || bound.is_some() {
            text.push('}');
        }
        text.push(' ');
        text.push_str(value);
        text.push('\n');
    }
}

/// A label's value with the three characters escaped that would end it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_infinite() { if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned() } else { value.to_string() }
}
