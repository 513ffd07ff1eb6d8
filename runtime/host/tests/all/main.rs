//! The integration tests of the host, one binary.

mod auth;
mod calls;
mod catalog;
mod core;
mod core_live;
mod fakes;
mod host;
mod http;
mod live;
mod live_code;
mod live_component;
mod live_real;
mod meter;
mod observe;
mod quota;
mod store;
mod tiny;
