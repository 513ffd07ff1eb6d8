//! Measuring a run: histograms, request records, GPU time by cause, memory by use, and the report made of them.
//!
//! It watches; it decides nothing and changes nothing.

pub mod account;
pub mod collect;
pub mod functions;
pub mod histogram;
pub mod series;
