//! The integration tests of the backbone, one binary.

mod files;
mod tiny;
