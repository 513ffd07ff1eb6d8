//! A count matrix with functions and lengths as a stream.
//!
//! The presets cut windows out of minute-count files and give them identities; this puts the pieces together.

use super::synthetic::TokenSource;
use crate::placement::{Counts, Placement, Placer};
use crate::record::{Catalog, FunctionInfo, Item, Record, TraceError, TraceStream};
use crate::rng::Stream;

/// The placed stream.
pub(crate) struct Placed {
    placer: Placer,
    catalog: Catalog,
    functions: Vec<u32>,
    tokens: TokenSource,
    rng: Stream,
    rows: u64,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Placed {
    /// Row i of `counts` belongs to `functions[i]`; arrivals are uniform in their minute.
    pub(crate) fn new(
        counts: Counts,
        functions: Vec<FunctionInfo>,
        tokens: TokenSource,
        seed: u64,
        notes: Vec<String>,
        warnings: Vec<String>,
    ) -> Result<Self, TraceError> {
        let mut catalog = Catalog::new();
        let rows = functions.len() as u64;
        let functions = functions.into_iter().map(|info| catalog.intern(info)).collect();
        let placer = Placer::new(counts, Placement::Uniform, Stream::new(seed, "placed-minutes"))?;
        Ok(Self {
            placer,
            catalog,
            functions,
            tokens,
            rng: Stream::new(seed, "placed-lengths"),
            rows,
            notes,
            warnings,
        })
    }
}

impl TraceStream for Placed {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        let Some((arrival_ns, row)) = self.placer.next_arrival() else { return Ok(None) };
        let (prompt_tokens, output_tokens) = self.tokens.draw(&mut self.rng);
        let function = self.functions[row as usize];
        Ok(Some(Item::Record(Record {
            arrival_ns,
            function,
            prompt_tokens,
            output_tokens,
            ..Record::default()
        })))
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.rows
    }

    fn progress(&self) -> Option<f64> {
        Some(self.placer.progress())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
