//! GenTD26, LoRA adapters of an image service: `adapter_requests.csv` and the source it was flattened from,
//! `data_trace_processed.csv` (adapters, no times), and `lora_request_trace.csv` (times, no adapter ids).
//!
//! Rows of the first two keep the file's order, which carries the real locality; their arrivals are Poisson at the rate of
//! the options. Of several adapters the first counts (98 % of requests use at most one); scales are left out. These
//! are invocations without tokens: `duration_ns` is the execution time.

use super::lengths::Poisson;
use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::{Clock, parse_seconds};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

struct Adapters {
    header: Header,
    columns: [usize; 3],
    seconds: &'static str,
    first: fn(&[u8]) -> Result<&[u8], Fault>,
    splitter: Splitter,
    names: Names,
    name: Vec<u8>,
    arrivals: Poisson,
}

/// The first id of `A0000:0.8;A0014:1`; empty when there is none.
fn first_flat(cell: &[u8]) -> Result<&[u8], Fault> {
    Ok(cell.split(|b| *b == b';' || *b == b':').next().unwrap_or(b""))
}

/// The first id of `[{'modelVersionId': 'md5', 'scale': 0.8}, …]`; empty when there is none.
fn first_listed(cell: &[u8]) -> Result<&[u8], Fault> {
    const KEY: &[u8] = b"'modelVersionId': '";
    let cell = cell.trim_ascii();
    if cell.is_empty() || cell == b"[]" {
        return Ok(b"");
    }
    let id = memchr::memmem::find(cell, KEY).map(|at| &cell[at + KEY.len()..]);
    let id = id.and_then(|rest| memchr::memchr(b'\'', rest).map(|end| &rest[..end]));
    id.ok_or_else(|| Fault::at("lora_args", "is no list of {'modelVersionId': '…', 'scale': …}"))
}

/// Opens `adapter_requests.csv` or `data_trace_processed.csv`.
pub fn open_adapters(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let flat = header.find("lora_args").is_none();
    let names = if flat {
        ["base", "exec_s", "adapters"]
    } else {
        ["checkpoint_model_version_id", "exec_time_seconds", "lora_args"]
    };
    let columns = [need(names[0])?, need(names[1])?, need(names[2])?];
    let parser = Adapters {
        header,
        columns,
        seconds: names[1],
        first: if flat { first_flat } else { first_listed },
        splitter: Splitter::default(),
        names: Names::default(),
        name: vec![],
        arrivals: Poisson::new(options),
    };
    let rows = Rows::new(lines, parser, super::order(options));
    Ok(Box::new(rows.note([Poisson::note(options), "of several adapters the first counts".to_owned()])))
}

impl Parser for Adapters {
    const TIME: &'static str = "";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [base, seconds, adapters] = self.columns.map(|i| row.get(i));
        let first = (self.first)(adapters)?;
        self.name.clear();
        self.name.extend_from_slice(base);
        if !first.is_empty() {
            self.name.push(b'/');
            self.name.extend_from_slice(first);
        }
        let mut record = Record {
            duration_ns: parse_seconds(seconds).column(self.seconds)?,
            function: self.names.function([&self.name, first, base, b""], catalog)?,
            ..Record::default()
        };
        record.arrival_ns = self.arrivals.next_ns();
        Ok(record)
    }
}

struct Requests {
    header: Header,
    columns: [usize; 4],
    splitter: Splitter,
    clock: Clock,
    names: Names,
}

/// Opens `lora_request_trace.csv`; the user group is the function and the tenant.
pub fn open_requests(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = [
        need("gmt_create")?,
        need("exec_time_seconds")?,
        need("groupId")?,
        need("checkpoint_model_version_id")?,
    ];
    let parser = Requests {
        header,
        columns,
        splitter: Splitter::default(),
        clock: Clock::default(),
        names: Names::default(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options))))
}

impl Parser for Requests {
    const TIME: &'static str = "gmt_create";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [time, seconds, group, base] = self.columns.map(|i| row.get(i));
        Ok(Record {
            arrival_ns: self.clock.parse(time).column("gmt_create")?,
            duration_ns: parse_seconds(seconds).column("exec_time_seconds")?,
            function: self.names.function([group, b"", base, group], catalog)?,
            ..Record::default()
        })
    }

    fn rebase(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{first_flat, first_listed};

    #[test]
    fn the_first_adapter_counts() {
        let listed =
            |cell: &str| first_listed(cell.as_bytes()).map(|id| String::from_utf8_lossy(id).into_owned());
        assert_eq!(
            listed("[{'modelVersionId': 'ab', 'scale': 1.0}, {'modelVersionId': 'cd'}]").expect("a list"),
            "ab"
        );
        assert_eq!(listed("[]").expect("empty"), "");
        assert_eq!(listed("[{'modelVersionId': 'ab").expect_err("cut").column, "lora_args");
        assert_eq!(first_flat(b"A0000:0.8;A0014:1").expect("flat"), b"A0000");
    }
}
