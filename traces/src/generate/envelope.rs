//! Time of day: a piecewise-constant rate factor by hour, applied by stretching time.
//!
//! Arrivals run on an even clock and are moved to the real one, so the law's burstiness stays as it is in busy and
//! quiet hours. Factors are scaled to mean 1.

/// Seconds in an hour.
const HOUR_S: f64 = 3600.0;

/// A day's factors.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    factors: Vec<f64>,
}

/// Published hourly factors by name.
pub const ENVELOPES: &[(&str, [f64; 24])] = &[
    (
        "servegen-small",
        [
            0.84, 0.71, 0.73, 0.68, 0.71, 0.66, 0.68, 0.85, 1.02, 1.05, 1.13, 1.09, 1.06, 1.07, 1.06, 1.05,
            1.09, 1.08, 1.01, 1.23, 1.46, 1.40, 1.27, 1.06,
        ],
    ),
    (
        "servegen-large",
        [
            0.99, 1.00, 0.99, 0.94, 0.91, 0.88, 0.85, 0.82, 0.79, 0.87, 1.05, 1.11, 0.97, 0.98, 1.05, 1.05,
            1.11, 1.08, 1.04, 1.14, 1.13, 1.07, 1.10, 1.09,
        ],
    ),
    (
        "deepseek-r1",
        [
            1.21, 1.39, 2.03, 1.79, 1.06, 0.91, 0.75, 0.58, 0.60, 0.66, 0.81, 0.83, 0.45, 0.54, 0.68, 0.70,
            0.88, 0.55, 0.75, 0.59, 1.24, 1.62, 2.19, 1.18,
        ],
    ),
    (
        "burstgpt",
        [
            0.95, 0.90, 0.57, 0.52, 0.37, 0.35, 0.20, 0.22, 0.32, 0.39, 0.89, 1.29, 1.79, 1.51, 1.85, 1.44,
            1.49, 1.37, 1.23, 1.63, 1.38, 1.19, 1.11, 1.03,
        ],
    ),
];

impl Envelope {
    /// The envelope of these hourly factors, which must be finite and above 0.
    pub fn new(factors: &[f64]) -> Option<Self> {
        let good = !factors.is_empty() && factors.iter().all(|f| f.is_finite() && *f > 0.0);
        let mean = factors.iter().sum::<f64>() / factors.len().max(1) as f64;
        good.then(|| Self { factors: factors.iter().map(|f| f / mean).collect() })
    }

    /// A published envelope.
    pub fn by_name(name: &str) -> Option<Self> {
        ENVELOPES.iter().find(|(n, _)| *n == name).and_then(|(_, factors)| Self::new(factors))
    }

    /// The real time at which the even clock shows `even_s`, seconds.
    pub fn real_s(&self, even_s: f64) -> f64 {
        let cycle_s = HOUR_S * self.factors.len() as f64;
        let cycles = (even_s / cycle_s).floor();
        let mut left = even_s - cycles * cycle_s;
        for (hour, factor) in self.factors.iter().enumerate() {
            if left < HOUR_S * factor {
                return cycles * cycle_s + hour as f64 * HOUR_S + left / factor;
            }
            left -= HOUR_S * factor;
        }
        (cycles + 1.0) * cycle_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_quiet_hours() {
        // Factors 0.5 and 1.5: half an hour's worth fills hour 0, the rest hour 1.
        let envelope = Envelope::new(&[1.0, 3.0]).expect("valid");
        let check = |even: f64, real: f64| assert!((envelope.real_s(even) - real).abs() < 1e-6, "{even}");
        check(0.0, 0.0);
        check(900.0, 1800.0);
        check(1800.0, 3600.0);
        check(1800.0 + 2700.0, 5400.0);
        check(7200.0 + 900.0, 9000.0);
        assert!(Envelope::new(&[]).is_none() && Envelope::new(&[0.0]).is_none());
        assert!(ENVELOPES.iter().all(|(name, _)| Envelope::by_name(name).is_some()));
    }
}
