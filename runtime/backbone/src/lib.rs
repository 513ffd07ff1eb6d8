//! The inference half of the runtime: one mapped model, many LoRA adapters in one batch.
//!
//! A [`checkpoint`] reads a model's files, a [`pack`] holds its weights in the layout the kernels want (a file, mapped
//! and shared by every process that serves the model), an [`adapter`] is a fine-tune at its true rank, an executor
//! ([`native`] on the CPU, [`reference`](mod@reference) on any candle device) advances a batch by one step, and the
//! [`engine`] keeps the sequences, their KV pages and their sampling. It knows no policy, no sandbox and no server.

pub mod adapter;
pub mod checkpoint;
pub mod engine;
pub mod error;
pub mod executor;
pub mod gguf;
pub mod kernels;
pub mod kv;
pub mod mapping;
pub mod model;
pub mod native;
pub mod pack;
pub mod reference;
pub mod safetensors;
pub mod sample;
pub mod site;
pub mod store;
pub mod text;

pub use error::{Error, Result};
pub use site::{Module, Site};
