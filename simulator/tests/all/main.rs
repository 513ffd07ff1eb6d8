//! All integration tests of the simulator in one binary.

mod digest;
mod engine;
mod ground_truth;
mod properties;
mod support;
mod timeline;
