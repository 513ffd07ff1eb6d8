//! Gives a trace functions of its own: a seeded Zipf law over N adapters, optionally sticky.
//!
//! This is how a trace without function ids (Azure LLM) becomes a trace of many LoRA functions. Arrivals and lengths
//! stay as they are.

use super::forward;
use crate::record::{Catalog, FunctionInfo, Item, Record, TraceError, TraceStream};
use crate::rng::{Stream, Weighted};

/// How functions are assigned. Function i (from 0, the most popular) is `fn-i` with adapter `lora-i`.
#[derive(Clone, Debug, PartialEq)]
pub struct MapSpec {
    /// Number of functions, at least 1.
    pub functions: u32,
    /// Zipf exponent of their popularity; 0 is uniform.
    pub zipf_s: f64,
    /// Probability that a request repeats the function before it, 0..=1.
    pub stickiness: f64,
    /// Backbones, dealt to functions in turn: function i runs on `base_models[i % len]`.
    pub base_models: Vec<String>,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for MapSpec {
    fn default() -> Self {
        Self { functions: 100, zipf_s: 1.0, stickiness: 0.0, base_models: vec!["llama-2-7b".into()], seed: 1 }
    }
}

impl MapSpec {
    /// The line that records this mapping.
    pub fn note(&self) -> String {
        format!(
            "functions mapped: {} adapters, Zipf s={}, stickiness {}, base models {}, seed {}",
            self.functions,
            self.zipf_s,
            self.stickiness,
            self.base_models.join("+"),
            self.seed
        )
    }

    /// Function `i`'s identity.
    pub fn function(&self, i: u32) -> FunctionInfo {
        FunctionInfo {
            name: format!("fn-{i:04}"),
            adapter: format!("lora-{i:04}"),
            base_model: self.base_models[i as usize % self.base_models.len()].clone(),
            tenant: format!("tenant-{i:04}"),
        }
    }
}

/// Draws function indexes by a [`MapSpec`].
pub(crate) struct Draw {
    law: Weighted,
    stickiness: f64,
    rng: Stream,
    last: Option<u32>,
}

impl Draw {
    pub(crate) fn new(spec: &MapSpec) -> Result<Self, TraceError> {
        let setting = |text: String| TraceError::Setting(text);
        if spec.base_models.is_empty() {
            return Err(setting("a mapping needs at least one base model".into()));
        }
        if !(0.0..=1.0).contains(&spec.stickiness) {
            return Err(setting(format!("stickiness {} is not a probability", spec.stickiness)));
        }
        // 2^24 functions: the law's tables take 200 MB there. Arbitrary.
        let sane = (1..=1 << 24).contains(&spec.functions) && (0.0..=20.0).contains(&spec.zipf_s);
        let law = if sane { Weighted::zipf(spec.functions, spec.zipf_s) } else { None };
        let law = law.ok_or_else(|| {
            setting(format!(
                "no Zipf law over {} functions with s={}; use 1 to 16777216 functions and s from 0 to 20",
                spec.functions, spec.zipf_s
            ))
        })?;
        Ok(Self {
            law,
            stickiness: spec.stickiness,
            rng: Stream::new(spec.seed, "map-functions"),
            last: None,
        })
    }

    pub(crate) fn next(&mut self) -> u32 {
        let sticky = self.stickiness > 0.0 && self.rng.chance(self.stickiness);
        let drawn = self.last.filter(|_| sticky).unwrap_or_else(|| self.law.draw(&mut self.rng));
        self.last = Some(drawn);
        drawn
    }
}

/// The mapped stream.
pub struct Map<S> {
    inner: S,
    draw: Draw,
    catalog: Catalog,
    spec: MapSpec,
}

impl<S: TraceStream> Map<S> {
    /// Maps `inner` by `spec`. All functions are in the catalog from the start, function i at index i.
    pub fn new(inner: S, spec: MapSpec) -> Result<Self, TraceError> {
        let draw = Draw::new(&spec)?;
        let mut catalog = Catalog::new();
        for i in 0..spec.functions {
            catalog.intern(spec.function(i));
        }
        Ok(Self { inner, draw, catalog, spec })
    }
}

impl<S: TraceStream> TraceStream for Map<S> {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        let item = self.inner.next_item()?;
        Ok(item.map(|item| match item {
            Item::Record(record) => {
                if self.inner.catalog().slo_classes.len() != self.catalog.slo_classes.len() {
                    self.catalog.slo_classes = self.inner.catalog().slo_classes.clone();
                }
                Item::Record(Record { function: self.draw.next(), ..record })
            }
            refused => refused,
        }))
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.inner.notes();
        notes.push(self.spec.note());
        notes
    }

    forward!(inner);
}
