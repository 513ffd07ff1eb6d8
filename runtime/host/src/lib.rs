//! The host: joins decision core, backbone and sandbox into a server.
//!
//! [`http`] speaks to clients, [`admin`] changes what is registered, [`store`] keeps it, [`live`] runs it: the decision
//! core on one task, the engine on its thread, handlers in the sandbox; [`meter`] writes down what it costs. [`call`] and [`records`] are the seams between
//! them: `http` knows no engine, `live` no HTTP, `store` neither.

pub mod call;
pub mod live;
pub mod meter;
pub mod records;
pub mod store;
