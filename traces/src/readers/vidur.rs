//! Vidur request traces: `arrived_at` (s), `num_prefill_tokens`, `num_decode_tokens`.
//!
//! There is no function id. Vidur's files of lengths alone are the format `lengths`.

use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::{parse_seconds, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

const KNOWN: [&str; 6] =
    ["arrived_at", "num_prefill_tokens", "num_decode_tokens", "num_total_tokens", "pd_ratio", ""];

struct Vidur {
    header: Header,
    columns: [usize; 3],
    splitter: Splitter,
    names: Names,
    function: String,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = [need("arrived_at")?, need("num_prefill_tokens")?, need("num_decode_tokens")?];
    let warning = header.unknown(&KNOWN);
    let parser = Vidur {
        header,
        columns,
        splitter: Splitter::default(),
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options)).warn(warning)))
}

impl Parser for Vidur {
    const TIME: &'static str = "arrived_at";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [time, prompt, output] = self.columns.map(|i| row.get(i));
        let identity = [self.function.as_bytes(), b"", self.base_model.as_bytes(), b""];
        Ok(Record {
            arrival_ns: parse_seconds(time).column("arrived_at")?,
            prompt_tokens: parse_u32(prompt).column("num_prefill_tokens")?,
            output_tokens: parse_u32(output).column("num_decode_tokens")?,
            function: self.names.function(identity, catalog)?,
            ..Record::default()
        })
    }
}
