//! Arrival laws of one function: Gamma and Weibull renewal, periodic, on/off.
//!
//! Renewal processes start in equilibrium: the first gap is a residual one, so the mean rate is right from time 0 (an
//! ordinary start adds (CoV² - 1) / 2 requests to every window). It leaves out merging functions: see `merge`.

use crate::rng::Stream;

/// How one function's requests arrive. Rates are requests per second, times seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArrivalLaw {
    /// Renewal with Gamma gaps of this rate and CoV.
    Gamma {
        /// Requests per second.
        rate_rps: f64,
        /// CoV of the gaps.
        cov: f64,
    },
    /// Renewal with Weibull gaps of this rate and CoV.
    Weibull {
        /// Requests per second.
        rate_rps: f64,
        /// CoV of the gaps.
        cov: f64,
    },
    /// Every `period_s` from a random phase, each call moved by up to ±`jitter_s` / 2.
    Periodic {
        /// Seconds between calls.
        period_s: f64,
        /// Width of the jitter, seconds; at most the period, so calls keep their order.
        jitter_s: f64,
    },
    /// Exponential ON and OFF spans; inside ON a Gamma renewal of its own rate and CoV.
    OnOff {
        /// Mean ON span, seconds.
        on_s: f64,
        /// Mean OFF span, seconds.
        off_s: f64,
        /// Requests per second while ON.
        rate_rps: f64,
        /// CoV of the gaps while ON.
        cov: f64,
    },
}

impl ArrivalLaw {
    /// Mean requests per second over a long time.
    pub fn mean_rate_rps(&self) -> f64 {
        match *self {
            Self::Gamma { rate_rps, .. } | Self::Weibull { rate_rps, .. } => rate_rps,
            Self::Periodic { period_s, .. } => 1.0 / period_s,
            Self::OnOff { on_s, off_s, rate_rps, .. } => rate_rps * on_s / (on_s + off_s),
        }
    }

    /// Starts the process at time 0, or `None` when a parameter is not a positive finite number.
    pub fn start(&self, rng: Stream) -> Option<Arrivals> {
        let good = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        let kind = match *self {
            Self::Gamma { rate_rps, cov } if good(&[rate_rps, cov]) => {
                Kind::Renewal(Gaps::gamma(rate_rps, cov))
            }
            Self::Weibull { rate_rps, cov } if good(&[rate_rps, cov]) => {
                Kind::Renewal(Gaps::weibull(rate_rps, cov))
            }
            Self::Periodic { period_s, jitter_s }
                if good(&[period_s]) && (0.0..=period_s).contains(&jitter_s) =>
            {
                Kind::Periodic { period_s, jitter_s }
            }
            Self::OnOff { on_s, off_s, rate_rps, cov } if good(&[on_s, off_s, rate_rps, cov]) => {
                Kind::OnOff { on_s, off_s, gaps: Gaps::gamma(rate_rps, cov), until_s: 0.0 }
            }
            _ => return None,
        };
        Some(Arrivals { kind, rng, now_s: 0.0, started: false })
    }
}

/// Gap law of a renewal process.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gaps {
    /// Shape and scale in seconds.
    Gamma(f64, f64),
    /// Shape and scale in seconds.
    Weibull(f64, f64),
}

impl Gaps {
    pub(crate) fn gamma(rate_rps: f64, cov: f64) -> Self {
        Self::Gamma(1.0 / (cov * cov), cov * cov / rate_rps)
    }

    pub(crate) fn weibull(rate_rps: f64, cov: f64) -> Self {
        let shape = weibull_shape(cov);
        Self::Weibull(shape, 1.0 / (rate_rps * libm::tgamma(1.0 + 1.0 / shape)))
    }

    /// One gap, seconds.
    #[inline]
    pub(crate) fn draw(&self, rng: &mut Stream) -> f64 {
        match *self {
            Self::Gamma(shape, scale) => rng.gamma(shape) * scale,
            Self::Weibull(shape, scale) => scale * libm::pow(rng.exponential(), 1.0 / shape),
        }
    }

    /// The gap from a random instant to the next arrival: a uniform part of a length-biased gap, seconds.
    pub(crate) fn draw_first(&self, rng: &mut Stream) -> f64 {
        let whole = match *self {
            Self::Gamma(shape, scale) => rng.gamma(shape + 1.0) * scale,
            // The length-biased Weibull has X^shape ~ Gamma(1 + 1/shape).
            Self::Weibull(shape, scale) => scale * libm::pow(rng.gamma(1.0 + 1.0 / shape), 1.0 / shape),
        };
        whole * rng.unit()
    }
}

