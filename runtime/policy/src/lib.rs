//! Decisions of a serverless LoRA host, without I/O: events in, actions out.
