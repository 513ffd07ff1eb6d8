//! The integration tests of the backbone, one binary.

mod adapters;
mod bad_files;
mod devices;
mod driver;
mod engine;
mod fake;
mod files;
mod golden;
mod isolation;
mod kernels;
mod kv;
mod peft;
mod reference;
mod store;
mod tiny;
mod tiny_adapters;
mod web;
