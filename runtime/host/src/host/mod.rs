//! A server, put together: store, catalog, engine, decisions, administration and edge, started from one configuration.
//!
//! [`Host::start`] rebuilds everything from what the store keeps, so that a restart answers as before; [`Host::run`]
//! serves until it is told to stop and drains. The parts know each other only through the traits that are implemented
//! here.

mod artifacts;
mod code;
mod config;
mod control;
mod feed;
mod identify;
mod ledger;
mod lora;
mod machine;
mod names;
mod quotas;
mod reload;
mod scene;
mod start;
mod state;

pub use config::{
    ArtifactsConfig, BackboneConfig, ConfigError, EngineConfig, HostConfig, LimitsConfig, LoraModule,
};
pub use reload::{Reloaded, Reloader};
pub use start::{Host, StartError};
