//! The simulator against the host: one log read as a run, two runs side by side, two lists of decisions compared.
//!
//! Both worlds write the log of `coldframe_policy::log`. [`logged`] reads one as a run of the report, with the device
//! time, memory, links and bills that the simulator's own account makes of it. [`compare`] sets a live run beside a
//! simulated one, [`decisions`] finds where the two began to decide otherwise. Nothing here runs a host.

pub mod compare;
pub mod decisions;
pub mod logged;
pub mod page;
pub mod trace;

#[cfg(test)]
mod tests;
