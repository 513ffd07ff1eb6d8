//! The summary as text for a terminal: a table of numbers and a few bars.

use super::summary::{Summary, TokenSummary};
use std::fmt::Write;

/// A line of bars, `width` characters, from values at equal distances; each shows the greatest of its part.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let max = values.iter().copied().fold(0.0, f64::max);
    if values.is_empty() || width == 0 || max <= 0.0 {
        return String::new();
    }
    let part = values.len().div_ceil(width).max(1);
    let tops = values.chunks(part).map(|c| c.iter().copied().fold(0.0, f64::max));
    tops.map(|v| BARS[((v / max * 7.0).round() as usize).min(7)]).collect()
}

/// A number with four significant digits, without an exponent in the usual range.
pub fn short(value: f64) -> String {
    let size = value.abs();
    match value {
        0.0 => "0".into(),
        v if !(1e-6..1e15).contains(&size) => format!("{v:.3e}"),
        v if size >= 1000.0 => format!("{v:.0}"),
        v => {
            let decimals = (3 - size.log10().floor() as i32).clamp(0, 9) as usize;
            let text = format!("{v:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
        }
    }
}

fn list(values: &[f64]) -> String {
    values.iter().map(|v| short(*v)).collect::<Vec<_>>().join(" / ")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn counts(histogram: &[(f64, u64)]) -> Vec<f64> {
    histogram.iter().map(|(_, n)| *n as f64).collect()
}

fn token_lines(out: &mut String, name: &str, tokens: &Option<TokenSummary>, histogram: &[(f64, u64)]) {
    let Some(t) = tokens else { return };
    let _ = writeln!(out, "{name:<22} mean {}, max {}; {}", short(t.mean), t.max, list(&t.quantiles));
    let _ = writeln!(out, "{:<22} {} (1 to {}, log scale)", "", sparkline(&counts(histogram), 60), t.max);
}

/// The summary, one fact a line.
pub fn render(s: &Summary) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<22} {value}");
    };
    line("rows / requests", format!("{} / {} ({} rows refused)", s.rows_in, s.records, s.refused));
    line("span", format!("{} s", short(s.span_s)));
    let peaks = format!("{} / {}", short(s.rate_peak_second_rps), short(s.rate_peak_minute_rps));
    line("requests/s", format!("mean {}, peak second / minute {peaks}", short(s.rate_mean_rps)));
    let rates: Vec<f64> = s.rate_over_time.iter().map(|p| p.1).collect();
    line("", sparkline(&rates, 60));
    line("quantiles below", "p1 / p10 / p25 / p50 / p75 / p90 / p95 / p99".into());
    line("gap, s", list(&s.iat_quantiles_s));
    line("CoV; IDC 1 s, 60 s", format!("{}; {}, {}", short(s.cov), short(s.idc_1s), short(s.idc_60s)));
    line("functions", format!("{} ({} with fewer than 10 requests)", s.functions, s.sparse_functions));
    if s.functions > 1 {
        line("requests per function", list(&s.per_function_quantiles));
        line("CoV per function", list(&s.cov_quantiles));
        let class = |name: &str| {
            format!(
                "{name} {} ({} of requests)",
                percent(s.class_functions[name]),
                percent(s.class_requests[name])
            )
        };
        line("classes", ["predictable", "normal", "bursty"].map(class).join(", "));
        let tops = format!("{} / {}", percent(s.top_1_percent_share), percent(s.top_10_percent_share));
        line("top 1 % / 10 %", format!("{tops}, Zipf s {}", s.zipf_s.map_or("-".into(), short)));
    }
    token_lines(&mut out, "prompt tokens", &s.prompt, &s.prompt_histogram);
    token_lines(&mut out, "output tokens", &s.output, &s.output_histogram);
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<22} {value}");
    };
    if let Some(correlation) = s.log_correlation {
        line("log-correlation", format!("{correlation:.2} (prompt, output)"));
    }
    if let Some(mean) = s.duration_mean_s {
        line("duration", format!("mean {} s", short(mean)));
    }
    if let Some(p) = &s.prefix {
        let reuse = format!("{} found as a cached prefix", percent(p.reused_share));
        line("prefix blocks", format!("{}, {reuse}, {} used once", p.blocks, percent(p.used_once_share)));
    }
    s.notes.iter().for_each(|note| line("made", note.clone()));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bars() {
        let check = |value: f64, want: &str| assert_eq!(short(value), want);
        check(0.0, "0");
        check(1.0, "1");
        check(0.1179, "0.1179");
        check(13.148, "13.15");
        check(19366.4, "19366");
        check(1e-9, "1.000e-9");
        assert_eq!(sparkline(&[0.0, 1.0, 2.0], 3), "▁▅█");
        assert_eq!(sparkline(&[], 3), "");
        assert_eq!(sparkline(&[1.0, 4.0, 2.0, 2.0], 2), "█▅");
    }
}
