//! The bare engine, as a yardstick: what wasmtime alone takes to instantiate, call and drop, with no limit and no host of ours.
//!
//! Here because only this crate knows wasmtime; `coldframe bench-sandbox` compares with it. Nothing else may use it.

use crate::error::Error;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker, Val};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

/// A component in wasmtime with its pool, every import a trap, epochs and fuel off.
pub struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
    entry: ComponentExportIndex,
}

impl std::fmt::Debug for Bare {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Bare").finish_non_exhaustive()
    }
}

impl Bare {
    /// Compiles a component and finds a function without parameters and results, exported by the component itself.
    ///
    /// # Errors
    /// The component is refused or does not export the function.
    pub fn new(bytes: &[u8], function: &str) -> Result<Self, Error> {
        let refused = |error: wasmtime::Error| Error::Invalid(format!("{error:#}"));
        let mut config = Config::new();
        config.concurrency_support(false);
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(1_100)
            .total_core_instances(4_400)
            .total_memories(1_100)
            .total_tables(2_200);
        pool.max_tables_per_module(4).max_memory_size(64 << 20).total_stacks(1_100);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).map_err(refused)?;
        let component = Component::new(&engine, bytes).map_err(refused)?;
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).map_err(refused)?;
        let pre = linker.instantiate_pre(&component).map_err(refused)?;
        let entry = component.get_export_index(None, function);
        let entry = entry.ok_or_else(|| Error::Invalid(format!("it does not export `{function}`")))?;
        Ok(Self { engine, pre, entry })
    }

    /// Makes a store and an instance, calls the function, drops both.
    ///
    /// # Errors
    /// The guest trapped.
    pub fn instantiate_call_drop(&self) -> Result<(), Error> {
        let failed = |error: wasmtime::Error| Error::Engine(format!("{error:#}"));
        let mut store = Store::new(&self.engine, ());
        let instance = self.pre.instantiate(&mut store).map_err(failed)?;
        let function = instance.get_func(&mut store, &self.entry);
        let function = function.ok_or_else(|| Error::Invalid("the function is gone".to_owned()))?;
        let mut results: [Val; 0] = [];
        function.call(&mut store, &[], &mut results).map_err(failed)
    }
}
