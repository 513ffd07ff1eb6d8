//! Every way this crate fails, as data.
//!
//! An error names the place (file, tensor, field) and what to do; [`Error::code`] is a stable word for machines. No
//! error knows an HTTP status: the host maps codes to those.

use std::path::{Path, PathBuf};

/// What the functions of this crate return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of the backbone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to read or write a file.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file's bytes break its own format.
    #[error("{path}: {place}: {problem}")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it: a header field, a tensor's name, a byte offset.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A well-formed file asks for something this build does not do.
    #[error("{path}: {what}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it asks for and what to do.
        what: String,
    },
    /// An adapter whose contents cannot be served (bad ranks, left-over tensors, non-finite values, refused fields).
    #[error("adapter {adapter}: {place}: {problem}")]
    InvalidAdapter {
        /// The adapter's folder or file.
        adapter: PathBuf,
        /// The field or tensor.
        place: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// An adapter made for another base model.
    #[error("adapter {adapter} does not fit this backbone: {place}: {problem}")]
    IncompatibleBase {
        /// The adapter's folder or file.
        adapter: PathBuf,
        /// The tensor or field that differs.
        place: String,
        /// Both sides of the difference.
        problem: String,
    },
    /// A file of a kind that is never opened (pickle, zip, symbolic link, device, …).
    #[error("{path}: {problem}")]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// Why it is refused and what to give instead.
        problem: String,
    },
    /// Something exceeds a limit that is there on purpose.
    #[error("{what}: {size} exceeds the limit of {limit}")]
    TooLarge {
        /// What is too large, with the place.
        what: String,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A mapped file is no longer the file that was mapped: the backbone is fenced.
    #[error(
        "{path} changed after it was mapped ({what}): the backbone is fenced; restore the file and load it again"
    )]
    Changed {
        /// The file.
        path: PathBuf,
        /// Which part of its identity changed.
        what: String,
    },
    /// Nothing of that name.
    #[error("{what} not found: {hint}")]
    NotFound {
        /// What was looked for.
        what: String,
        /// Where it was looked for, or what to do.
        hint: String,
    },
    /// A digest differs from the one that was promised.
    #[error("{what}: sha256 is {found}, expected {expected}")]
    Digest {
        /// The file or address.
        what: String,
        /// The digest that was promised, lower-case hex.
        expected: String,
        /// The digest of what came, lower-case hex.
        found: String,
    },
    /// A download failed.
    #[error("{address}: {problem}")]
    Network {
        /// The address, without credentials.
        address: String,
        /// What went wrong.
        problem: String,
    },
    /// The user stopped the work.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// A chat template failed to parse or render, or ran past its limits.
    #[error("chat template: {0}")]
    Template(String),
    /// Text could not be turned into tokens or back.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A request's own parameters are out of range.
    #[error("{field}: {problem}")]
    BadRequest {
        /// The parameter.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Memory that was budgeted is used up.
    #[error("no room for {what}: needs {needed} bytes, {free} free")]
    NoRoom {
        /// What wanted room.
        what: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Numbers that are not numbers came out of the model.
    #[error("non-finite values in {0}")]
    NonFinite(String),
    /// A hook ended its sequence.
    #[error("{code}: {message}")]
    Hook {
        /// The hook's own word for why.
        code: String,
        /// For people.
        message: String,
    },
    /// candle refused.
    #[error("candle: {0}")]
    Candle(#[from] candle_core::Error),
}

impl Error {
    /// A stable word for the kind of failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Corrupt { .. } => "corrupt_file",
            Self::Unsupported { .. } => "unsupported",
            Self::InvalidAdapter { .. } => "invalid_adapter",
            Self::IncompatibleBase { .. } => "incompatible_base",
            Self::Forbidden { .. } => "forbidden_file",
            Self::TooLarge { .. } => "too_large",
            Self::Changed { .. } => "file_changed",
            Self::NotFound { .. } => "not_found",
            Self::Digest { .. } => "digest_mismatch",
            Self::Network { .. } => "network",
            Self::Interrupted(_) => "interrupted",
            Self::Template(_) => "bad_template",
            Self::Tokenizer(_) => "bad_tokenizer",
            Self::BadRequest { .. } => "bad_request",
            Self::NoRoom { .. } => "no_room",
            Self::NonFinite(_) => "non_finite",
            Self::Hook { .. } => "hook",
            Self::Candle(_) => "candle",
        }
    }

    /// Wraps an error of the system with its path: `fs::read(path).map_err(Error::io(path))`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// A file whose bytes break its format.
    pub fn corrupt(path: &Path, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), place: place.into(), problem: problem.into() }
    }

    /// An adapter that cannot be served.
    pub fn adapter(path: &Path, place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::InvalidAdapter { adapter: path.to_owned(), place: place.into(), problem: problem.into() }
    }
}
