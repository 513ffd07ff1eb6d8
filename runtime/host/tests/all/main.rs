//! The integration tests of the host, one binary.

mod calls;
mod core;
mod core_live;
mod fakes;
mod live;
mod live_code;
mod live_component;
mod live_real;
mod meter;
mod tiny;
