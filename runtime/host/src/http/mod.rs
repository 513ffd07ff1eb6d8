//! The HTTP edge: connections, limits, TLS, who asks, the inference API.
//!
//! [`server`] accepts, `connection` speaks HTTP/1.1 and HTTP/2, [`dispatch`] finds a route in the one table of
//! [`router`] and answers it, [`infer`] and [`lora`] are the APIs that clients know. What is behind them is a handful of
//! traits in [`app`]: nothing here knows a store, an engine or a sandbox.

pub mod app;
pub mod ask;
pub mod auth;
pub mod body;
mod connection;
pub mod dialect;
pub mod dispatch;
mod docs_page;
pub mod fields;
pub mod infer;
pub mod json;
pub mod limits;
pub mod lora;
mod models;
pub mod openapi;
mod pace;
mod probes;
pub mod problem;
pub mod router;
mod routes;
mod schemas;
pub mod server;
pub mod tls;
mod tokens;
pub mod trace;

pub use app::{App, Behind, Settings};
pub use ask::Ask;
pub use limits::Limits;
pub use problem::Problem;
pub use router::{Access, Route};
