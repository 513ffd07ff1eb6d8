//! How long an idle instance keeps each artifact.
//!
//! Pre-loading may bring an artifact back; eviction may take it earlier.

use crate::artifact::Class;
use crate::rate::Arrivals;
use crate::units::Nanos;
use serde::{Deserialize, Serialize};

/// How long to keep it from the moment its instance went idle.
pub trait KeepAlive {
    /// The time, [`Nanos::NEVER`] for always.
    fn keep(&self, class: Class, arrivals: &Arrivals, now: Nanos) -> Nanos;
}

/// Every keep-alive rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum KeepAlivePart {
    /// Nothing is ever dropped for idleness (serverful).
    Forever {},
    /// A fixed time per class, seconds; a class never outlives one it depends on.
    Fixed {
        /// The container.
        container_s: f64,
        /// Libraries.
        runtime_s: f64,
        /// Backbone (a private copy; a shared one counts from its last user).
        backbone_s: f64,
        /// Adapter.
        adapter_s: f64,
        /// Context and kernels.
        kernel_s: f64,
    },
    /// InstaInfer's Poisson rule for device artifacts: `T_offload = −ln(1 − P)/λ`; containers stay a fixed time.
    Poisson {
        /// Seconds a container with its libraries stays.
        container_s: f64,
        /// P_offload: the arrival would have come by then with this probability.
        p_offload: f64,
        /// Window of the rate, seconds.
        window_s: f64,
        /// Bounds of the result, seconds.
        min_s: f64,
        /// Upper bound, seconds.
        max_s: f64,
    },
}

/// `−ln(1 − p) / λ` with λ in arrivals per 10^6 s; never when there is no rate.
pub fn poisson_time(p: f64, per_megasecond: u64) -> Nanos {
    match per_megasecond {
        0 => Nanos::NEVER,
        rate => Nanos::from_secs(-libm::log1p(-p) * 1e6 / rate as f64),
    }
}

impl KeepAlive for KeepAlivePart {
    fn keep(&self, class: Class, arrivals: &Arrivals, now: Nanos) -> Nanos {
        match *self {
            Self::Forever {} => Nanos::NEVER,
            Self::Fixed { container_s, runtime_s, backbone_s, adapter_s, kernel_s } => {
                let own = [container_s, runtime_s, backbone_s, adapter_s, kernel_s];
                Nanos::from_secs(own[..=class as usize].iter().copied().fold(f64::INFINITY, f64::min))
            }
            Self::Poisson { container_s, p_offload, window_s, min_s, max_s } => {
                if !class.on_device() {
                    return Nanos::from_secs(container_s);
                }
                let rate = arrivals.per_megasecond(now, Nanos::from_secs(window_s));
                let asked = poisson_time(p_offload, rate);
                let most = max_s.min(container_s);
                asked.clamp(Nanos::from_secs(min_s.min(most)), Nanos::from_secs(most))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_never_outlives_what_it_depends_on() {
        let part = KeepAlivePart::Fixed {
            container_s: 60.0,
            runtime_s: 60.0,
            backbone_s: 30.0,
            adapter_s: 90.0,
            kernel_s: 10.0,
        };
        let keep = |class| part.keep(class, &Arrivals::default(), Nanos::ZERO).as_secs();
        assert_eq!(Class::ALL.map(keep), [60.0, 60.0, 30.0, 30.0, 10.0]);
    }

    #[test]
    fn poisson_offloads_at_2_81_mean_gaps() {
        let gap = poisson_time(0.94, 100_000).as_secs() / 10.0;
        assert!((gap - 2.8134).abs() < 1e-3, "{gap}");
        assert_eq!(poisson_time(0.94, 0), Nanos::NEVER);
    }
}
