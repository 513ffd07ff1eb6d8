//! Hardware profiles: GPUs, models, step times, cold-start regimes and fleets, each number with its source.
//!
//! Shipped profiles are TOML files under `simulator/profiles`, embedded in the program; users give paths to their own.
//! There is no interpolation between GPUs or models: what nobody measured is refused. Prices live in [`crate::cost`].

mod catalog;
mod cold;
mod error;
mod fleet;
mod gpu;
mod kind;
mod model;
mod shipped;
mod step;

pub use catalog::Profiles;
pub use cold::ColdStart;
pub use error::ProfileError;
pub use fleet::FleetProfile;
pub use gpu::GpuProfile;
pub use kind::Kind;
pub use model::ModelProfile;
pub use step::{Edge, EngineRules, RowTimes, StepProfile};

#[cfg(test)]
mod tests;
