//! Functions at work: the model, the engine on its thread, calls run to their end.
//!
//! [`model`] opens a backbone, [`resident`] brings a function's adapters and code into place, [`run`] carries out a
//! call on both, [`engine`] is the thread below. What is loaded or evicted when is decided by the policy, whose [`core`]
//! one task owns; nothing here knows HTTP or the registry.

mod chat;
pub mod code;
pub mod component;
pub mod core;
pub mod engine;
mod fault;
mod generation;
mod guest;
mod hook;
mod line;
pub mod loaders;
pub mod logs;
pub mod model;
mod reply;
pub mod resident;
pub mod run;
pub mod single;
mod speak;
pub mod standing;
pub mod state;
pub mod threads;
mod tools;

pub use line::{Before, Events};
pub use model::{Model, ModelOptions};
pub use resident::{Loaded, Resident};
pub use run::{Ending, Outcome, Place, run_call, start_call};
