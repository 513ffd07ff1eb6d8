//! What is brought in before it is asked for.
//!
//! Source: ServerlessLoRA section 4.1 (precedence-constrained knapsack by value density) and InstaInfer (Poisson window).
//! A part says which functions may be pre-loaded up to which class and what one more class is worth; the core places.

use super::eviction::density;
use super::keep_alive::poisson_time;
use crate::artifact::Class;
use crate::rate::Arrivals;
use crate::units::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

/// What the part sees of a function's next missing artifact.
pub struct Wish<'a> {
    /// The class.
    pub class: Class,
    /// Time saved if it were in place.
    pub saved: Nanos,
    /// Its bytes.
    pub bytes: Bytes,
    /// Arrivals of the function.
    pub arrivals: &'a Arrivals,
    /// Now.
    pub now: Nanos,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreloadDecision {
    /// Not worth it now.
    Leave,
    /// Worth this much per KiB: place by descending value.
    Place(u64),
}

/// The pre-loading part.
pub trait Preload {
    /// What the next class is worth.
    fn value(&self, wish: &Wish) -> PreloadDecision;
    /// How often the plan is looked at; never for parts that do not pre-load.
    fn replan_every(&self) -> Nanos;
    /// Warm containers kept ready on each worker for whoever comes.
    fn container_pool(&self) -> u32;
    /// Whether a function's next class may still be wanted: the plan then looks at it again.
    fn window(&self) -> Nanos;
    /// Until when, without another arrival, the part goes on wanting what it wants now.
    fn wants_until(&self, arrivals: &Arrivals, now: Nanos) -> Nanos;
}

/// Every pre-loading rule, as configured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PreloadPart {
    /// Nothing ahead of a request.
    None {},
    /// Precedence-constrained knapsack, filled greedily by value density.
    Pckp {
        /// Window of the request rate, seconds (60 in a public re-implementation; not known for the paper).
        window_s: f64,
        /// Seconds between looks at the plan (1 in the re-implementation).
        replan_s: f64,
        /// Classes that may be pre-loaded.
        classes: Vec<Class>,
        /// Warm generic containers per worker.
        container_pool: u32,
        /// Whether a more valuable artifact may push out a less valuable idle one.
        displace: bool,
    },
    /// InstaInfer: load again `T_load = −ln(1 − P_load)/λ` after the last arrival.
    Poisson {
        /// Window of the rate, seconds.
        window_s: f64,
        /// Seconds between looks.
        replan_s: f64,
        /// P_load.
        p_load: f64,
        /// P_offload: after `−ln(1 − P_offload)/λ` it is no longer worth loading.
        p_offload: f64,
        /// Classes that may be pre-loaded.
        classes: Vec<Class>,
    },
}

impl Preload for PreloadPart {
    fn value(&self, wish: &Wish) -> PreloadDecision {
        match self {
            Self::None {} => PreloadDecision::Leave,
            Self::Pckp { window_s, classes, .. } => {
                let rate = wish.arrivals.per_megasecond(wish.now, Nanos::from_secs(*window_s));
                match classes.contains(&wish.class) && rate > 0 {
                    true => PreloadDecision::Place(density(wish.saved, rate, wish.bytes)),
                    false => PreloadDecision::Leave,
                }
            }
            Self::Poisson { window_s, p_load, p_offload, classes, .. } => {
                let rate = wish.arrivals.per_megasecond(wish.now, Nanos::from_secs(*window_s));
                let since = wish.now.saturating_sub(wish.arrivals.last().unwrap_or(Nanos::ZERO));
                let due = rate > 0
                    && since >= poisson_time(*p_load, rate)
                    && since < poisson_time(*p_offload, rate);
                match due && classes.contains(&wish.class) {
                    true => PreloadDecision::Place(density(wish.saved, rate, wish.bytes)),
                    false => PreloadDecision::Leave,
                }
            }
        }
    }

    fn replan_every(&self) -> Nanos {
        match self {
            Self::None {} => Nanos::NEVER,
            Self::Pckp { replan_s, .. } | Self::Poisson { replan_s, .. } => Nanos::from_secs(*replan_s),
        }
    }

    fn container_pool(&self) -> u32 {
        match self {
            Self::Pckp { container_pool, .. } => *container_pool,
            _ => 0,
        }
    }

    fn window(&self) -> Nanos {
        match self {
            Self::None {} => Nanos::ZERO,
            Self::Pckp { window_s, .. } | Self::Poisson { window_s, .. } => Nanos::from_secs(*window_s),
        }
    }

    fn wants_until(&self, arrivals: &Arrivals, now: Nanos) -> Nanos {
        let last = arrivals.last().unwrap_or(Nanos::ZERO);
        match self {
            Self::None {} => now,
            Self::Pckp { window_s, .. } => last + Nanos::from_secs(*window_s),
            Self::Poisson { window_s, p_offload, .. } => {
                let rate = arrivals.per_megasecond(now, Nanos::from_secs(*window_s));
                last + poisson_time(*p_offload, rate)
            }
        }
    }
}

impl PreloadPart {
    /// Whether a wish may displace idle artifacts of lower density.
    pub fn displaces(&self) -> bool {
        matches!(self, Self::Pckp { displace: true, .. })
    }
}
