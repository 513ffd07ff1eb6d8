//! Parts of a trace: a time window, some of the functions, a lower or higher rate.
//!
//! Choosing functions by rank or CoV class takes a pass of its own ([`choose`]); sampling is the second pass. Rows cut
//! away are neither records nor refused.

use super::forward;
use crate::info::functions::{CovClass, FunctionStats};
use crate::record::{Catalog, FunctionInfo, Item, Record, TraceError, TraceStream};
use crate::rng::Stream;
use std::collections::BTreeSet;

/// Which functions stay.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice {
    /// The k with the most requests (ties by name).
    Top(usize),
    /// k drawn without replacement, seeded.
    Random {
        /// How many.
        k: usize,
        /// Seed of the draw.
        seed: u64,
    },
    /// Those of one CoV class.
    Class(CovClass),
    /// Those of these names.
    Named(Vec<String>),
}

impl Choice {
    /// The line that records this choice.
    pub fn note(&self) -> String {
        match self {
            Self::Top(k) => format!("functions chosen: the {k} with the most requests"),
            Self::Random { k, seed } => format!("functions chosen: {k} by draw, seed {seed}"),
            Self::Class(class) => format!("functions chosen: class {}", class.name()),
            Self::Named(names) => format!("functions chosen: {}", names.join(", ")),
        }
    }
}

/// Reads a whole trace to choose functions; the result is an input of [`Sample`].
pub fn choose(
    stream: &mut dyn TraceStream,
    choice: &Choice,
) -> Result<BTreeSet<FunctionInfoKey>, TraceError> {
    let mut stats = FunctionStats::default();
    while let Some(item) = stream.next_item()? {
        if let Item::Record(record) = item {
            stats.add(&record);
        }
    }
    let functions = stream.catalog().functions();
    let mut ranked: Vec<(u64, FunctionInfoKey, u32)> = (0..functions.len() as u32)
        .map(|i| (stats.count(i), key_of(&functions[i as usize]), i))
        .filter(|(count, _, _)| *count > 0)
        .collect();
    ranked.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    match choice {
        Choice::Top(k) => ranked.truncate(*k),
        Choice::Random { k, seed } => {
            let mut rng = Stream::new(*seed, "sample-functions");
            // Fisher–Yates on the sorted list; only the first k places are needed.
            for i in 0..ranked.len().min(*k) {
                let j = i + rng.below((ranked.len() - i) as u64) as usize;
                ranked.swap(i, j);
            }
            ranked.truncate(*k);
        }
        Choice::Class(class) => ranked.retain(|(_, _, i)| stats.class(*i) == *class),
        Choice::Named(names) => ranked.retain(|(_, key, _)| names.contains(&key.0)),
    }
    Ok(ranked.into_iter().map(|(_, key, _)| key).collect())
}

/// Name, adapter, base model and tenant: a function's identity in order.
pub type FunctionInfoKey = (String, String, String, String);

fn key_of(info: &FunctionInfo) -> FunctionInfoKey {
    (info.name.clone(), info.adapter.clone(), info.base_model.clone(), info.tenant.clone())
}

/// What stays. The default keeps everything.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleSpec {
    /// First instant kept, ns; it becomes 0.
    pub from_ns: u64,
    /// First instant cut, ns.
    pub until_ns: u64,
    /// Keep each record with this probability (thinning; keeps the shape, lowers the CoV), 0..=1.
    pub keep: f64,
    /// Divide all times by this (time compression; scales the rate, keeps the CoV), above 0.
    pub compress: f64,
    /// Seed of the thinning.
    pub seed: u64,
}

impl Default for SampleSpec {
    fn default() -> Self {
        Self { from_ns: 0, until_ns: u64::MAX, keep: 1.0, compress: 1.0, seed: 1 }
    }
}

