//! Arrival laws by burstiness class, fitted on 5,386 four-hour windows of Azure Functions 2019.
//!
//! The sample CoV of a finite window is biased low for bursty functions, so a drawn window is measured and drawn again
//! until it falls in its class.

use super::arrivals::{ArrivalLaw, Arrivals, seconds_to_ns};
use crate::info::functions::{CovClass, Gaps};
use crate::record::TraceError;
use crate::rng::Stream;

/// Log-normal laws of rate (requests per second) and CoV, and the correlation of their logs.
struct ClassLaw {
    rate: (f64, f64),
    cov: (f64, f64),
    correlation: f64,
}

fn law_of(class: CovClass) -> ClassLaw {
    match class {
        CovClass::Normal => ClassLaw { rate: (-4.76, 1.45), cov: (0.51, 0.37), correlation: -0.1 },
        CovClass::Bursty => ClassLaw { rate: (-3.56, 1.40), cov: (1.91, 0.45), correlation: 0.5 },
        CovClass::Predictable | CovClass::Sparse => {
            ClassLaw { rate: (-4.43, 1.14), cov: (-0.73, 0.67), correlation: 0.5 }
        }
    }
}

/// Least calls in a window, as in the windows the laws were fitted on.
const CALLS_MIN: u64 = 20;
/// Windows drawn before giving up. The rarest class accepts about one in five.
const ATTEMPTS_MAX: u32 = 2000;

/// Draws one law of a class; `scale` multiplies its rate.
pub fn draw_law(class: CovClass, scale: f64, rng: &mut Stream) -> ArrivalLaw {
    let ClassLaw { rate, cov, correlation } = law_of(class);
    let (x, y) = (rng.normal(), rng.normal());
    let second = correlation * x + (1.0 - correlation * correlation).sqrt() * y;
    let rate_rps = libm::exp(rate.0 + rate.1 * x) * scale;
    let cov = libm::exp(cov.0 + cov.1 * second);
    // 17 % of predictable windows have a CoV below 0.3: timers. They keep a period and a small jitter.
    if class == CovClass::Predictable && cov < 0.3 {
        let period_s = 1.0 / rate_rps;
        return ArrivalLaw::Periodic { period_s, jitter_s: 0.05 * period_s };
    }
    ArrivalLaw::Gamma { rate_rps, cov: cov.max(0.05) }
}

/// A running process whose first `window_s` seconds have at least 20 calls and fall in `class`; and its law.
pub fn draw_window(
    class: CovClass,
    window_s: f64,
    scale: f64,
    seed: u64,
    label: &str,
) -> Result<(ArrivalLaw, Arrivals), TraceError> {
    for attempt in 0..ATTEMPTS_MAX {
        let mut rng = Stream::new(seed, &format!("{label}/attempt-{attempt}/law"));
        let law = draw_law(class, scale, &mut rng);
        // A window of more than 10^6 calls is no serverless function's; it would only cost time to measure.
        if law.mean_rate_rps() * window_s > 1e6 {
            continue;
        }
        let process = law.start(Stream::new(seed, &format!("{label}/attempt-{attempt}/arrivals")));
        let process = process.expect("drawn laws have positive parameters");
        let (mut gaps, mut probe) = (Gaps::default(), process.clone());
        loop {
            let at_s = probe.next_s();
            if at_s >= window_s {
                break;
            }
            gaps.add(seconds_to_ns(at_s));
        }
        if gaps.count >= CALLS_MIN && CovClass::of(gaps.count, gaps.cov()) == class {
            return Ok((law, process));
        }
    }
    Err(TraceError::Setting(format!(
        "no {} window of {window_s} s in {ATTEMPTS_MAX} draws; use a longer window or a higher rate",
        class.name()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_fall_in_their_class() {
        for class in [CovClass::Predictable, CovClass::Normal, CovClass::Bursty] {
            for seed in 0..5 {
                let (_, mut process) = draw_window(class, 14_400.0, 1.0, seed, "test").expect("found");
                let mut gaps = Gaps::default();
                std::iter::repeat_with(|| process.next_s()).take_while(|t| *t < 14_400.0).for_each(|t| {
                    gaps.add(seconds_to_ns(t));
                });
                assert_eq!(CovClass::of(gaps.count, gaps.cov()), class);
            }
        }
        assert!(draw_window(CovClass::Bursty, 0.001, 1.0, 1, "test").is_err());
    }
}
