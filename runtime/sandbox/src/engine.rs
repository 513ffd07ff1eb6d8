//! The engine: one configuration for the process that compiles and for the one that runs.
//!
//! Follows wasmtime's security guide: Spectre mitigations stay on (cranelift's default), signal-based traps with guard pages,
//! zeroed slots. Fuel meters and slices work; epochs bound it in time, since a tick costs a guest nothing.

use crate::error::Error;
use crate::options::SandboxOptions;
use std::time::Duration;
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

/// Time between two ticks of the epoch. A guest that makes no host call is looked at this often.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// Core instances of the pool for each call: most components have two to five, Python's about thirty.
const CORE_INSTANCES_PER_CALL: u32 = 8;

/// What a place of the pool keeps of its last guest's pages, zeroed by hand: handing them back and faulting them in again costs
/// several microseconds a call, and each hand-back halts the process's other threads for a moment. Most guests touch no more. A
/// thousand places keep 64 MiB at most.
const MEMORY_KEPT: usize = 32 << 10;
/// The same of a table.
const TABLE_KEPT: usize = 16 << 10;
/// The same of a stack.
const STACK_KEPT: usize = 16 << 10;

/// What shapes compiled code: alike in the compiling child and in the host, else the code is refused.
fn base() -> Config {
    let mut config = Config::new();
    config.consume_fuel(true);
    config.epoch_interruption(true);
    config.wasm_component_model(true);
    config.concurrency_support(false);
    // Threads and the collector are not compiled in; see also `check::features`.
    config.wasm_memory64(false).wasm_relaxed_simd(false).wasm_custom_page_sizes(false);
    config.generate_address_map(false);
    config.native_unwind_info(false);
    config
}

/// An engine that only compiles: no pool, so that it fits under a limit of address space.
pub(crate) fn compiling() -> Result<Engine, Error> {
    Engine::new(&base()).map_err(engine_error)
}

/// An engine that runs: instances come from a pool with copy-on-write images.
pub(crate) fn running(options: &SandboxOptions) -> Result<Engine, Error> {
    let mut config = base();
    config.max_wasm_stack(options.stack_bytes);
    // Host functions run on the guest's stack too and want room of their own.
    config.async_stack_size(options.stack_bytes + (1 << 20));
    config.memory_init_cow(true);
    // A deep recursion's stack goes back to the system, and no guest's words stay on a stack another gets.
    config.async_stack_zeroing(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(options)));
    Engine::new(&config).map_err(engine_error)
}

fn pool(options: &SandboxOptions) -> PoolingAllocationConfig {
    let instances = options.calls.saturating_add(options.hooks);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_CALL))
        .total_memories(instances)
        .total_tables(instances.saturating_mul(2))
        .total_stacks(options.calls)
        .max_memory_size(options.memory_bytes_max)
        .table_elements(options.table_elements_max)
        .max_tables_per_module(4)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        .linear_memory_keep_resident(MEMORY_KEPT)
        .table_keep_resident(TABLE_KEPT)
        .async_stack_keep_resident(STACK_KEPT)
        // Only pages that were written are reset, where the kernel (6.7 or later) can tell which.
        .pagemap_scan(Enabled::Auto);
    pool
}

fn engine_error(error: wasmtime::Error) -> Error {
    Error::Engine(format!("{error:#}"))
}
