//! Decisions of a serverless LoRA host, without I/O: events in, actions out.
//!
//! The same state machine runs the live host and the simulator. It knows sizes, limits and estimates; it knows no
//! clock, file, socket, thread or tensor. A policy is a set of [`parts`] composed in a [`config::PolicyConfig`].

pub mod artifact;
pub mod config;
pub mod core;
pub mod event;
pub mod invocation;
pub mod log;
pub mod parts;
pub mod rate;
pub mod spec;
pub mod units;
