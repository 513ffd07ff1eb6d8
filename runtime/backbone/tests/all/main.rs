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
mod mutated_files;
mod pack;
mod peft;
mod real;
mod reference;
mod sample;
mod speech;
mod store;
mod template;
mod text;
mod tiny;
mod tiny_adapters;
mod web;