/// The sampled stream.
pub struct Sample<S> {
    inner: S,
    spec: SampleSpec,
    functions: Option<BTreeSet<FunctionInfoKey>>,
    /// By function index of the inner stream: our index, or `None` when cut.
    mapped: Vec<Option<u32>>,
    catalog: Catalog,
    rng: Stream,
    cut: u64,
}

impl<S: TraceStream> Sample<S> {
    /// Samples `inner`; `functions` of `None` keeps all.
    pub fn new(
        inner: S,
        spec: SampleSpec,
        functions: Option<BTreeSet<FunctionInfoKey>>,
    ) -> Result<Self, TraceError> {
        if !(0.0..=1.0).contains(&spec.keep) {
            return Err(TraceError::Setting(format!("a share of {} can't be kept; use 0 to 1", spec.keep)));
        }
        // Below a thousandth a trace of some months would leave the clock's 584 years.
        if !(spec.compress.is_finite() && spec.compress >= 0.001) {
            return Err(TraceError::Setting(format!(
                "time can't be divided by {}; use a number from 0.001",
                spec.compress
            )));
        }
        if spec.from_ns >= spec.until_ns {
            return Err(TraceError::Setting(
                "the time window is empty: its start is not before its end".into(),
            ));
        }
        let rng = Stream::new(spec.seed, "sample-thin");
        Ok(Self { inner, spec, functions, mapped: vec![], catalog: Catalog::new(), rng, cut: 0 })
    }

    /// Records cut away so far.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    fn mapped(&mut self, index: u32) -> Option<u32> {
        let theirs = self.inner.catalog().functions();
        while self.mapped.len() <= index as usize {
            let info = &theirs[self.mapped.len()];
            let stays = self.functions.as_ref().is_none_or(|set| set.contains(&key_of(info)));
            self.mapped.push(stays.then(|| self.catalog.intern(info.clone())));
        }
        self.mapped[index as usize]
    }

    fn keep(&mut self, record: &mut Record) -> bool {
        if record.arrival_ns < self.spec.from_ns {
            return false;
        }
        let Some(function) = self.mapped(record.function) else { return false };
        if self.spec.keep < 1.0 && !self.rng.chance(self.spec.keep) {
            return false;
        }
        record.function = function;
        record.arrival_ns -= self.spec.from_ns;
        if self.spec.compress != 1.0 {
            record.arrival_ns = (record.arrival_ns as f64 / self.spec.compress) as u64;
        }
        true
    }
}

impl<S: TraceStream> TraceStream for Sample<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            match self.inner.next_item()? {
                Some(Item::Record(mut record)) => {
                    if record.arrival_ns >= self.spec.until_ns {
                        // Records come in time order, so nothing after this one is wanted.
                        return Ok(None);
                    }
                    if self.keep(&mut record) {
                        if self.inner.catalog().slo_classes.len() != self.catalog.slo_classes.len() {
                            self.catalog.slo_classes = self.inner.catalog().slo_classes.clone();
                        }
                        return Ok(Some(Item::Record(record)));
                    }
                    self.cut += 1;
                }
                other => return Ok(other),
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn notes(&self) -> Vec<String> {
        let spec = &self.spec;
        let mut notes = self.inner.notes();
        if spec.from_ns > 0 || spec.until_ns < u64::MAX {
            let until = if spec.until_ns == u64::MAX {
                "the end".into()
            } else {
                format!("{} s", spec.until_ns as f64 / 1e9)
            };
            notes.push(format!("window from {} s to {until}", spec.from_ns as f64 / 1e9));
        }
        if let Some(functions) = &self.functions {
            notes.push(format!("{} functions kept", functions.len()));
        }
        if spec.keep < 1.0 {
            notes.push(format!(
                "rate scaled by thinning: each record kept with probability {}, seed {}",
                spec.keep, spec.seed
            ));
        }
        if spec.compress != 1.0 {
            notes.push(format!("rate scaled by time compression: times divided by {}", spec.compress));
        }
        notes
    }

    forward!(inner);
}
