//! One row a request, written as it ends: CSV and Parquet with the same columns in the same order.
//!
//! Memory does not grow with the trace: CSV holds nothing back, Parquet holds one row group. Names are looked up once
//! and kept, so rows carry small numbers. It leaves out totals: those are in the report.

mod csv;
mod parquet;

pub use csv::{CsvSink, quote};
pub use parquet::ParquetSink;

use std::io;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its last token came.
    Completed,
    /// The policy turned it away.
    Refused,
    /// It gave up waiting.
    TimedOut,
}

impl Outcome {
    /// The text in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Refused => "refused",
            Outcome::TimedOut => "timed_out",
        }
    }
}

impl Default for RequestRow {
    fn default() -> Self {
        Self {
            id: 0,
            function: 0,
            adapter: 0,
            base_model: 0,
            gpu: 0,
            arrival_ns: 0,
            first_scheduled_ns: 0,
            cold_kind: "warm",
            queue_ns: 0,
            container_ns: 0,
            runtime_ns: 0,
            backbone_ns: 0,
            adapter_ns: 0,
            kernel_ns: 0,
            prefill_ns: 0,
            ttft_ns: 0,
            tpot_ns: 0,
            worst_gap_ns: 0,
            e2e_ns: 0,
            prompt_tokens: 0,
            output_tokens: 0,
            preemptions: 0,
            slo_ttft: false,
            slo_tpot: false,
            outcome: Outcome::Completed,
            policy: 0,
            seed: 0,
            compute_ns: 0,
        }
    }
}

/// One request. Times are nanoseconds; those a request never reached are 0, and `outcome` tells which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestRow {
    /// Number of the request in the trace.
    pub id: u64,
    /// Function, a number for the lookup.
    pub function: u32,
    /// Adapter, a number for the lookup.
    pub adapter: u32,
    /// Base model, a number for the lookup.
    pub base_model: u32,
    /// GPU that served it.
    pub gpu: u32,
    /// Arrival, nanoseconds from the run's start.
    pub arrival_ns: u64,
    /// First time it was in a batch.
    pub first_scheduled_ns: u64,
    /// Deepest stage it waited for: `warm`, `kernel`, `adapter`, `model`, `runtime` or `container`.
    pub cold_kind: &'static str,
    /// Waiting that no other stage explains.
    pub queue_ns: u64,
    /// Container start.
    pub container_ns: u64,
    /// Libraries and process start.
    pub runtime_ns: u64,
    /// Base weights.
    pub backbone_ns: u64,
    /// Adapter weights.
    pub adapter_ns: u64,
    /// Kernel warm-up.
    pub kernel_ns: u64,
    /// Prompt processing.
    pub prefill_ns: u64,
    /// Arrival to first token.
    pub ttft_ns: u64,
    /// Mean time per token after the first.
    pub tpot_ns: u64,
    /// Longest time between two tokens.
    pub worst_gap_ns: u64,
    /// Arrival to last token.
    pub e2e_ns: u64,
    /// Tokens in.
    pub prompt_tokens: u32,
    /// Tokens out.
    pub output_tokens: u32,
    /// Times it was put aside while running.
    pub preemptions: u32,
    /// TTFT within its limit.
    pub slo_ttft: bool,
    /// TPOT within its limit.
    pub slo_tpot: bool,
    /// How it ended.
    pub outcome: Outcome,
    /// Policy, a number for the lookup.
    pub policy: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Solo compute time of its tokens: its share of the bill is this over the sum.
    pub compute_ns: u64,
}

/// Where rows go.
pub trait RowSink {
    /// Writes one row.
    fn row(&mut self, row: &RequestRow) -> io::Result<()>;
    /// Writes what is held back and ends the file; without it the file is not complete.
    fn finish(self: Box<Self>) -> io::Result<()>;
}

/// What a number in a row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// [`RequestRow::function`].
    Function,
    /// [`RequestRow::adapter`].
    Adapter,
    /// [`RequestRow::base_model`].
    BaseModel,
    /// [`RequestRow::policy`].
    Policy,
}

