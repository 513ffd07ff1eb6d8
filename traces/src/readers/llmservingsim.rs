//! LLMServingSim request files, JSONL: `input_toks`, `output_toks`, `arrival_time_ns`.
//!
//! Token ids, if the file has them, are left out.

use super::json::{self, Text};
use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use crate::fields::parse_u64;
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

#[derive(serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    arrival_time_ns: Text<'a>,
    #[serde(borrow)]
    input_toks: Text<'a>,
    #[serde(borrow)]
    output_toks: Text<'a>,
}

struct LlmServingSim {
    names: Names,
    function: String,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let parser = LlmServingSim {
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options))))
}

impl Parser for LlmServingSim {
    const TIME: &'static str = "arrival_time_ns";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let fields: Fields = json::object(line)?;
        let identity = [self.function.as_bytes(), b"", self.base_model.as_bytes(), b""];
        let arrival = json::need(fields.arrival_time_ns, "arrival_time_ns")?;
        Ok(Record {
            arrival_ns: parse_u64(arrival).column("arrival_time_ns")?,
            prompt_tokens: json::tokens(fields.input_toks, "input_toks")?,
            output_tokens: json::tokens(fields.output_toks, "output_toks")?,
            function: self.names.function(identity, catalog)?,
            ..Record::default()
        })
    }
}
