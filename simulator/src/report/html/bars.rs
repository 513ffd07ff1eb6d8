//! Horizontal stacked bars, one row a policy, for stages, causes and bills.
//!
//! Fill patterns, texts in the segments and a legend tell parts apart without colour. It leaves out which numbers go
//! in: the sections decide.

use super::super::model::Report;
use super::super::units;
use super::markup::{letter, policy};
use super::svg::{Scale, fill_legend, percent, tick_text};
use std::fmt::Write;

/// A part of every bar: its fill's number and its text (HTML).
pub struct Part {
    /// Number of the fill pattern, 0..8.
    pub fill: usize,
    /// Name shown in the legend.
    pub label: String,
}

/// One policy's bar.
pub struct Bar {
    /// Index of the policy.
    pub policy: usize,
    /// A value per part.
    pub values: Vec<f64>,
    /// Text at the bar's end.
    pub total: String,
}

/// Bars over one axis.
pub struct Bars<'a> {
    /// The report, for names.
    pub report: &'a Report,
    /// The parts, in stacking order.
    pub parts: Vec<Part>,
    /// One a policy.
    pub bars: Vec<Bar>,
    /// Text of a value with its unit.
    pub text: fn(f64) -> String,
    /// Every bar is as long as the axis and parts are shares of it.
    pub shares: bool,
    /// Whether to draw the legend.
    pub legend: bool,
}

/// Width of a text of so many characters as a share of a plot this wide, all in CSS pixels; 7.5 is a wide digit.
fn needed(characters: usize, plot_px: f64) -> f64 {
    (characters as f64 * 7.5 + 8.0) / plot_px
}

/// Width of the plot on a laptop and on a phone.
const PLOT_PX: f64 = 600.0;
const PLOT_NARROW_PX: f64 = 340.0;

impl Bars<'_> {
    /// The bars as HTML.
    pub fn render(&self) -> String {
        let scale = if self.shares {
            Scale::Linear(1.0)
        } else {
            Scale::up_to(self.bars.iter().map(|bar| bar.values.iter().sum()))
        };
        let ticks = scale.ticks(|v| if self.shares { format!("{:.0} %", v * 100.0) } else { tick_text(v) });
        let grid: String = ticks
            .iter()
            .map(|tick| {
                let x = percent(tick.place);
                format!("<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"-8\" y2=\"38\"/>")
            })
            .collect();
        let mut out = if self.legend {
            fill_legend(self.parts.iter().map(|part| (part.fill, part.label.as_str())))
        } else {
            String::new()
        };
        out.push_str("<div class=\"bars\">");
        for bar in &self.bars {
            out.push_str(&self.row(bar, scale, &grid));
        }
        out.push_str("<div class=\"bar-row axis\" aria-hidden=\"true\"><span></span><svg width=\"100%\" height=\"18\">");
        for tick in &ticks {
            let anchor = match tick.place {
                p if p < 0.02 => "start",
                p if p > 0.98 => "end",
                _ => "middle",
            };
            let minor = if tick.minor { " minor" } else { "" };
            let _ = write!(
                out,
                "<text class=\"tick{minor}\" x=\"{}\" y=\"12\" text-anchor=\"{anchor}\">{}</text>",
                percent(tick.place),
                tick.text
            );
        }
        out.push_str("</svg><span></span></div></div>");
        out
    }

    fn row(&self, bar: &Bar, scale: Scale, grid: &str) -> String {
        let sum: f64 = bar.values.iter().sum();
        let share = |value: f64| if sum > 0.0 { value / sum } else { 0.0 };
        let (mut rects, mut texts, mut told, mut from) = (String::new(), String::new(), Vec::new(), 0.0);
        for (part, &value) in self.parts.iter().zip(&bar.values) {
            let size = scale.place(if self.shares { share(value) } else { value });
            told.push(format!("{} {}", part.label, (self.text)(value)));
            if size <= 0.0 {
                continue;
            }
            let _ = write!(
                rects,
                "<rect x=\"{}\" width=\"{}\" height=\"28\" fill=\"url(#fill{})\"><title>{}: {} ({:.1} %)</title></rect>",
                percent(from),
                percent(size),
                part.fill,
                part.label,
                (self.text)(value),
                share(value) * 100.0
            );
            let text = if self.shares { format!("{:.0} %", share(value) * 100.0) } else { units::sig(value) };
            let length = text.chars().count();
            // Without room the number is in the tooltip only.
            if size >= needed(length, PLOT_PX) {
                let x = percent(from + size / 2.0);
                let minor = if size < needed(length, PLOT_NARROW_PX) { " minor" } else { "" };
                let _ = write!(
                    texts,
                    "<text class=\"in-bar{minor}\" x=\"{x}\" y=\"19\" text-anchor=\"middle\">{text}</text>"
                );
            }
            from += size;
        }
        format!(
            "<div class=\"bar-row\">{}<svg class=\"bar\" width=\"100%\" height=\"28\" role=\"img\" \
             aria-label=\"{}: {}; in all {}\">{grid}{rects}{texts}</svg><span class=\"total\">{}</span></div>",
            policy(self.report, bar.policy),
            letter(bar.policy),
            told.join(", "),
            bar.total,
            bar.total
        )
    }
}
