//! Azure LLM inference traces of 2023 and 2024: `TIMESTAMP,ContextTokens,GeneratedTokens`.
//!
//! Times have seven, six or no decimals, with or without `+00:00`; the first request arrives at 0. There is no
//! function id: all requests belong to one function until a mapping spreads them.

use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::{Clock, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

struct AzureLlm {
    header: Header,
    columns: [usize; 3],
    splitter: Splitter,
    clock: Clock,
    names: Names,
    function: String,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = [need("TIMESTAMP")?, need("ContextTokens")?, need("GeneratedTokens")?];
    let warning = header.unknown(&["TIMESTAMP", "ContextTokens", "GeneratedTokens"]);
    let parser = AzureLlm {
        header,
        columns,
        splitter: Splitter::default(),
        clock: Clock::default(),
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options)).warn(warning)))
}

impl Parser for AzureLlm {
    const TIME: &'static str = "TIMESTAMP";

    #[inline]
    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [time, prompt, output] = self.columns.map(|i| row.get(i));
        let identity = [self.function.as_bytes(), b"", self.base_model.as_bytes(), b""];
        Ok(Record {
            arrival_ns: self.clock.parse(time).column("TIMESTAMP")?,
            prompt_tokens: parse_u32(prompt).column("ContextTokens")?,
            output_tokens: parse_u32(output).column("GeneratedTokens")?,
            function: self.names.function(identity, catalog)?,
            ..Record::default()
        })
    }

    fn rebase(&self) -> bool {
        true
    }
}
