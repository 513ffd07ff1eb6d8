//! What goes wrong before a call: a component that is refused, a compiler that ran over its bounds, a broken cache folder.

use std::path::PathBuf;
use std::time::Duration;

/// Why a component was not loaded, or a sandbox not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The component is not what may be loaded.
    #[error("the component is refused: {0}")]
    Invalid(String),
    /// The component is larger than allowed, in some respect.
    #[error("the component is refused: it has {found} {what}, at most {limit} are allowed")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many it has, or at least has.
        found: u64,
        /// How many are allowed.
        limit: u64,
    },
    /// An import that no host of this version has.
    #[error(
        "the component is refused: it imports `{0}`, which is not known here; build it against coldframe:function@0.1.0 or \
         WASI 0.2"
    )]
    UnknownImport(String),
    /// Neither of the exports that make a function.
    #[error(
        "the component is refused: it exports neither `coldframe:function/handler@0.1.0` nor `wasi:http/incoming-handler@0.2`"
    )]
    NoHandler,
    /// The compiler took too long.
    #[error("compiling took longer than {limit:?}; make the component smaller")]
    CompileTimeout {
        /// The time it had.
        limit: Duration,
    },
    /// The compiler took too much memory.
    #[error("compiling needed more than {limit} bytes of address space; make the component smaller")]
    CompileMemory {
        /// What it had.
        limit: u64,
    },
    /// The compiler could not be run, or broke.
    #[error("the compiler failed: {0}; look whether the program can be executed")]
    Compiler(String),
    /// The limits ask for more than the sandbox was made for.
    #[error("the limit `{what}` of {asked} is over the {most} this sandbox was made for")]
    Limit {
        /// Which.
        what: &'static str,
        /// What was asked.
        asked: usize,
        /// The most.
        most: usize,
    },
    /// A pattern of an allowed host cannot be read.
    #[error(
        "`{pattern}` is not a pattern of allowed hosts: {why}; write for example https://api.example.com or http://*.example.com:8080"
    )]
    Pattern {
        /// As written.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder of compiled components cannot be used.
    #[error("{}: {source}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The engine cannot run on this machine.
    #[error("the WebAssembly engine cannot start: {0}")]
    Engine(String),
}

impl Error {
    /// A stable word.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) | Self::NoHandler => "invalid_module",
            Self::TooLarge { .. } => "module_too_large",
            Self::UnknownImport(_) => "unknown_import",
            Self::CompileTimeout { .. } => "compile_timeout",
            Self::CompileMemory { .. } => "compile_memory",
            Self::Limit { .. } | Self::Pattern { .. } => "invalid_limits",
            Self::Compiler(_) | Self::Cache { .. } | Self::Engine(_) => "unavailable",
        }
    }
}
