//! Charts without a library: scales with sensible ticks, a plot with axes, legends.
//!
//! A plot is as wide as its box: positions are percentages and only curves lie in a stretched inner drawing, so text
//! keeps its size from phone to laptop. It knows no report; any page may use it.

use super::super::units;
use std::fmt::Write;

/// Maps values to 0..=1.
#[derive(Clone, Copy, Debug)]
pub enum Scale {
    /// From zero to this, evenly.
    Linear(f64),
    /// From the first to the second, by logarithm; both positive.
    Log(f64, f64),
}

/// A tick: place 0..=1, text, and whether a narrow screen leaves its text out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Place along the axis, 0..=1.
    pub place: f64,
    /// The text.
    pub text: String,
    /// True where a narrow screen leaves the text out.
    pub minor: bool,
}

impl Scale {
    /// From zero to a round number at or above the largest value (1 when there is none).
    pub fn linear(values: impl Iterator<Item = f64>) -> Scale {
        let max = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        let max = if max > 0.0 { max } else { 1.0 };
        let step = nice_step(max);
        Scale::Linear((max / step).ceil() * step)
    }

    /// From zero to exactly the largest value (1 when there is none).
    pub fn up_to(values: impl Iterator<Item = f64>) -> Scale {
        let max = values.filter(|v| v.is_finite()).fold(0.0, f64::max);
        Scale::Linear(if max > 0.0 { max } else { 1.0 })
    }

