//! Numbers as people read them: significant digits, percentages, money and bytes.
//!
//! Money is added and divided in whole nano-dollars and becomes decimal digits here, at the last moment. It leaves out
//! units in the text where a heading carries them.

/// How a metric's value is written, and the unit its heading shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Given in seconds, shown in milliseconds.
    Millis,
    /// Given as 0..=1, shown in percent.
    Share,
    /// GPU-hours.
    GpuHours,
    /// Given in 10^-9 US dollars, shown in dollars.
    NanoUsd,
    /// US dollars.
    Usd,
    /// A bare ratio.
    Ratio,
    /// Requests per second.
    PerSecond,
}

impl Unit {
    /// The unit for a heading, e.g. `ms`; empty for counts and ratios.
    pub fn heading(self) -> &'static str {
        match self {
            Unit::Count | Unit::Ratio => "",
            Unit::Seconds => "s",
            Unit::Millis => "ms",
            Unit::Share => "%",
            Unit::GpuHours => "GPU-h",
            Unit::NanoUsd | Unit::Usd => "$",
            Unit::PerSecond => "1/s",
        }
    }

    /// The value in the heading's unit, without the unit.
    pub fn format(self, value: f64) -> String {
        self.with_decimals(value, self.decimals(value))
    }

    /// The value and its half-width with the same number of decimals, e.g. `0.412±0.031`.
    pub fn format_pair(self, mean: f64, half: f64) -> String {
        let decimals = self.decimals(mean);
        format!("{}±{}", self.with_decimals(mean, decimals), self.with_decimals(half, decimals))
    }

    /// The value with its unit, for running text, e.g. `0.412 s` or `$3.10`.
    pub fn phrase(self, value: f64) -> String {
        let text = self.format(value);
        match self {
            Unit::NanoUsd | Unit::Usd => format!("${text}"),
            Unit::Count | Unit::Ratio => text,
            _ => format!("{text} {}", self.heading()),
        }
    }

    /// The factor between the stored value and the shown one.
    fn shown(self, value: f64) -> f64 {
        match self {
            Unit::Millis => value * 1e3,
            Unit::Share => value * 1e2,
            Unit::NanoUsd => value * 1e-9,
            _ => value,
        }
    }

    fn decimals(self, value: f64) -> usize {
        let shown = self.shown(value).abs();
        match self {
            Unit::Count if shown.fract() == 0.0 => 0,
            Unit::Count | Unit::Share => 1,
            Unit::NanoUsd | Unit::Usd => usd_decimals(shown),
            _ => sig_decimals(shown, 3),
        }
    }

    fn with_decimals(self, value: f64, decimals: usize) -> String {
        let shown = self.shown(value);
        if shown.is_finite() { group(&format!("{shown:.decimals$}")) } else { "–".to_owned() }
    }
}

/// Decimals that leave `digits` significant digits, at most nine.
fn sig_decimals(value: f64, digits: i32) -> usize {
    if value == 0.0 || !value.is_finite() {
        return 0;
    }
    (digits - 1 - value.abs().log10().floor() as i32).clamp(0, 9) as usize
}

/// Cents from a dollar up; below, enough to see three digits.
fn usd_decimals(dollars: f64) -> usize {
    if dollars == 0.0 || dollars >= 1.0 { 2 } else { sig_decimals(dollars, 3).max(2) }
}

/// A float with three significant digits and thousands separated.
pub fn sig(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    group(&format!("{value:.*}", sig_decimals(value, 3)))
}

/// A whole number with thousands separated.
pub fn count(value: u64) -> String {
    group(&value.to_string())
}

/// A share 0..=1 as a percentage with one decimal, e.g. `41.3 %`.
pub fn percent(share: f64) -> String {
    format!("{} %", Unit::Share.format(share))
}

/// A signed relative change, e.g. `−62 %`, with one decimal below ten percent.
pub fn change(relative: f64) -> String {
    if !relative.is_finite() {
        return "–".to_owned();
    }
    let percent = relative * 100.0;
    let text =
        if percent.abs() < 9.95 { format!("{:.1}", percent.abs()) } else { format!("{:.0}", percent.abs()) };
    let sign = match text.trim_start_matches(['0', '.']) {
        "" => "",
        _ if percent < 0.0 => "−",
        _ => "+",
    };
    format!("{sign}{} %", group(&text))
}

