//! What a trace looks like: rates, gaps, burstiness, popularity, lengths.
//!
//! One pass, memory flat in rows: a few words per function, fixed sketches, and block ids up to a stated limit.

pub mod functions;
pub mod html;
pub mod series;
pub mod sketch;
pub mod summary;
pub mod text;
pub mod zipf;

pub use summary::{Collector, Summary};
