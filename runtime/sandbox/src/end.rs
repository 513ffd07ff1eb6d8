//! How a call ended and what it used.

use crate::services::Failure;
use std::time::Duration;

/// Why a call ended without success. [`End::code`] is stable and goes to the caller and to the meter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// The budget of work is used up.
    #[error("the function used its budget of {limit} units of fuel; do less work or raise `fuel`")]
    OutOfFuel {
        /// The budget.
        limit: u64,
    },
    /// The time is up.
    #[error("the function ran longer than {limit:?}; answer sooner or raise `wall`")]
    Deadline {
        /// The time it had.
        limit: Duration,
    },
    /// More memory than allowed.
    #[error("the function asked for more than {limit} bytes of memory; use less or raise `memory_bytes`")]
    Memory {
        /// The most it may have.
        limit: usize,
    },
    /// A larger table than allowed.
    #[error("the function asked for a table of more than {limit} elements")]
    Table {
        /// The most it may have.
        limit: usize,
    },
    /// Recursion too deep.
    #[error("the function used up its stack; recurse less deeply")]
    Stack,
    /// The guest trapped: unreachable code, out of bounds, a division by zero, …
    #[error("the function trapped: {what}")]
    Trap {
        /// What happened, in the engine's words.
        what: String,
    },
    /// More output than allowed.
    #[error("the function wrote more than {limit} bytes; write less or raise `output_bytes`")]
    Output {
        /// The most it may write.
        limit: u64,
    },
    /// More tokens than allowed.
    #[error("the function generated its budget of {limit} tokens; ask for fewer or raise `tokens`")]
    Tokens {
        /// The budget.
        limit: u32,
    },
    /// More generations at once than allowed.
    #[error("the function started more than {limit} generations at once; let some end first")]
    Generations {
        /// The most it may have.
        limit: usize,
    },
    /// More host calls than allowed.
    #[error("the function made more than {limit} host calls")]
    HostCalls {
        /// The most it may make.
        limit: u64,
    },
    /// More outgoing HTTP calls than allowed.
    #[error("the function made more than {limit} outgoing HTTP calls")]
    HttpCalls {
        /// The most it may make.
        limit: u32,
    },
    /// A value for the store that is larger than allowed.
    #[error("the function stored a value of more than {limit} bytes")]
    State {
        /// The most it may be.
        limit: usize,
    },
    /// A capability was used that the function does not have.
    #[error("the function used `{import}`, which is not granted; ask for it in the manifest")]
    NotGranted {
        /// The import.
        import: String,
    },
    /// No room for another instance now.
    #[error("no instance is free now; try again")]
    Busy,
    /// The component's instances do not fit the pool or the function's limits at all.
    #[error("the component cannot be instantiated: {what}")]
    Instantiate {
        /// Why.
        what: String,
    },
    /// The function itself answered with an error.
    #[error("{0}")]
    Failed(Failure),
    /// The caller has gone.
    #[error("the caller closed the connection")]
    Closed,
}

impl End {
    /// A stable word.
    pub fn code(&self) -> &str {
        match self {
            Self::OutOfFuel { .. } => "out_of_fuel",
            Self::Deadline { .. } => "deadline",
            Self::Memory { .. } => "memory",
            Self::Table { .. } => "table",
            Self::Stack => "stack",
            Self::Trap { .. } => "trap",
            Self::Output { .. } => "output",
            Self::Tokens { .. } => "tokens",
            Self::Generations { .. } => "generations",
            Self::HostCalls { .. } => "host_calls",
            Self::HttpCalls { .. } => "http_calls",
            Self::State { .. } => "state",
            Self::NotGranted { .. } => "not_granted",
            Self::Busy => "busy",
            Self::Instantiate { .. } => "instantiate",
            Self::Failed(failure) => &failure.code,
            Self::Closed => "closed",
        }
    }

    /// The same call may work a moment later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy)
    }

    /// The function is at fault, not the platform nor the caller.
    pub fn is_guests_fault(&self) -> bool {
        !matches!(self, Self::Busy | Self::Closed)
    }
}

/// What a call used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallUsage {
    /// Work, host calls' charges included.
    pub fuel: u64,
    /// CPU time of the thread while it ran the call, host functions included.
    pub cpu_ns: u64,
    /// The most memory of all linear memories together.
    pub memory_bytes_max: usize,
    /// Tokens the guest was given.
    pub tokens: u32,
    /// Generations started.
    pub generations: u32,
    /// Host calls.
    pub host_calls: u64,
    /// Bytes of log.
    pub log_bytes: u64,
    /// Bytes written to the caller.
    pub output_bytes: u64,
    /// Outgoing HTTP calls.
    pub http_calls: u32,
}

/// The end of a call.
#[derive(Debug)]
pub struct CallEnd {
    /// Success, or why not.
    pub result: Result<(), End>,
    /// What it used, however it ended.
    pub usage: CallUsage,
}
