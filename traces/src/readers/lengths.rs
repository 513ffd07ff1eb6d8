//! Files of token lengths alone: `num_prefill_tokens,num_decode_tokens` (Vidur, Sarathi) or
//! `question_tokens,answer_tokens` (GSM8K).
//!
//! They have no times, so arrivals are drawn: Poisson, seeded, at the rate of the options. Mostly they are lengths to
//! compose with another trace's arrivals.

use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::parse_u32;
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};
use crate::rng::Stream;

const KNOWN: [&str; 9] = [
    "num_prefill_tokens",
    "num_decode_tokens",
    "num_total_tokens",
    "pd_ratio",
    "split",
    "idx",
    "question_tokens",
    "answer_tokens",
    "answer_tokens_no_calc",
];

/// Poisson arrivals for rows without times.
pub(crate) struct Poisson {
    rng: Stream,
    mean_gap_ns: f64,
    next_ns: u64,
}

impl Poisson {
    /// Arrivals of `rate_rps` requests per second.
    pub fn new(options: &OpenOptions) -> Self {
        let rng = Stream::new(options.seed, "poisson-arrivals");
        Self { rng, mean_gap_ns: 1e9 / options.rate_rps, next_ns: 0 }
    }

    /// How the arrivals came to be.
    pub fn note(options: &OpenOptions) -> String {
        format!(
            "the source has no times: Poisson arrivals of {} requests/s, seed {}",
            options.rate_rps, options.seed
        )
    }

    /// The next arrival, ns.
    pub fn next_ns(&mut self) -> u64 {
        let gap = self.rng.exponential() * self.mean_gap_ns;
        self.next_ns = self.next_ns.saturating_add(gap as u64);
        self.next_ns
    }
}

struct Lengths {
    header: Header,
    columns: [usize; 2],
    splitter: Splitter,
    names: Names,
    function: String,
    base_model: String,
    arrivals: Poisson,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = match header.find("question_tokens") {
        Some(question) => [question, need("answer_tokens")?],
        None => [need("num_prefill_tokens")?, need("num_decode_tokens")?],
    };
    let warning = header.unknown(&KNOWN);
    let parser = Lengths {
        header,
        columns,
        splitter: Splitter::default(),
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
        arrivals: Poisson::new(options),
    };
    let rows = Rows::new(lines, parser, super::order(options));
    Ok(Box::new(rows.warn(warning).note([Poisson::note(options)])))
}

impl Parser for Lengths {
    const TIME: &'static str = "";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [prompt, output] = self.columns.map(|i| row.get(i));
        let identity = [self.function.as_bytes(), b"", self.base_model.as_bytes(), b""];
        let mut record = Record {
            prompt_tokens: parse_u32(prompt).column("prompt tokens")?,
            output_tokens: parse_u32(output).column("output tokens")?,
            function: self.names.function(identity, catalog)?,
            ..Record::default()
        };
        record.arrival_ns = self.arrivals.next_ns();
        Ok(record)
    }
}
