//! Arrivals and lengths from laws instead of rows: renewal processes, token laws, presets.
//!
//! Everything is seeded and drawn through labelled streams; the same seed gives the same trace on every machine.

pub mod arrivals;
pub mod classes;
pub(crate) mod counts_file;
pub mod envelope;
pub mod merge;
pub(crate) mod placed;
pub mod presets;
pub mod synthetic;
pub mod tokens;

pub use presets::{PRESETS, preset};
