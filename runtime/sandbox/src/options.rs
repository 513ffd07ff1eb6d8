//! Settings of a sandbox: size of its pool, how components are checked and compiled, where compiled ones are kept.

use crate::compile::Compiler;
use crate::limits::Charges;
use crate::outbound::Outbound;
use std::path::PathBuf;
use std::time::Duration;

/// What a component may be, checked with a parser before anything is compiled.
///
/// JavaScript components have about 12 MB and Python ones 18 MB, with exports by the thousand in their linked libraries:
/// hence the size of these bounds. What slips through them is bounded by [`CompileLimits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleLimits {
    /// The whole component.
    pub bytes: usize,
    /// Core functions, all modules together.
    pub functions: u32,
    /// The body of one core function.
    pub body_bytes: usize,
    /// Exports of one core module or component.
    pub exports: u32,
    /// Imports of one core module or component.
    pub imports: u32,
    /// Types, tables, globals, elements and data segments of one core module, each.
    pub items: u32,
    /// Core modules and components, all together.
    pub modules: u32,
    /// How deep components lie in components.
    pub nesting: u32,
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            bytes: 32 << 20,
            functions: 100_000,
            body_bytes: 1 << 20,
            exports: 20_000,
            imports: 20_000,
            items: 50_000,
            modules: 256,
            nesting: 8,
        }
    }
}

/// What compiling one component may take: a base, and more for each MiB of component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileLimits {
    /// Time for any component.
    pub wall: Duration,
    /// Time more for each MiB.
    pub wall_per_mib: Duration,
    /// Address space for any component.
    pub memory_bytes: u64,
    /// Address space more for each MiB.
    pub memory_bytes_per_mib: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            wall: Duration::from_secs(5),
            wall_per_mib: Duration::from_secs(10),
            memory_bytes: 512 << 20,
            memory_bytes_per_mib: 192 << 20,
        }
    }
}

impl CompileLimits {
    /// Time and address space for a component of so many bytes.
    pub fn for_bytes(&self, bytes: usize) -> (Duration, u64) {
        let mib = u32::try_from(bytes >> 20).unwrap_or(u32::MAX);
        (
            self.wall + self.wall_per_mib.saturating_mul(mib),
            self.memory_bytes.saturating_add(self.memory_bytes_per_mib.saturating_mul(mib.into())),
        )
    }
}

/// How the kernel treats the threads of the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// As `nice` does: 19 gets about a seventieth of a core that others keep busy, and a core that is free whole.
    Nice(i32),
    /// `SCHED_IDLE`: about a three-hundredth of a busy core; any other thread that wakes runs at once.
    Idle,
}

/// Calls run on their caller's threads until their function has computed more there than its share; from then on its guests
/// compute on threads of low priority, until the share is paid off. Guests that mostly wait for tokens never get there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    /// CPU time of each call that is not booked: many short calls are no reason to send any of them away.
    pub free: Duration,
    /// CPU time a function may use at once on its callers' threads.
    pub burst: Duration,
    /// What it may use of them in the long run, percent of one core.
    pub share_percent: u32,
    /// Threads of the background; 0 lets every guest run on its caller's threads.
    pub threads: usize,
    /// Their priority.
    pub priority: Priority,
}

impl Default for Background {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            free: Duration::from_micros(100),
            burst: Duration::from_millis(1),
            share_percent: 5,
            threads,
            priority: Priority::Idle,
        }
    }
}

/// Settings of a [`crate::Sandbox`].
#[derive(Debug, Clone)]
pub struct SandboxOptions {
    /// Calls that may run at once; one more waits [`SandboxOptions::instance_wait`] for a place.
    pub calls: u32,
    /// Token hooks that may live at once.
    pub hooks: u32,
    /// The most memory any function may be allowed. Address space is kept for each place of the pool, not memory.
    pub memory_bytes_max: usize,
    /// The largest table any function may be allowed, elements.
    pub table_elements_max: usize,
    /// Stack of a guest.
    pub stack_bytes: usize,
    /// How long a call waits for a place in the pool.
    pub instance_wait: Duration,
    /// Work a guest does before others get the thread. A quarter million is about 0.2 ms.
    pub slice_fuel: u64,
    /// Where guests go on that have used up their function's share of the caller's threads.
    pub background: Background,
    /// What host calls cost.
    pub charges: Charges,
    /// Bounds of the check before compiling.
    pub module: ModuleLimits,
    /// Bounds of the compiler.
    pub compile: CompileLimits,
    /// The program that compiles; `None` compiles in this process, without bounds of time and memory.
    pub compiler: Option<Compiler>,
    /// Folder of compiled components; `None` keeps none.
    pub cache: Option<PathBuf>,
    /// How outgoing calls resolve names and which addresses they may reach.
    pub outbound: Outbound,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            calls: 1_000,
            hooks: 1_000,
            memory_bytes_max: 256 << 20,
            table_elements_max: 100_000,
            stack_bytes: 512 << 10,
            instance_wait: Duration::from_millis(250),
            slice_fuel: 250_000,
            background: Background::default(),
            charges: Charges::default(),
            module: ModuleLimits::default(),
            compile: CompileLimits::default(),
            compiler: None,
            cache: None,
            outbound: Outbound::default(),
        }
    }
}
