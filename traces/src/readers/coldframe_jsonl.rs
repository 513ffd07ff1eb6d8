//! Our own format as JSONL: the fields of the CSV format, one object a line.
//!
//! `prefix_group` is a number or a list of block ids, `session` a number or a text. A first object with
//! `coldframe_trace` says how the trace was made.

use super::coldframe_csv::{COLUMNS, slo_class};
use super::json::{self, Text};
use super::names::Names;
use super::rows::{Fault, InColumn, Parser, Rows};
use crate::fields::{id_of, parse_seconds, parse_u32};
use crate::input::Lines;
use crate::open::OpenOptions;
use crate::record::{Catalog, Record, TraceError, TraceStream};

#[derive(serde::Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    arrival_s: Text<'a>,
    function: Option<String>,
    adapter: Option<String>,
    base_model: Option<String>,
    #[serde(borrow)]
    prompt_tokens: Text<'a>,
    #[serde(borrow)]
    output_tokens: Text<'a>,
    tenant: Option<String>,
    slo_class: Option<String>,
    #[serde(borrow)]
    session: Text<'a>,
    #[serde(borrow)]
    turn: Text<'a>,
    #[serde(borrow)]
    prefix_group: Text<'a>,
    #[serde(borrow)]
    duration_s: Text<'a>,
}

/// The first line our writer puts.
#[derive(serde::Deserialize)]
struct Heading {
    #[serde(rename = "coldframe_trace")]
    _version: u32,
    #[serde(default)]
    notes: Vec<String>,
}

struct ColdframeJsonl {
    names: Names,
    base_model: String,
}

/// Opens a trace of this format.
pub fn open(mut lines: Lines, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let heading: Option<Heading> = match lines.next_line()? {
        Some(line) => json::object(line).ok(),
        None => return Err(lines.fault("the file is empty".into())),
    };
    if heading.is_none() {
        lines.unread();
    }
    // Unknown fields are named once, by the first row.
    let warning = match lines.next_line()? {
        Some(line) => {
            let first: serde_json::Map<String, serde_json::Value> =
                serde_json::from_slice(line).unwrap_or_default();
            let odd: Vec<_> = first.keys().map(String::as_str).filter(|k| !COLUMNS.contains(k)).collect();
            let warning =
                (!odd.is_empty()).then(|| format!("fields not understood and left out: {}", odd.join(", ")));
            lines.unread();
            warning
        }
        None => None,
    };
    let parser = ColdframeJsonl { names: Names::default(), base_model: options.base_model.clone() };
    let rows = Rows::new(lines, parser, super::order(options));
    Ok(Box::new(rows.warn(warning).note(heading.map_or(vec![], |h| h.notes))))
}

/// An optional number: absent is 0.
fn optional<T: Default>(
    value: Text<'_>,
    column: &'static str,
    parse: impl Fn(&[u8]) -> Result<T, String>,
) -> Result<T, Fault> {
    if value.is_none() { Ok(T::default()) } else { parse(json::need(value, column)?).column(column) }
}

impl Parser for ColdframeJsonl {
    const TIME: &'static str = "arrival_s";

    fn parse(&mut self, line: &[u8], catalog: &mut Catalog) -> Result<Record, Fault> {
        let fields: Fields = json::object(line)?;
        let name = fields.function.ok_or_else(|| Fault::at("function", "is missing"))?;
        let text = |value: Option<String>| value.unwrap_or_default();
        let base_model =
            fields.base_model.filter(|b| !b.is_empty()).unwrap_or_else(|| self.base_model.clone());
        let (adapter, tenant) = (text(fields.adapter), text(fields.tenant));
        let prefix = match fields.prefix_group {
            Some(raw) if !raw.get().starts_with('[') => {
                let id = id_of(json::need(fields.prefix_group, "prefix_group")?);
                Some(vec![id].into_boxed_slice())
            }
            list => json::blocks(list, "prefix_group")?,
        };
        let session = fields.session.map(|_| json::need(fields.session, "session")).transpose()?;
        let identity = [name.as_bytes(), adapter.as_bytes(), base_model.as_bytes(), tenant.as_bytes()];
        Ok(Record {
            arrival_ns: parse_seconds(json::need(fields.arrival_s, "arrival_s")?).column("arrival_s")?,
            prompt_tokens: optional(fields.prompt_tokens, "prompt_tokens", parse_u32)?,
            output_tokens: optional(fields.output_tokens, "output_tokens", parse_u32)?,
            slo_class: slo_class(text(fields.slo_class).as_bytes(), catalog)?,
            session: session.map_or(0, id_of),
            turn: optional(fields.turn, "turn", parse_u32)?,
            duration_ns: optional(fields.duration_s, "duration_s", parse_seconds)?,
            function: self.names.function(identity, catalog)?,
            prefix,
        })
    }
}
