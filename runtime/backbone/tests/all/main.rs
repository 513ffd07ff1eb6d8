//! The integration tests of the backbone, one binary.

mod engine;
mod fake;
mod isolation;
mod kv;
mod reference;