/// The Weibull shape with this CoV, by bisection; CoV falls as the shape grows.
fn weibull_shape(cov: f64) -> f64 {
    let cov_of = |k: f64| {
        let log_ratio = libm::lgamma(1.0 + 2.0 / k) - 2.0 * libm::lgamma(1.0 + 1.0 / k);
        (libm::exp(log_ratio) - 1.0).max(0.0).sqrt()
    };
    // Shapes 0.05..50 span CoV 10^5 down to 0.03; what lies outside is cut.
    let (mut low, mut high) = (0.05, 50.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if cov_of(middle) > cov { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[derive(Clone, Debug)]
enum Kind {
    Renewal(Gaps),
    Periodic { period_s: f64, jitter_s: f64 },
    OnOff { on_s: f64, off_s: f64, gaps: Gaps, until_s: f64 },
}

/// A running arrival process.
#[derive(Clone, Debug)]
pub struct Arrivals {
    kind: Kind,
    rng: Stream,
    now_s: f64,
    started: bool,
}

impl Arrivals {
    /// The next arrival, seconds since the start; never earlier than the one before.
    pub fn next_s(&mut self) -> f64 {
        let first = !std::mem::replace(&mut self.started, true);
        match &mut self.kind {
            Kind::Renewal(gaps) => {
                self.now_s += if first { gaps.draw_first(&mut self.rng) } else { gaps.draw(&mut self.rng) };
                self.now_s
            }
            Kind::Periodic { period_s, jitter_s } => {
                self.now_s += if first { *period_s * self.rng.unit() } else { *period_s };
                // Jitter is one-sided around a phase shifted by half, so times stay above 0 and in order.
                self.now_s + *jitter_s * self.rng.unit()
            }
            Kind::OnOff { on_s, off_s, gaps, until_s } => {
                if first {
                    let on = self.rng.chance(*on_s / (*on_s + *off_s));
                    let wait = if on { 0.0 } else { self.rng.exponential() * *off_s };
                    self.now_s = wait;
                    *until_s = wait + self.rng.exponential() * *on_s;
                    self.now_s += gaps.draw_first(&mut self.rng);
                } else {
                    self.now_s += gaps.draw(&mut self.rng);
                }
                while self.now_s > *until_s {
                    let on_at = *until_s + self.rng.exponential() * *off_s;
                    *until_s = on_at + self.rng.exponential() * *on_s;
                    self.now_s = on_at + gaps.draw_first(&mut self.rng);
                }
                self.now_s
            }
        }
    }
}

/// Seconds to whole nanoseconds; times beyond 584 years stick at the end.
pub fn seconds_to_ns(seconds: f64) -> u64 {
    // `as` saturates, which is what is wanted.
    (seconds * 1e9) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(law: ArrivalLaw, n: usize) -> (f64, f64) {
        let mut process = law.start(Stream::new(5, "gaps")).expect("valid");
        let times: Vec<f64> = (0..n).map(|_| process.next_s()).collect();
        assert!(times.is_sorted());
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let var = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (1.0 / mean, var.sqrt() / mean)
    }

    #[test]
    fn rates_and_covs_come_out() {
        let check = |law: ArrivalLaw, cov: f64| {
            let (rate, got) = gaps(law, 400_000);
            assert!((rate / law.mean_rate_rps() - 1.0).abs() < 0.05, "{law:?}: rate {rate}");
            assert!((got / cov - 1.0).abs() < 0.08, "{law:?}: CoV {got}");
        };
        check(ArrivalLaw::Gamma { rate_rps: 3.0, cov: 0.5 }, 0.5);
        check(ArrivalLaw::Gamma { rate_rps: 0.2, cov: 4.0 }, 4.0);
        check(ArrivalLaw::Weibull { rate_rps: 2.0, cov: 2.0 }, 2.0);
        check(ArrivalLaw::Gamma { rate_rps: 2.0, cov: 1.0 }, 1.0);
        let (rate, cov) = gaps(ArrivalLaw::Periodic { period_s: 60.0, jitter_s: 2.0 }, 1000);
        assert!((rate * 60.0 - 1.0).abs() < 0.01 && cov < 0.05);
        assert!(ArrivalLaw::Gamma { rate_rps: 0.0, cov: 1.0 }.start(Stream::new(1, "x")).is_none());
    }

    #[test]
    fn a_short_window_has_the_mean_count() {
        // 600 windows of 100 s at 0.5/s and CoV 5: 50 arrivals each, where an ordinary start would give 62.
        let count = |seed| {
            let law = ArrivalLaw::Gamma { rate_rps: 0.5, cov: 5.0 };
            let mut process = law.start(Stream::new(seed, "window")).expect("valid");
            std::iter::repeat_with(|| process.next_s()).take_while(|t| *t < 100.0).count()
        };
        let total: usize = (0..600).map(count).sum();
        assert!((28_000..32_000).contains(&total), "{total}");
    }

    #[test]
    fn on_off_pauses() {
        let law = ArrivalLaw::OnOff { on_s: 20.0, off_s: 80.0, rate_rps: 10.0, cov: 1.0 };
        let (rate, cov) = gaps(law, 400_000);
        assert!((rate / 2.0 - 1.0).abs() < 0.1, "{rate}");
        assert!(cov > 3.0, "{cov}");
    }
}
