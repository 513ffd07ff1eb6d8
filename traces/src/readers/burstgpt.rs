//! BurstGPT 1 to 3: `Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type`, file 3 with
//! `Session ID,Elapsed time` too. Seconds since the trace's start.
//!
//! The model (ChatGPT, GPT-4) is the function. A row with 0 response tokens is a failed request: kept when the
//! options say so, otherwise refused with that reason, so it is counted and never lost in silence.

use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::{id_of, parse_seconds, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

const KNOWN: [&str; 8] = [
    "Timestamp",
    "Session ID",
    "Elapsed time",
    "Model",
    "Request tokens",
    "Response tokens",
    "Total tokens",
    "Log Type",
];

struct BurstGpt {
    header: Header,
    columns: [usize; 4],
    session: Option<usize>,
    splitter: Splitter,
    names: Names,
    base_model: String,
    keep_failures: bool,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = [need("Timestamp")?, need("Model")?, need("Request tokens")?, need("Response tokens")?];
    let warning = header.unknown(&KNOWN);
    let kept = if options.keep_failures { "kept as records" } else { "refused" };
    let parser = BurstGpt {
        session: header.find("Session ID"),
        header,
        columns,
        splitter: Splitter::default(),
        names: Names::default(),
        base_model: options.base_model.clone(),
        keep_failures: options.keep_failures,
    };
    let note = format!("failed requests (0 response tokens) {kept}");
    Ok(Box::new(Rows::new(lines, parser, super::order(options)).warn(warning).note([note])))
}

impl Parser for BurstGpt {
    const TIME: &'static str = "Timestamp";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [time, model, prompt, output] = self.columns.map(|i| row.get(i));
        let record = Record {
            arrival_ns: parse_seconds(time).column("Timestamp")?,
            prompt_tokens: parse_u32(prompt).column("Request tokens")?,
            output_tokens: parse_u32(output).column("Response tokens")?,
            function: self.names.function([model, b"", self.base_model.as_bytes(), b""], catalog)?,
            session: self.session.map_or(0, |i| id_of(row.get(i))),
            ..Record::default()
        };
        if record.output_tokens == 0 && !self.keep_failures {
            return Err(Fault::at(
                "Response tokens",
                "is 0: a failed request, left out unless failures are kept",
            ));
        }
        Ok(record)
    }
}
