//! The record every reader yields, the table of functions it refers to, and what a reader says of a bad row.
//!
//! A record is small and `Copy`-cheap on the hot path: names live once in the [`Catalog`], and prefix blocks are
//! boxed only where a trace has them.

use std::path::PathBuf;

/// One request. Times are nanoseconds since the start of the trace.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Record {
    /// Arrival, ns since the trace's start.
    pub arrival_ns: u64,
    /// Index into the stream's [`Catalog`].
    pub function: u32,
    /// Prompt length, tokens.
    pub prompt_tokens: u32,
    /// Output length, tokens. 0 with `duration_ns > 0` marks an invocation without tokens.
    pub output_tokens: u32,
    /// Execution time of an invocation without tokens, ns; 0 where the trace has tokens.
    pub duration_ns: u64,
    /// Index into [`Catalog::slo_classes`]; 0 is "none stated".
    pub slo_class: u32,
    /// Conversation the request belongs to; 0 is none.
    pub session: u64,
    /// Turn within the session, from 0.
    pub turn: u32,
    /// Prefix-block ids, leading blocks first; equal leading ids mean a shared prefix.
    pub prefix: Option<Box<[u64]>>,
}

/// What a function is: the identity a record's `function` index stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct FunctionInfo {
    /// Name, unique in the catalog together with the other fields.
    pub name: String,
    /// Adapter the function uses; empty means the backbone itself.
    pub adapter: String,
    /// Backbone; empty where the trace has none (the replay's mapping supplies it).
    pub base_model: String,
    /// Owner; empty where the trace has none.
    pub tenant: String,
}

/// Names seen so far. It grows while a stream is read; an index once given never changes.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    functions: Vec<FunctionInfo>,
    index: std::collections::HashMap<FunctionInfo, u32>,
    /// Service classes by index; entry 0 is the empty class.
    pub slo_classes: Vec<String>,
}

impl Catalog {
    /// An empty catalog with the "none stated" service class.
    pub fn new() -> Self {
        Self { slo_classes: vec![String::new()], ..Self::default() }
    }

    /// The index of `info`, giving it the next one when it is new.
    pub fn intern(&mut self, info: FunctionInfo) -> u32 {
        if let Some(&found) = self.index.get(&info) {
            return found;
        }
        let next = u32::try_from(self.functions.len()).expect("fewer than 2^32 functions");
        self.functions.push(info.clone());
        self.index.insert(info, next);
        next
    }

    /// All functions seen so far, by index.
    pub fn functions(&self) -> &[FunctionInfo] {
        &self.functions
    }
}

/// A row the reader would not turn into a record, with the place and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// File the row came from.
    pub file: PathBuf,
    /// Line, counted from 1, header included.
    pub line: u64,
    /// Column name; empty when the row as a whole is at fault.
    pub column: String,
    /// What is wrong and what was expected.
    pub reason: String,
}

/// What a stream yields for each row in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A good row (or one placed invocation of a counted row).
    Record(Record),
    /// A refused row: never dropped in silence.
    Refused(Refusal),
}

/// A stream of records in arrival order that never holds the trace.
pub trait TraceStream: Send {
    /// The next item; `None` at the end. An error ends the stream.
    fn next_item(&mut self) -> Result<Option<Item>, TraceError>;
    /// Names seen so far; complete once the stream has ended.
    fn catalog(&self) -> &Catalog;
    /// Input rows read so far (for counted traces, rows of the file, not invocations).
    fn rows_in(&self) -> u64;
    /// Share of the input consumed, 0..=1, for progress bars; `None` when unknown.
    fn progress(&self) -> Option<f64> {
        None
    }
    /// How the records came to be, one line each: source and its hash, laws, seeds, mappings.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
    /// What a user should know before trusting the records (columns left out, laws standing in for data).
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<T: TraceStream + ?Sized> TraceStream for Box<T> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        (**self).next_item()
    }
    fn catalog(&self) -> &Catalog {
        (**self).catalog()
    }
    fn rows_in(&self) -> u64 {
        (**self).rows_in()
    }
    fn progress(&self) -> Option<f64> {
        (**self).progress()
    }
    fn notes(&self) -> Vec<String> {
        (**self).notes()
    }
    fn warnings(&self) -> Vec<String> {
        (**self).warnings()
    }
}

/// Why a trace can't be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file could not be opened or read.
    #[error("{} cannot be read", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The content is not what the format asks for.
    #[error("{}:{line}: {reason}", file.display())]
    Format {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: u64,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A setting that makes no sense (unknown preset, bad window, …).
    #[error("{0}")]
    Setting(String),
}
