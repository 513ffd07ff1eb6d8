//! The parts a policy is composed of: each a trait with a decision, closed implementations, and its place in TOML.
//!
//! Parts see small views and answer with decisions; only the core changes the book.

pub mod batching;
pub mod eviction;
pub mod keep_alive;
pub mod preload;
pub mod routing;
pub mod scaling;
pub mod sharing;
