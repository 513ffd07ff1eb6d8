//! Arrivals and lengths from laws instead of rows: renewal processes, token laws, presets.
//!
//! Everything is seeded and drawn through labelled streams; the same seed gives the same trace on every machine.

pub mod arrivals;
pub mod merge;
