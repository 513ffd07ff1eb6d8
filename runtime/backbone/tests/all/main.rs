//! The integration tests of the backbone, one binary.

mod bad_files;
mod engine;
mod fake;
mod files;
mod isolation;
mod kernels;
mod kv;
mod reference;
mod store;
mod tiny;
mod web;
