//! The integration tests of the backbone, one binary.

mod driver;
mod golden;
mod engine;
mod fake;
mod isolation;
mod store;
mod web;
mod reference;
mod kernels;
mod bad_files;
mod files;
mod tiny;
mod kv;
