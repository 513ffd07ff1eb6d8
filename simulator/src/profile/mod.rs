//! Hardware profiles: GPUs, models, step times, cold-start regimes and fleets, each number with its source.
//!
//! Shipped profiles are TOML files under `simulator/profiles`, embedded in the program; users give paths to their own.
//! There is no interpolation between GPUs or models: what nobody measured is refused. Prices live in [`crate::cost`].

mod cold;
mod fleet;
mod gpu;
mod model;
mod step;

pub use cold::ColdStart;
pub use fleet::FleetProfile;
pub use gpu::GpuProfile;
pub use model::ModelProfile;
pub use step::StepProfile;
