//! The host: joins decision core, backbone and sandbox into a server.
//!
//! [`http`] speaks to clients, [`admin`] changes what is registered, [`store`] keeps it, [`live`] runs it: the decision
//! core on one task, the engine on its thread, handlers in the sandbox; [`meter`] writes down what it costs. [`catalog`]
//! is the registry in memory, with [`auth`] for keys and [`quota`] for limits; [`observe`] says how it goes, for programs,
//! and [`dashboard`] for people; [`host`] puts all of it together. [`call`]
//! and [`records`] are the seams between them: `http` knows no engine, `live` no HTTP, `store` neither.

pub mod admin;
pub mod auth;
pub mod call;
pub mod catalog;
pub mod dashboard;
pub mod host;
pub mod http;
pub mod live;
pub mod meter;
pub mod observe;
pub mod quota;
pub mod records;
pub mod store;
