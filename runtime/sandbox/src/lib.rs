//! The isolating half of the runtime: tenants' WebAssembly components, run under limits.
//!
//! It knows wasmtime and nothing else of the runtime: what a guest may reach comes through [`services`].

pub mod services;
