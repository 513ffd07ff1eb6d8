//! The integration tests of the backbone, one binary.

mod bad_files;
mod files;
mod tiny;
