//! The integration tests of the backbone, one binary.

mod adapters;
