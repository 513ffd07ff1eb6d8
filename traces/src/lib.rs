//! Workload traces: one record type, streaming readers, writers and seeded generators.
//!
//! Everything that turns a file (or a law) into requests lives here, so that the simulator and, later, the live
//! load generator see the same arrivals. It leaves out what a request costs: that is the simulator's business.
//!
//! ```
//! use coldframe_traces::{Item, OpenOptions, TraceStream, open_reader};
//! use std::path::Path;
//!
//! // `open(path, &options)` does the same for a file, packed with gzip or zstd or not.
//! let text = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:15:46.6805900,374,44\r\n";
//! let mut trace = open_reader(text.as_bytes(), Path::new("azure.csv"), &OpenOptions::default())?;
//! while let Some(item) = trace.next_item()? {
//!     match item {
//!         Item::Record(request) => assert_eq!(request.prompt_tokens, 374),
//!         Item::Refused(row) => eprintln!("line {}: {} {}", row.line, row.column, row.reason),
//!     }
//! }
//! assert_eq!(trace.rows_in(), 1);
//! # Ok::<(), coldframe_traces::TraceError>(())
//! ```

pub mod digest;
pub mod fields;
pub mod format;
pub mod generate;
pub mod info;
pub mod input;
mod open;
pub mod placement;
pub mod readers;
pub mod record;
pub mod rng;
pub mod transform;
pub mod write;

pub use digest::sha256_file;
pub use format::Format;
pub use generate::{PRESETS, preset};
pub use open::{OpenOptions, open, open_reader};
pub use placement::Placement;
pub use record::{Catalog, FunctionInfo, Item, Record, Refusal, TraceError, TraceStream};
pub use transform::{Map, MapSpec, Repeat};
pub use write::{TraceWriter, WriteFormat};
