//! Generating over HTTP: a body becomes calls, their events become a reply or a stream.
//!
//! `params` and `messages` read what is asked, `merged` runs the calls, `collect` gathers a whole reply, `sse` writes a
//! stream; `chat`, `completion`, `generate` and `invoke` each know one surface.

pub mod chat;
pub mod collect;
pub mod completion;
pub mod generate;
pub mod invoke;
pub mod merged;
pub mod messages;
pub mod params;
pub mod request;
pub mod sse;
pub mod timing;
pub mod wire;
