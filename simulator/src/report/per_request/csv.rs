//! Rows as CSV with a heading line, quoted where RFC 4180 asks for it.

use super::{COLUMNS, Kind, Lookup, Names, RequestRow, RowSink, Value, values};
use std::io::{self, Write};

/// Writes rows as CSV. Give it a buffered writer.
pub struct CsvSink<W> {
    out: W,
    names: Names<String>,
}

impl<W: Write> CsvSink<W> {
    /// Writes the heading line.
    pub fn new(mut out: W, lookup: Lookup) -> io::Result<Self> {
        let heading: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        writeln!(out, "{}", heading.join(","))?;
        Ok(CsvSink { out, names: Names::new(lookup, |name| quote(&name)) })
    }
}

impl<W: Write> RowSink for CsvSink<W> {
    fn row(&mut self, row: &RequestRow) -> io::Result<()> {
        for (i, (value, (_, kind))) in values(row).into_iter().zip(COLUMNS).enumerate() {
            if i > 0 {
                self.out.write_all(b",")?;
            }
            match (value, kind) {
                (Value::Whole32(number), Kind::Name(kind)) => {
                    self.out.write_all(self.names.get(kind, number).as_bytes())?;
                }
                (Value::Whole32(number), _) => write!(self.out, "{number}")?,
                (Value::Whole64(number), _) => write!(self.out, "{number}")?,
                (Value::Flag(flag), _) => self.out.write_all(if flag { b"true" } else { b"false" })?,
                (Value::Text(text), _) => self.out.write_all(text.as_bytes())?,
            }
        }
        self.out.write_all(b"\n")
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// The text as a CSV cell.
pub fn quote(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}
