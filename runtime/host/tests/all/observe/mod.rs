//! Metrics: what is counted, and that the text is what Prometheus takes.

pub mod exposition;
mod promtool;
mod requests;

pub use promtool::promtool;
