//! The kernel: an event queue in integer nanoseconds, shared resources in virtual time, and a digest of what happened.
//!
//! It knows nothing of GPUs or requests.

pub mod digest;
pub mod queue;
pub mod random;
pub mod sharing;
