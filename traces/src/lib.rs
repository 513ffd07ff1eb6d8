//! Workload traces: one record type, streaming readers, writers and seeded generators.
//!
//! Everything that turns a file (or a law) into requests lives here, so that the simulator and, later, the live
//! load generator see the same arrivals. It leaves out what a request costs: that is the simulator's business.

pub mod record;

pub use record::{Catalog, FunctionInfo, Item, Record, Refusal, TraceError, TraceStream};
