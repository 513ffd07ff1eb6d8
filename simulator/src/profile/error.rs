//! What can go wrong when a profile is asked for: every message says what there is instead, or which file and line to mend.

use super::Kind;
use std::path::PathBuf;

/// A profile that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No shipped profile has that name.
    #[error("no {kind} named `{name}`{}; there are {}, or give a path to a TOML file", hint(.nearest), .known.join(", "))]
    Unknown {
        /// What was asked for.
        kind: Kind,
        /// The name given.
        name: String,
        /// The nearest name there is, if any is near.
        nearest: Option<String>,
        /// Every name there is.
        known: Vec<String>,
    },
    /// Nobody measured this pair.
    #[error(
        "no step times for `{model}` on `{gpu}`: nothing is invented for a pair nobody measured; there are {}, or give a \
         step file of your own (`coldframe profiles show step vidur` prints one to copy)", .known.join(", ")
    )]
    NoSteps {
        /// Canonical GPU name.
        gpu: String,
        /// Canonical model name.
        model: String,
        /// Pairs there are, `gpu/model`.
        known: Vec<String>,
    },
    /// A user's file could not be read.
    #[error("cannot read the {kind} file {}", .path.display())]
    Read {
        /// What the file should hold.
        kind: Kind,
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is no valid profile.
    #[error("{origin} is no {kind} file: {message}")]
    Parse {
        /// What the file should hold.
        kind: Kind,
        /// File name.
        origin: String,
        /// The parser's message, with line and column.
        message: String,
    },
    /// A quantity that divides is zero.
    #[error("{origin}: `{key}` must not be zero in a {kind} file")]
    Zero {
        /// What the file should hold.
        kind: Kind,
        /// File name.
        origin: String,
        /// The key at fault.
        key: &'static str,
    },
    /// Decode by sequences that makes no sense.
    #[error("{origin}: `decode_rows_ps` must be [sequences, picoseconds], sequences rising, no time zero")]
    Rows {
        /// File name.
        origin: String,
    },
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default()
}