/// Whole nano-dollars as dollars without the sign: cents from a dollar up, more digits below.
pub fn usd(nano: u128) -> String {
    let decimals = usd_decimals(nano as f64 * 1e-9) as u32;
    let step = 10u128.pow(9 - decimals);
    let units = (nano + step / 2) / step;
    let scale = 10u128.pow(decimals);
    group(&format!("{}.{:0width$}", units / scale, units % scale, width = decimals as usize))
}

/// Bytes in decimal units, e.g. `13.5 GB`.
pub fn bytes(value: u64) -> String {
    let steps = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = value as f64;
    match steps.iter().find(|(size, _)| value >= *size) {
        Some((size, name)) => format!("{} {name}", sig(value / size)),
        None => format!("{value} B"),
    }
}

/// A length of time in the unit that suits it, e.g. `340 ms`, `12.1 s`, `58.4 min`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "–".to_owned(),
        0.0 => "0 s".to_owned(),
        s if s < 1e-3 => format!("{} µs", sig(s * 1e6)),
        s if s < 1.0 => format!("{} ms", sig(s * 1e3)),
        s if s < 120.0 => format!("{} s", sig(s)),
        s if s < 7200.0 => format!("{} min", sig(s / 60.0)),
        s => format!("{} h", sig(s / 3600.0)),
    }
}

/// Parts rounded to whole `step`s so that they still add up to the rounded total (largest remainder).
pub fn round_parts(parts: &[u128], step: u128) -> (Vec<u128>, u128) {
    let total: u128 = parts.iter().sum();
    let rounded_total = (total + step / 2) / step;
    let mut rounded: Vec<u128> = parts.iter().map(|p| p / step).collect();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(parts[i] % step), i));
    let missing = rounded_total - rounded.iter().sum::<u128>();
    for &i in order.iter().take(missing as usize) {
        rounded[i] += 1;
    }
    (rounded, rounded_total)
}

/// Commas between thousands from 10,000 up.
fn group(number: &str) -> String {
    let (sign, rest) = match number.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", number),
    };
    let (whole, fraction) = rest.split_once('.').map_or((rest, None), |(w, f)| (w, Some(f)));
    let mut out = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && whole.len() > 4 && (whole.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (input, expected) in
            [(0.0, "0"), (0.41234, "0.412"), (12.345, "12.3"), (1234.5, "1234"), (1.5e6, "1,500,000")]
        {
            assert_eq!(sig(input), expected);
        }
        assert_eq!(sig(f64::NAN), "–");
        assert_eq!(change(-0.62), "−62 %");
        assert_eq!(change(0.042), "+4.2 %");
        assert_eq!(change(-0.0001), "0.0 %");
        assert_eq!(Unit::Seconds.format_pair(0.4119, 0.0314), "0.412±0.031");
        assert_eq!(duration(0.0312), "31.2 ms");
        assert_eq!(bytes(13_476_000_000), "13.5 GB");
    }

    #[test]
    fn money_stays_whole_until_shown() {
        for (nano, expected) in [
            (0, "0.00"),
            (1_000_000_000, "1.00"),
            (12_345_678_901_234, "12,345.68"),
            (999_999_999, "1.000"),
            (3_456_000, "0.00346"),
            (1, "0.000000001"),
        ] {
            assert_eq!(usd(nano), expected, "{nano}");
        }
        let largest = u128::from(u64::MAX);
        assert_eq!(usd(largest), "18,446,744,073.71");
    }

    #[test]
    fn rounded_parts_add_up() {
        let (parts, total) = round_parts(&[333, 333, 334], 100);
        assert_eq!((parts.iter().sum::<u128>(), total), (10, 10));
        let (parts, total) = round_parts(&[49, 49, 49], 100);
        assert_eq!((parts, total), (vec![1, 0, 0], 1));
    }
}
