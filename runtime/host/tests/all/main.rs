//! The integration tests of the host, one binary.

mod calls;
mod live;
mod live_code;
mod live_real;
mod tiny;
