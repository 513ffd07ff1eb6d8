//! The integration tests of the backbone, one binary.

mod sample;
mod text;
