//! Azure Functions trace of 2021: `app,func,end_timestamp,duration` in seconds; arrival = end - duration.
//!
//! Rows may be sorted by start or by end. They pass a bounded re-order window: a row is given out once one that ends
//! `reorder_window_ns` after its arrival was read, so with rows sorted by end the window must reach the longest
//! duration. A row too late for that is refused. `func` is unique only within its `app`.

use super::names::Names;
use super::order::Order;
use super::rows::{Fault, InColumn, Parser, Rows};
use super::table::{Header, Splitter};
use crate::fields::parse_seconds;
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

struct AzureFunctions2021 {
    header: Header,
    columns: [usize; 4],
    splitter: Splitter,
    names: Names,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let header = Header::read(&mut lines)?;
    let need = |name| header.need(name, &lines);
    let columns = [need("app")?, need("func")?, need("end_timestamp")?, need("duration")?];
    let warning = header.unknown(&["app", "func", "end_timestamp", "duration"]);
    let order = if options.sort { super::order(options) } else { Order::window(options.reorder_window_ns) };
    let parser = AzureFunctions2021 {
        header,
        columns,
        splitter: Splitter::default(),
        names: Names::default(),
        base_model: options.base_model.clone(),
    };
    Ok(Box::new(Rows::new(lines, parser, order).warn(warning)))
}

impl Parser for AzureFunctions2021 {
    const TIME: &'static str = "end_timestamp";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let row = self.splitter.split_as(line, &self.header)?;
        let [app, func, end, duration] = self.columns.map(|i| row.get(i));
        let end_ns = parse_seconds(end).column("end_timestamp")?;
        let duration_ns = parse_seconds(duration).column("duration")?;
        let started = end_ns.checked_sub(duration_ns);
        let arrival_ns = started.ok_or_else(|| {
            Fault::at("duration", "is longer than end_timestamp: the call began before the trace")
        })?;
        let function = self.names.function([func, b"", self.base_model.as_bytes(), app], catalog)?;
        Ok(Record { arrival_ns, duration_ns, function, ..Record::default() })
    }
}
