//! One task owns the decisions: real events go into the policy's core, what it asks for is carried out.
//!
//! [`Live`] is the handle: it takes calls and what operators want. Behind it `driver` owns the core, [`seam`] is who
//! does the work ([`machine`] for real), [`residency`] what is where, [`events`] the log that replays. No decision is
//! made here: what is loaded, evicted, admitted or refused comes from `coldframe_policy`, as in the simulator.
//! `docs/live.md` tells how tiers, budgets and phases become real.

mod admission;
mod driver;
pub mod events;
mod functions;
mod handle;
pub mod machine;
mod metering;
pub mod residency;
pub mod seam;
mod stages;

pub use events::EventLog;
pub use functions::Estimates;
pub use handle::{BackboneInfo, Budget, CatalogChange, Live, LiveError, LiveOptions, Sleep};
pub use machine::{ArtifactSource, Machine, MachineOptions, NoCode};
pub use residency::{Counters, FunctionResidency, Residency, State};
pub use seam::{Executors, FunctionInfo, FunctionKey, Load, Ran, Unwatched, Witness};
