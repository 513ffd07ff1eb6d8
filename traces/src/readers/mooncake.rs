//! Mooncake FAST'25 traces, JSONL: `timestamp` (ms), `input_length`, `output_length`, `hash_ids` (512-token blocks).
//!
//! Times of the conversation trace come in steps of 3 s; `transform::Spread` spreads each step. There is no function
//! id.

use super::json::{self, Text};
use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use crate::fields::parse_decimal;
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

#[derive(serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    timestamp: Text<'a>,
    #[serde(borrow)]
    input_length: Text<'a>,
    #[serde(borrow)]
    output_length: Text<'a>,
    #[serde(borrow)]
    hash_ids: Text<'a>,
}

struct Mooncake {
    names: Names,
    function: String,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let parser = Mooncake {
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options))))
}

impl Parser for Mooncake {
    const TIME: &'static str = "timestamp";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let fields: Fields = json::object(line)?;
        let identity = [self.function.as_bytes(), b"", self.base_model.as_bytes(), b""];
        Ok(Record {
            // Scale 6 turns milliseconds into nanoseconds.
            arrival_ns: parse_decimal(json::need(fields.timestamp, "timestamp")?, 6).column("timestamp")?,
            prompt_tokens: json::tokens(fields.input_length, "input_length")?,
            output_tokens: json::tokens(fields.output_length, "output_length")?,
            prefix: json::blocks(fields.hash_ids, "hash_ids")?,
            function: self.names.function(identity, catalog)?,
            ..Record::default()
        })
    }
}
