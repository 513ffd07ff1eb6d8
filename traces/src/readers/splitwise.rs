//! splitwise-sim request traces: `request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,
//! token_size`, times in seconds.
//!
//! The application is the function. Request ids and types are left out; a batch size other than 1 is refused, since a
//! record is one request.

use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::{parse_seconds, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

const KNOWN: [&str; 7] = [
    "request_id",
    "request_type",
    "application_id",
    "arrival_timestamp",
    "batch_size",
    "prompt_size",
    "token_size",
];

struct Splitwise {
    header: Header,
    columns: [usize; 3],
    application: Option<usize>,
    batch: Option<usize>,
    splitter: Splitter,
    names: Names,
    function: String,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = [need("arrival_timestamp")?, need("prompt_size")?, need("token_size")?];
    let warning = header.unknown(&KNOWN);
    let parser = Splitwise {
        application: header.find("application_id"),
        batch: header.find("batch_size"),
        header,
        columns,
        splitter: Splitter::default(),
        names: Names::default(),
        function: options.function.clone(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options)).warn(warning)))
}

impl Parser for Splitwise {
    const TIME: &'static str = "arrival_timestamp";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [time, prompt, output] = self.columns.map(|i| row.get(i));
        if let Some(i) = self.batch
            && parse_u32(row.get(i)).column("batch_size")? != 1
        {
            return Err(Fault::at("batch_size", "is not 1; give each request of the batch its own row"));
        }
        let name = self.application.map_or(self.function.as_bytes(), |i| row.get(i));
        Ok(Record {
            arrival_ns: parse_seconds(time).column("arrival_timestamp")?,
            prompt_tokens: parse_u32(prompt).column("prompt_size")?,
            output_tokens: parse_u32(output).column("token_size")?,
            function: self.names.function([name, b"", self.base_model.as_bytes(), b""], catalog)?,
            ..Record::default()
        })
    }
}
