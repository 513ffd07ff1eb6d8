//! From measurements of one machine to a hardware profile: fits, their errors, the file and its page.
//!
//! `coldframe calibrate` measures with the real runtime and hands [`Measured`] over; nothing here touches a clock, a model
//! or a file. What was not measured is said in the file, never filled in with a guess.

mod derive;
mod fit;
mod mean;
mod measured;
mod page;
mod text;

pub use derive::{Derived, FitNote, derive};
pub use fit::{Errors, Fit, Row, fit};
pub use mean::mean;
pub use measured::{
    AdapterLoad, BackboneLoad, Bandwidths, Files, FirstPoint, Machine, Measured, Sandbox, ServedLoad,
    ServingPoint, Shape, StepPoint,
};
pub use page::page;
pub use text::text;

/// A calibration that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// Too few points for a fit.
    #[error(
        "{what}: {points} measured points are too few for a fit; at least {least} are needed, so measure without --quick"
    )]
    TooFew {
        /// Which fit.
        what: &'static str,
        /// Points there are.
        points: usize,
        /// Points needed.
        least: usize,
    },
    /// No run to make one of.
    #[error("a calibration is made of one run at least")]
    NoRun,
    /// Runs that are not of one kind.
    #[error(
        "run {run} of {of} differs from the last in its {what}; runs of one calibration measure the same: give another file"
    )]
    Different {
        /// Which, from 1.
        run: usize,
        /// Runs there are.
        of: usize,
        /// In what.
        what: &'static str,
    },
}

#[cfg(test)]
mod tests;
