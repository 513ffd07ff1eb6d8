//! The isolating half of the runtime: tenants' WebAssembly components, run under limits.
//!
//! It knows wasmtime and nothing else of the runtime: what a guest may reach comes through [`services`]. A [`Sandbox`]
//! is made once for a process; [`check()`] reads a component without compiling it; [`Sandbox::load`] makes a [`Function`]
//! of it, and [`Function::call`] answers one request in an instance of its own.

mod bindings;
mod call;
pub mod check;
pub mod compile;
mod convert;
mod end;
mod engine;
mod error;
mod function;
mod hook;
mod imports;
mod lanes;
mod limits;
mod options;
pub mod outbound;
mod request;
mod sandbox;
pub mod services;
mod ticker;
mod wasi;
pub mod yardstick;

pub use check::{Checked, World, check};
pub use compile::{Compiler, compile_child_main};
pub use end::{CallEnd, CallUsage, End};
pub use error::Error;
pub use function::Function;
pub use limits::{Charges, Grants, Limits};
pub use options::{Background, CompileLimits, ModuleLimits, Priority, SandboxOptions};
pub use outbound::Allowed;
pub use request::{Request, Route};
pub use sandbox::{CacheCounts, Sandbox};