    /// By logarithm around all positive values, with a little air.
    pub fn log(values: impl Iterator<Item = f64>) -> Scale {
        let (low, high) = values
            .filter(|v| v.is_finite() && *v > 0.0)
            .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), v| (low.min(v), high.max(v)));
        if high <= 0.0 { Scale::Log(0.01, 1.0) } else { Scale::Log(low / 1.25, (high * 1.25).max(low * 4.0)) }
    }

    /// The value's place, cut off at the ends.
    pub fn place(self, value: f64) -> f64 {
        let place = match self {
            Scale::Linear(max) => value / max,
            Scale::Log(low, high) => (value.max(low) / low).ln() / (high / low).ln(),
        };
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    /// Round values within the scale, written by `text`.
    pub fn ticks(self, text: impl Fn(f64) -> String) -> Vec<Tick> {
        let tick = |value: f64, minor| Tick { place: self.place(value), text: text(value), minor };
        match self {
            Scale::Linear(max) => {
                let step = nice_step(max);
                let count = (max / step + 1e-9).floor() as usize;
                (0..=count).map(|i| tick(i as f64 * step, i % 2 == 1 && count > 3)).collect()
            }
            Scale::Log(low, high) => {
                let wide = (high / low).log10() > 4.0;
                let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
                let mut ticks = Vec::new();
                for decade in first..=last {
                    for factor in [1.0, 2.0, 5.0] {
                        let value = factor * 10f64.powi(decade);
                        if value >= low && value <= high && (factor == 1.0 || !wide) {
                            ticks.push(tick(value, factor != 1.0));
                        }
                    }
                }
                // Without a whole decade in sight, a phone would see no text at all.
                if ticks.iter().filter(|t| !t.minor).count() < 2 {
                    ticks.iter_mut().for_each(|t| t.minor = false);
                }
                ticks
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, so that `max` has four to ten steps.
fn nice_step(max: f64) -> f64 {
    let raw = max / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|f| f * power >= raw * 0.999).unwrap_or(10.0);
    step * power
}

/// A tick's value without trailing zeros: ticks are round, so three digits are enough.
pub fn tick_text(value: f64) -> String {
    let text = units::sig(value);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// A place as a percentage for an attribute.
pub fn percent(place: f64) -> String {
    let text = format!("{:.2}", place * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// A plot with two axes. All texts are HTML.
pub struct Plot {
    /// What the plot shows, for those who do not see it; escaped by the caller.
    pub about: String,
    /// Ticks and label along the bottom.
    pub x: (Vec<Tick>, String),
    /// Ticks and label along the left side.
    pub y: (Vec<Tick>, String),
    /// Height of the plot's area, CSS pixels.
    pub height_px: u32,
    /// Curves, in a drawing of 1000 x 1000 with y downwards.
    pub curves: String,
    /// Marks, at percentages of the area.
    pub marks: String,
}

impl Plot {
    /// The plot as HTML.
    pub fn render(&self) -> String {
        let mut grid = String::new();
        for tick in &self.x.0 {
            let (x, minor) = (percent(tick.place), if tick.minor { " minor" } else { "" });
            let _ = write!(
                grid,
                "<line class=\"grid\" x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"100%\"/>\
                 <text class=\"tick{minor}\" x=\"{x}\" y=\"100%\" dy=\"18\" text-anchor=\"middle\">{}</text>",
                tick.text
            );
        }
        for tick in &self.y.0 {
            let y = percent(1.0 - tick.place);
            let _ = write!(
                grid,
                "<line class=\"grid\" x1=\"0\" x2=\"100%\" y1=\"{y}\" y2=\"{y}\"/>\
                 <text class=\"tick\" x=\"-8\" y=\"{y}\" dy=\"4\" text-anchor=\"end\">{}</text>",
                tick.text
            );
        }
        format!(
            "<div class=\"plot\"><p class=\"axis-y\">{}</p><svg class=\"area\" style=\"height:{}px\" role=\"img\" \
             aria-label=\"{}\">{grid}<svg width=\"100%\" height=\"100%\" viewBox=\"0 0 1000 1000\" \
             preserveAspectRatio=\"none\">{}</svg>{}</svg><p class=\"axis-x\">{}</p></div>",
            self.y.1, self.height_px, self.about, self.curves, self.marks, self.x.1
        )
    }
}

/// A polyline through places 0..=1 in the drawing of 1000 x 1000.
pub fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    for (i, (x, y)) in points.enumerate() {
        let _ = write!(d, "{}{:.1} {:.1}", if i == 0 { "M" } else { "L" }, x * 1000.0, (1.0 - y) * 1000.0);
    }
    d
}

/// A round mark with a letter, at a place, moved by some pixels; `title` is its tooltip, escaped by the caller.
pub fn letter_mark(series: usize, letter: &str, place: (f64, f64), shift_px: f64, title: &str) -> String {
    let (x, y) = (percent(place.0), percent(1.0 - place.1));
    let leader = if shift_px == 0.0 {
        String::new()
    } else {
        format!("<line class=\"leader\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"{shift_px}\"/>")
    };
    format!(
        "<svg class=\"mark\" x=\"{x}\" y=\"{y}\" overflow=\"visible\" data-policy=\"{series}\"><title>{title}</title>{leader}\
         <circle class=\"disc s{}\" r=\"9\" cy=\"{shift_px}\"/>\
         <text class=\"on-disc\" y=\"{shift_px}\" dy=\"4\" text-anchor=\"middle\">{letter}</text></svg>",
        series % 7
    )
}

/// A small dot at a place.
pub fn dot(series: usize, place: (f64, f64), title: &str) -> String {
    format!(
        "<circle class=\"dot s{}\" cx=\"{}\" cy=\"{}\" r=\"3.5\" data-policy=\"{series}\"><title>{title}</title></circle>",
        series % 7,
        percent(place.0),
        percent(1.0 - place.1)
    )
}

/// A legend of fills: number of the fill and text.
pub fn fill_legend<'a>(entries: impl Iterator<Item = (usize, &'a str)>) -> String {
    let items: String = entries
        .map(|(fill, text)| {
            format!(
                "<li><svg class=\"swatch\" width=\"22\" height=\"14\" aria-hidden=\"true\">\
                 <rect width=\"22\" height=\"14\" fill=\"url(#fill{fill})\"/></svg>{text}</li>"
            )
        })
        .collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_scales_end_on_round_numbers() {
        for (max, end) in [(0.93, 1.0), (7.3, 8.0), (41.0, 50.0), (100.0, 100.0), (0.0, 1.0)] {
            let Scale::Linear(found) = Scale::linear([max, f64::NAN].into_iter()) else { panic!("linear") };
            assert!((found - end).abs() < 1e-9, "{max} gives {found}");
        }
        let ticks = Scale::Linear(8.0).ticks(|v| v.to_string());
        assert_eq!(ticks.iter().map(|t| t.text.as_str()).collect::<Vec<_>>(), ["0", "2", "4", "6", "8"]);
    }

    #[test]
    fn log_scales_survive_odd_values() {
        let scale = Scale::log([0.0, f64::NAN, -1.0].into_iter());
        assert!(scale.place(0.1) > 0.0 && scale.place(-5.0) == 0.0);
        let scale = Scale::log([0.15, 21.0].into_iter());
        let ticks = scale.ticks(|v| v.to_string());
        assert!(
            ticks.iter().any(|t| t.text == "1" && !t.minor)
                && ticks.iter().any(|t| t.text == "0.2" && t.minor)
        );
        let narrow = Scale::log([3.0].into_iter()).ticks(|v| v.to_string());
        assert!(narrow.len() >= 2 && narrow.iter().all(|t| !t.minor), "{narrow:?}");
    }

    #[test]
    fn percentages_are_short() {
        assert_eq!(
            (percent(0.5), percent(1.0), percent(0.12345)),
            ("50%".into(), "100%".into(), "12.35%".into())
        );
    }
}
