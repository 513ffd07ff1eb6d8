//! The kinds of profile there are, as users spell them and as reports name them.

use std::fmt;

/// A kind of profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// [`super::GpuProfile`].
    Gpu,
    /// [`super::ModelProfile`].
    Model,
    /// [`super::StepProfile`].
    Step,
    /// [`super::ColdStart`].
    ColdStart,
    /// [`super::FleetProfile`].
    Fleet,
    /// [`crate::cost::Tariff`].
    Tariff,
}

impl Kind {
    /// Every kind, in the order they are listed.
    pub const ALL: [Self; 6] =
        [Self::Gpu, Self::Model, Self::Step, Self::ColdStart, Self::Fleet, Self::Tariff];

    /// Its name, e.g. `cold-start`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Model => "model",
            Self::Step => "step",
            Self::ColdStart => "cold-start",
            Self::Fleet => "fleet",
            Self::Tariff => "tariff",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
