//! What a loader accepts, and the list of what it found in the way.

use crate::error::Error;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What to do about an adapter whose configuration names another base model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OtherBase {
    /// Load it with a warning: names differ between hubs, folders and GGUF files of one model.
    #[default]
    Warn,
    /// Refuse it.
    Refuse,
}

/// Bounds and settings of a load. The defaults are those of the documentation.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Bytes of the tensor file.
    pub file_bytes_max: u64,
    /// Bytes of memory of one adapter.
    pub memory_bytes_max: u64,
    /// Rank of any module.
    pub rank_max: usize,
    /// Absolute value of any weight. The default is the largest f16: no sensible adapter comes near.
    pub value_max: f32,
    /// Absolute value of alpha; arbitrary, far past any in use.
    pub alpha_max: f64,
    /// Names or patterns in any one field of the configuration; arbitrary.
    pub patterns_max: usize,
    /// Bytes of a chat template.
    pub template_bytes_max: usize,
    /// Whether an adapter that changes nothing may load.
    pub allow_zero: bool,
    /// What to do about another base model's name.
    pub other_base: OtherBase,
    /// Names of the base beside the one in its files, compared by their last path component, case and punctuation aside.
    pub base_names: Vec<String>,
    /// The folder that adapters must lie in, links resolved; `None` allows any.
    pub root: Option<PathBuf>,
    /// Threads for DoRA's norms; 0 for as many as the machine runs at once.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes_max: 512 << 20,
            memory_bytes_max: 1 << 30,
            rank_max: 256,
            value_max: 65504.0,
            alpha_max: 1e6,
            patterns_max: 1024,
            template_bytes_max: 256 << 10,
            allow_zero: false,
            other_base: OtherBase::Warn,
            base_names: Vec::new(),
            root: None,
            threads: 0,
        }
    }
}

/// One thing that stands in the way of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// [`Error::code`].
    pub code: &'static str,
    /// The file, field or tensor.
    pub place: String,
    /// What is wrong and what to do.
    pub problem: String,
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let (place, problem) = match error {
            Error::InvalidAdapter { place, problem, .. }
            | Error::IncompatibleBase { place, problem, .. }
            | Error::Corrupt { place, problem, .. } => (place.clone(), problem.clone()),
            Error::Forbidden { path, problem } => (file_name(path), problem.clone()),
            Error::Unsupported { path, what } => (file_name(path), what.clone()),
            Error::Io { path, source } => (file_name(path), source.to_string()),
            Error::TooLarge { what, size, limit } => {
                (what.clone(), format!("{size} exceeds the limit of {limit}"))
            }
            other => (String::new(), other.to_string()),
        };
        Self { code: error.code(), place, problem }
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Problems kept of one adapter; the rest of a file that is wrong all over tells nothing more.
const PROBLEMS_MAX: usize = 50;

/// What a loader found, so that a dry run can tell everything at once and a load can fail with the first.
#[derive(Debug)]
pub(crate) struct Findings {
    path: PathBuf,
    errors: Vec<Error>,
    warnings: Vec<String>,
}

impl Findings {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), errors: Vec::new(), warnings: Vec::new() }
    }

    /// The adapter.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn push(&mut self, error: Error) {
        if self.errors.len() < PROBLEMS_MAX {
            self.errors.push(error);
        }
    }

    pub fn invalid(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        self.push(Error::adapter(&self.path, place, problem));
    }

    pub fn incompatible(&mut self, place: impl Into<String>, problem: impl Into<String>) {
        let error = Error::IncompatibleBase {
            adapter: self.path.clone(),
            place: place.into(),
            problem: problem.into(),
        };
        self.push(error);
    }

    pub fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// Whether nothing stands in the way.
    pub fn clean(&self) -> bool {
        self.errors.is_empty()
    }

    pub fn into_parts(self) -> (Vec<Error>, Vec<String>) {
        (self.errors, self.warnings)
    }
}
