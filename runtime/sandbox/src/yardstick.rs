//! The bare engine, as a yardstick: what wasmtime alone takes to instantiate, call and drop, with no limit and no host of ours.
//!
//! Here because only this crate knows wasmtime, so that a benchmark elsewhere can compare with it. Nothing else may use it.

use crate::check::HANDLER;
use crate::convert;
use crate::error::Error;
use crate::function::{HandleParams, HandleResults, export};
use crate::request::{Request, Route};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// A component in wasmtime with its pool, every import a trap, epochs and fuel off, called without a fiber.
pub struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
    handle: ComponentExportIndex,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// Compiles a component that exports our handler.
    ///
    /// # Errors
    /// The component is refused or exports no handler.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        let refused = |error: wasmtime::Error| Error::Invalid(format!("{error:#}"));
        let mut config = Config::new();
        config.concurrency_support(false);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(1_100).total_core_instances(4_400).total_memories(1_100);
        pool.total_tables(2_200).max_tables_per_module(4).max_memory_size(64 << 20);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(refused)?;
        let component = Component::new(&engine, bytes).map_err(refused)?;
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).map_err(refused)?;
        let pre = linker.instantiate_pre(&component).map_err(refused)?;
        let handle = export(&component, HANDLER, "handle")?;
        Ok(Self { engine, pre, handle })
    }

    /// Makes a store and an instance, calls the handler with an empty request, drops both.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn instantiate_call_drop(&self) -> Result<(), Error> {
        let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let mut store = Store::new(&self.engine, ());
        let instance = self.pre.instantiate(&mut store).map_err(failed)?;
        let handle = instance.get_typed_func::<HandleParams, HandleResults>(&mut store, &self.handle);
        let (request, _) = convert::request(Request::new("r", Route::Invoke));
        let (answer,) = handle.map_err(failed)?.call(&mut store, (request,)).map_err(failed)?;
        answer.map_err(|failure| Error::Engine(failure.code))
    }
}
