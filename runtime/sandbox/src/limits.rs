//! What a function may use in one call, what it may reach, and what its host calls cost.
//!
//! Limits end a call with a typed [`crate::End`]; grants open a door. Defaults are ours and generous for a chat handler;
//! the platform lowers them per tenant. Nothing here is enforced: the call does that.

use crate::outbound::Allowed;
use std::time::Duration;

/// What one call of a function may use, all enforced together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// All linear memories of the call together.
    pub memory_bytes: usize,
    /// Elements of one table.
    pub table_elements: usize,
    /// Core instances of the component. Toolchains that link at run time (Python) need about 30.
    pub instances: usize,
    /// Work: about one for each WebAssembly instruction, and what host calls are charged.
    pub fuel: u64,
    /// Time from the call's start to its end, waiting included. The request's own deadline may be nearer.
    pub wall: Duration,
    /// Bytes written to the caller.
    pub output_bytes: u64,
    /// Tokens generated, all generations together.
    pub tokens: u32,
    /// Generations alive at once.
    pub generations: usize,
    /// Calls of host functions.
    pub host_calls: u64,
    /// Bytes of the log; what is over is cut.
    pub log_bytes: u64,
    /// Outgoing HTTP calls.
    pub http_calls: u32,
    /// Body of one outgoing request or of its response.
    pub http_body_bytes: usize,
    /// Value of one key of the function's store.
    pub state_value_bytes: usize,
    /// Work of the token hook for each token.
    pub hook_fuel: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            table_elements: 20_000,
            instances: 64,
            fuel: 10_000_000_000,
            wall: Duration::from_secs(120),
            output_bytes: 16 << 20,
            tokens: 16_384,
            generations: 16,
            host_calls: 1_000_000,
            log_bytes: 64 << 10,
            http_calls: 32,
            http_body_bytes: 4 << 20,
            state_value_bytes: 256 << 10,
            hook_fuel: 200_000,
        }
    }
}

/// What a host call costs in fuel. The engine itself charges nothing for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charges {
    /// Each call of a host function.
    pub call: u64,
    /// Each byte copied into or out of the guest.
    pub byte: u64,
}

impl Default for Charges {
    /// A call is about as much work as a thousand instructions, a copied byte as one.
    fn default() -> Self {
        Self { call: 1_000, byte: 1 }
    }
}

/// What a function may reach beside the model, its reply and its log. Everything is shut unless opened here.
///
/// A component may import a capability that is not granted, since some toolchains import a world whole; using it ends the
/// call with `not_granted` and the import's name. [`crate::Checked::not_granted`] tells the names at deploy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The function's own store.
    pub state: bool,
    /// The time, to a millisecond. Without it WASI's clocks stand still at zero.
    pub clock: bool,
    /// True randomness. Without it WASI's generators give the same bytes in each call.
    pub random: bool,
    /// Hosts that may be called; none by default.
    pub outbound: Allowed,
}
