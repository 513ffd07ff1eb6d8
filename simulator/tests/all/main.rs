//! All integration tests of the simulator in one binary.

mod ground_truth;
mod properties;
mod support;
mod timeline;
