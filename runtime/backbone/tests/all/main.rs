//! The integration tests of the backbone, one binary.

mod bad_files;
mod driver;
mod engine;
mod fake;
mod files;
mod golden;
mod isolation;
mod kernels;
mod kv;
mod reference;
mod store;
mod tiny;
mod web;
