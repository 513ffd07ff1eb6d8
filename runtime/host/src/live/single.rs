//! One function on one backbone without a registry: for `coldframe function run` and for tests.
//!
//! Everything is in place before the first call; nothing is evicted, nothing is metered beyond the call.

use super::code::Code;
use super::engine::Meter;
use super::line::Before;
use super::logs::Logs;
use super::model::{Model, ModelOptions};
use super::resident::{Resident, load_adapter};
use super::run::{Outcome, Place, start_call};
use super::standing::Standings;
use super::state::{MemoryState, StateStore};
use crate::call::{Answer, Call, CallError, Caller, Later};
use crate::records::Settings;
use coldframe_backbone::error as backbone;
use coldframe_backbone::kv::TenantId;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The one function.
pub struct SingleOptions {
    /// Its backbone.
    pub model: ModelOptions,
    /// Its adapters by name, the default first.
    pub adapters: Vec<(String, PathBuf)>,
    /// Its code, compiled.
    pub code: Option<Arc<dyn Code>>,
    /// How it runs.
    pub settings: Settings,
}

/// A function ready to be called.
pub struct Single {
    /// The backbone.
    pub model: Arc<Model>,
    /// The function.
    pub resident: Arc<Resident>,
    /// What its code keeps between calls.
    pub state: Arc<dyn StateStore>,
    /// What its code logs.
    pub logs: Arc<Logs>,
    /// Whether its code keeps to its limits.
    pub standings: Arc<Standings>,
}

impl Single {
    /// Opens the backbone and loads the function. Blocks.
    ///
    /// # Errors
    /// As [`Model::open`] and [`load_adapter`].
    pub fn open(options: SingleOptions) -> backbone::Result<Self> {
        let model = Model::open(options.model)?;
        let load = |(name, path): &(String, PathBuf)| load_adapter(&model, name, path);
        let adapters = options.adapters.iter().map(load).collect::<backbone::Result<_>>()?;
        let (code, settings) = (options.code, options.settings);
        let resident = Resident { generation: None, adapters, code, settings };
        Ok(Self::of(Arc::new(model), Arc::new(resident)))
    }

    /// A function on a backbone that is open already.
    pub fn of(model: Arc<Model>, resident: Arc<Resident>) -> Self {
        let (logs, standings) = (Arc::default(), Arc::default());
        Self { model, resident, state: Arc::new(MemoryState::default()), logs, standings }
    }

    /// Starts a call; the task tells what became of it.
    pub fn start(&self, call: Call) -> (Answer, JoinHandle<Outcome>) {
        let place = Place {
            model: self.model.clone(),
            resident: self.resident.clone(),
            tenant: TenantId(0),
            state: self.state.clone(),
            logs: self.logs.clone(),
            standings: self.standings.clone(),
            meter: Arc::new(Meter::default()),
        };
        start_call(call, place, Before::default())
    }
}

impl Caller for Single {
    fn call(&self, call: Call) -> Later<'_, Result<Answer, CallError>> {
        Box::pin(async move { Ok(self.start(call).0) })
    }
}
