//! The trace-driven simulator: a kernel, a fleet, a cost model, and the reports it writes.
//!
//! It carries out the actions of `coldframe-policy` with durations from hardware profiles, in virtual time. It holds no
//! rule about what to load, evict or batch: those are decisions and live in the policy crate.

pub mod calibrate;
pub mod cost;
pub mod engine;
pub mod fidelity;
pub mod invocations;
pub mod kernel;
pub mod measure;
pub mod observed;
pub mod profile;
pub mod report;
pub mod run;
pub mod setup;
pub mod start;
pub mod validate;
pub mod world;
