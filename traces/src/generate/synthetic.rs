//! Functions with an arrival law and a token law each, merged into one stream.
//!
//! It is what the presets and `trace generate` build on where there is no file to draw from.

use super::arrivals::{Arrivals, seconds_to_ns};
use super::envelope::Envelope;
use super::merge::{Merge, Source};
use super::tokens::TokenLaw;
use crate::record::{Catalog, FunctionInfo, Record};
use crate::rng::Stream;
use std::sync::Arc;

/// Where a function's token lengths come from.
#[derive(Clone)]
pub enum TokenSource {
    /// A law.
    Law(TokenLaw),
    /// Pairs drawn with replacement; not empty.
    Pool(Arc<[(u32, u32)]>),
}

impl TokenSource {
    /// One (prompt, output) pair, tokens.
    pub fn draw(&self, rng: &mut Stream) -> (u32, u32) {
        match self {
            Self::Law(law) => law.draw(rng),
            Self::Pool(pairs) => pairs[rng.below(pairs.len() as u64) as usize],
        }
    }
}

/// One function to generate.
pub struct SyntheticFunction {
    /// Its identity.
    pub info: FunctionInfo,
    /// Its running arrival process.
    pub arrivals: Arrivals,
    /// Its lengths.
    pub tokens: TokenSource,
}

struct Running {
    function: u32,
    arrivals: Arrivals,
    tokens: TokenSource,
    rng: Stream,
    envelope: Option<Arc<Envelope>>,
    end_ns: u64,
}

impl Source for Running {
    fn next_record(&mut self) -> Option<Record> {
        let even_s = self.arrivals.next_s();
        let arrival_ns = seconds_to_ns(self.envelope.as_ref().map_or(even_s, |e| e.real_s(even_s)));
        if arrival_ns >= self.end_ns {
            return None;
        }
        let (prompt_tokens, output_tokens) = self.tokens.draw(&mut self.rng);
        Some(Record {
            arrival_ns,
            function: self.function,
            prompt_tokens,
            output_tokens,
            ..Record::default()
        })
    }
}

/// Merges functions over `span_s` seconds; `seed` draws the lengths.
pub fn generate(
    functions: Vec<SyntheticFunction>,
    span_s: f64,
    envelope: Option<Envelope>,
    seed: u64,
    notes: Vec<String>,
    warnings: Vec<String>,
) -> impl crate::record::TraceStream {
    let envelope = envelope.map(Arc::new);
    let end_ns = seconds_to_ns(span_s);
    let mut catalog = Catalog::new();
    let start = |(i, f): (usize, SyntheticFunction)| Running {
        function: catalog.intern(f.info),
        arrivals: f.arrivals,
        tokens: f.tokens,
        rng: Stream::new(seed, &format!("synthetic-lengths-{i}")),
        envelope: envelope.clone(),
        end_ns,
    };
    let sources: Vec<_> = functions.into_iter().enumerate().map(start).collect();
    Merge::new(sources, catalog, end_ns).told(notes, warnings)
}
