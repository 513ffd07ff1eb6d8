//! All integration tests of the decision core in one binary.

mod bed;
mod bounds;
mod chaos;
mod config;
mod core;
mod operator;
mod presets;
