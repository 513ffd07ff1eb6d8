//! Our own format as CSV: `arrival_s,function,adapter,base_model,prompt_tokens,output_tokens`, optional `tenant`,
//! `slo_class`, `session`, `turn`, `prefix_group`, `duration_s`.
//!
//! `arrival_s` is a decimal number of seconds, read exactly to the nanosecond. `prefix_group` holds block ids joined by
//! `;` (one id is a plain group). Only `arrival_s` and `function` must be there. Lines `# ...` before the header say how
//! the trace was made.

use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Row, Splitter};
use crate::fields::{id_of, parse_seconds, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

/// Columns in the order they are written.
pub const COLUMNS: [&str; 12] = [
    "arrival_s",
    "function",
    "adapter",
    "base_model",
    "prompt_tokens",
    "output_tokens",
    "tenant",
    "slo_class",
    "session",
    "turn",
    "prefix_group",
    "duration_s",
];

/// Service classes a trace may name. Arbitrary; reports print one row a class.
const SLO_CLASSES_MAX: usize = 1000;

/// The index of a service class, giving it the next one when new.
pub(crate) fn slo_class(text: &[u8], catalog: &mut Catalog) -> Result<u32, Fault> {
    if text.is_empty() {
        return Ok(0);
    }
    let name = std::str::from_utf8(text).map_err(|_| Fault::at("slo_class", "is not UTF-8 text"))?;
    if let Some(found) = catalog.slo_classes.iter().position(|c| c == name) {
        return Ok(found as u32);
    }
    if catalog.slo_classes.len() >= SLO_CLASSES_MAX {
        return Err(Fault::at("slo_class", format!("is the {SLO_CLASSES_MAX}th distinct class; use fewer")));
    }
    catalog.slo_classes.push(name.to_owned());
    Ok(catalog.slo_classes.len() as u32 - 1)
}

/// Block ids joined by `;`.
pub(crate) fn prefix(text: &[u8]) -> Option<Box<[u64]>> {
    (!text.is_empty()).then(|| text.split(|b| *b == b';').map(id_of).collect())
}

struct ColdframeCsv {
    header: Header,
    /// Position of each of [`COLUMNS`]; `usize::MAX` where the file has none.
    columns: [usize; 12],
    splitter: Splitter,
    names: Names,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    header.need("arrival_s", &lines)?;
    header.need("function", &lines)?;
    let columns = COLUMNS.map(|name| header.find(name).unwrap_or(usize::MAX));
    let warning = header.unknown(&COLUMNS);
    let parser = ColdframeCsv {
        header,
        columns,
        splitter: Splitter::default(),
        names: Names::default(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, super::order(options)).warn(warning)))
}

/// An optional number: absent or empty is 0.
#[inline]
fn optional<T: Default>(text: &[u8], parse: impl Fn(&[u8]) -> Result<T, String>) -> Result<T, String> {
    if text.is_empty() { Ok(T::default()) } else { parse(text) }
}

impl Parser for ColdframeCsv {
    const TIME: &'static str = "arrival_s";

    #[inline]
    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row: Row = self.splitter.split_as(line, &self.header)?;
        let get = |i: usize| if self.columns[i] == usize::MAX { &b""[..] } else { row.get(self.columns[i]) };
        let named = get(3);
        let base_model = if named.is_empty() { self.base_model.as_bytes() } else { named };
        Ok(Record {
            arrival_ns: parse_seconds(get(0)).column("arrival_s")?,
            prompt_tokens: optional(get(4), parse_u32).column("prompt_tokens")?,
            output_tokens: optional(get(5), parse_u32).column("output_tokens")?,
            slo_class: slo_class(get(7), catalog)?,
            session: id_of(get(8)),
            turn: optional(get(9), parse_u32).column("turn")?,
            prefix: prefix(get(10)),
            duration_ns: optional(get(11), parse_seconds).column("duration_s")?,
            function: self.names.function([get(1), get(2), base_model, get(6)], catalog)?,
        })
    }
}
