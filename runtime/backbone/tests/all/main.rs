//! The integration tests of the backbone, one binary.

mod adapters;
mod bad_files;
mod driver;
mod engine;
mod fake;
mod files;
mod golden;
mod isolation;
mod kernels;
mod kv;
mod peft;
mod real;
mod reference;
mod store;
mod tiny;
mod web;