/// Gives the name of a number, once per number; `None` shows as `#number`.
pub type Lookup = Box<dyn Fn(NameKind, u32) -> Option<String> + Send>;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole64,
    Whole32,
    Flag,
    Text,
    Name(NameKind),
}

/// A cell of a row.
#[derive(Clone, Copy)]
enum Value {
    Whole64(u64),
    Whole32(u32),
    Flag(bool),
    Text(&'static str),
}

const COLUMN_COUNT: usize = 28;

/// Names and types of the columns.
const COLUMNS: [(&str, Kind); COLUMN_COUNT] = [
    ("policy", Kind::Name(NameKind::Policy)),
    ("seed", Kind::Whole64),
    ("id", Kind::Whole64),
    ("function", Kind::Name(NameKind::Function)),
    ("adapter", Kind::Name(NameKind::Adapter)),
    ("base_model", Kind::Name(NameKind::BaseModel)),
    ("gpu", Kind::Whole32),
    ("outcome", Kind::Text),
    ("cold_kind", Kind::Text),
    ("arrival_ns", Kind::Whole64),
    ("first_scheduled_ns", Kind::Whole64),
    ("queue_ns", Kind::Whole64),
    ("container_ns", Kind::Whole64),
    ("runtime_ns", Kind::Whole64),
    ("backbone_ns", Kind::Whole64),
    ("adapter_ns", Kind::Whole64),
    ("kernel_ns", Kind::Whole64),
    ("prefill_ns", Kind::Whole64),
    ("ttft_ns", Kind::Whole64),
    ("tpot_ns", Kind::Whole64),
    ("worst_gap_ns", Kind::Whole64),
    ("e2e_ns", Kind::Whole64),
    ("prompt_tokens", Kind::Whole32),
    ("output_tokens", Kind::Whole32),
    ("preemptions", Kind::Whole32),
    ("slo_ttft", Kind::Flag),
    ("slo_tpot", Kind::Flag),
    ("compute_ns", Kind::Whole64),
];

/// The row's cells in the order of [`COLUMNS`].
fn values(row: &RequestRow) -> [Value; COLUMN_COUNT] {
    use Value::{Flag, Text, Whole32, Whole64};
    [
        Whole32(row.policy),
        Whole64(row.seed),
        Whole64(row.id),
        Whole32(row.function),
        Whole32(row.adapter),
        Whole32(row.base_model),
        Whole32(row.gpu),
        Text(row.outcome.as_str()),
        Text(row.cold_kind),
        Whole64(row.arrival_ns),
        Whole64(row.first_scheduled_ns),
        Whole64(row.queue_ns),
        Whole64(row.container_ns),
        Whole64(row.runtime_ns),
        Whole64(row.backbone_ns),
        Whole64(row.adapter_ns),
        Whole64(row.kernel_ns),
        Whole64(row.prefill_ns),
        Whole64(row.ttft_ns),
        Whole64(row.tpot_ns),
        Whole64(row.worst_gap_ns),
        Whole64(row.e2e_ns),
        Whole32(row.prompt_tokens),
        Whole32(row.output_tokens),
        Whole32(row.preemptions),
        Flag(row.slo_ttft),
        Flag(row.slo_tpot),
        Whole64(row.compute_ns),
    ]
}

/// Names already looked up, in the form `T` that a sink writes.
struct Names<T> {
    lookup: Lookup,
    shape: fn(String) -> T,
    known: [Vec<Option<T>>; 4],
}

impl<T: Clone> Names<T> {
    fn new(lookup: Lookup, shape: fn(String) -> T) -> Self {
        Names { lookup, shape, known: Default::default() }
    }

    fn get(&mut self, kind: NameKind, number: u32) -> &T {
        let known = &mut self.known[kind as usize];
        let at = number as usize;
        if known.len() <= at {
            known.resize(at + 1, None);
        }
        known[at].get_or_insert_with(|| {
            (self.shape)((self.lookup)(kind, number).unwrap_or_else(|| format!("#{number}")))
        })
    }
}

#[cfg(test)]
mod tests;
