//! Reports: the data a run leaves behind and the ways it is shown.
//!
//! `model` is the versioned schema. Rendering (table, HTML, CSV, Parquet, timeline) reads only the model.

pub mod model;
