//! The integration tests of the host, one binary.

mod auth;
mod catalog;
mod quota;
mod store;
