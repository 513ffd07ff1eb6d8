//! What a trace looks like: rates, gaps, burstiness, popularity, lengths.

pub mod functions;
