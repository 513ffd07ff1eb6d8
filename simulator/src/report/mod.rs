//! Reports: the data a run leaves behind and the ways it is shown.
//!
//! `model` is the versioned schema. Rendering (table, HTML, CSV, Parquet, timeline) reads only the model, so a report
//! read back from a file looks the same as one just made. It leaves out collecting the numbers: the kernel does that.

pub mod check;
pub mod compare;
pub mod html;
pub mod json;
pub mod metrics;
pub mod model;
pub mod per_request;
pub mod schema;
pub mod summary;
pub mod table;
pub mod timeline;
pub mod units;
pub mod verdict;

mod grid;
#[cfg(test)]
pub mod sample;
