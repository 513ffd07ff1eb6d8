//! Comma-separated tables: the header by name, and rows split without copying.
//!
//! Fields may be quoted (`"`, doubled inside), but a quoted field never spans lines: every line is one row, so a
//! stray quote costs one row and not the rest of the file.

use super::rows::Fault;
use crate::input::Lines;
use crate::record::TraceError;

/// The column names of a table.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Names in order.
    pub names: Vec<String>,
}

impl Header {
    /// Reads the header line.
    pub fn read(lines: &mut Lines) -> Result<Self, TraceError> {
        let parsed = match lines.next_line()? {
            Some(line) => Self::parse(line),
            None => Err("the file is empty; expected a header line".to_owned()),
        };
        parsed.map_err(|reason| TraceError::Format {
            file: lines.file().to_owned(),
            line: lines.line(),
            reason,
        })
    }

    /// Splits a header line into names, which must be UTF-8.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let mut splitter = Splitter::default();
        let row = splitter.split(line).map_err(|f| f.reason)?;
        let name = |i| std::str::from_utf8(row.get(i)).map(|n| n.trim().to_owned());
        let names: Result<_, _> = (0..row.len()).map(name).collect();
        Ok(Self { names: names.map_err(|_| "the header line is not UTF-8 text".to_owned())? })
    }

    /// Position of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|n| n == name)
    }

    /// Position of a column the format can't do without.
    pub fn need(&self, name: &str, lines: &Lines) -> Result<usize, TraceError> {
        self.find(name).ok_or_else(|| TraceError::Format {
            file: lines.file().to_owned(),
            line: lines.line(),
            reason: format!("the header has no column `{name}`; it has: {}", self.names.join(", ")),
        })
    }

    /// A warning naming the columns outside `known`, if there are any.
    pub fn unknown(&self, known: &[&str]) -> Option<String> {
        let odd: Vec<_> = self.names.iter().map(String::as_str).filter(|n| !known.contains(n)).collect();
        (!odd.is_empty()).then(|| format!("columns not understood and left out: {}", odd.join(", ")))
    }
}

/// Splits rows; kept between rows so that nothing is allocated on the way.
#[derive(Default)]
pub struct Splitter {
    ranges: Vec<(u32, u32)>,
    unquoted: Vec<u8>,
}

/// One split row.
pub struct Row<'a> {
    bytes: &'a [u8],
    ranges: &'a [(u32, u32)],
}

impl<'a> Row<'a> {
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Field `i`, without quotes.
    #[inline]
    pub fn get(&self, i: usize) -> &'a [u8] {
        let (from, to) = self.ranges[i];
        &self.bytes[from as usize..to as usize]
    }
}

impl Splitter {
    /// Splits a line of at most 4 GiB.
    #[inline]
    pub fn split<'a>(&'a mut self, line: &'a [u8]) -> Result<Row<'a>, Fault> {
        self.ranges.clear();
        let mut from = 0u32;
        for (at, &byte) in line.iter().enumerate() {
            if byte == b',' {
                self.ranges.push((from, at as u32));
                from = at as u32 + 1;
            } else if byte == b'"' {
                return self.split_quoted(line);
            }
        }
        self.ranges.push((from, line.len() as u32));
        Ok(Row { bytes: line, ranges: &self.ranges })
    }

    /// Splits a row that must have exactly the fields of `header`.
    #[inline]
    pub fn split_as<'a>(&'a mut self, line: &'a [u8], header: &Header) -> Result<Row<'a>, Fault> {
        let row = self.split(line)?;
        if row.len() == header.names.len() { Ok(row) } else { Err(ragged(row.len(), header)) }
    }

    #[cold]
    fn split_quoted<'a>(&'a mut self, line: &[u8]) -> Result<Row<'a>, Fault> {
        self.ranges.clear();
        self.unquoted.clear();
        let (mut from, mut inside, mut at) = (0u32, false, 0);
        while at < line.len() {
            match line[at] {
                b'"' if inside && line.get(at + 1) == Some(&b'"') => {
                    self.unquoted.push(b'"');
                    at += 1;
                }
                b'"' => inside = !inside,
                b',' if !inside => {
                    self.ranges.push((from, self.unquoted.len() as u32));
                    from = self.unquoted.len() as u32;
                }
                other => self.unquoted.push(other),
            }
            at += 1;
        }
        if inside {
            return Err(Fault::row("has an opening quote without an end; a field may not span lines"));
        }
        self.ranges.push((from, self.unquoted.len() as u32));
        Ok(Row { bytes: &self.unquoted, ranges: &self.ranges })
    }
}

#[cold]
fn ragged(fields: usize, header: &Header) -> Fault {
    match header.names.get(fields) {
        Some(missing) => Fault::at(
            missing.clone(),
            format!("is missing: the row has {fields} fields of {}", header.names.len()),
        ),
        None => Fault::row(format!("has {fields} fields, the header names {}", header.names.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting() {
        let check = |line: &str, want: Option<&[&str]>| {
            let mut splitter = Splitter::default();
            let got = splitter.split(line.as_bytes()).ok();
            let got = got.map(|row| {
                (0..row.len()).map(|i| String::from_utf8_lossy(row.get(i)).into_owned()).collect()
            });
            assert_eq!(got, want.map(|w| w.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()), "{line}");
        };
        check("", Some(&[""]));
        check("a,b", Some(&["a", "b"]));
        check("a,,", Some(&["a", "", ""]));
        check("\"a,b\",c", Some(&["a,b", "c"]));
        check("\"say \"\"hi\"\"\",2", Some(&["say \"hi\"", "2"]));
        check("\"open,2", None);
    }

    #[test]
    fn ragged_rows_name_the_column() {
        let header = Header::parse(b"a,b,c").expect("header");
        let mut splitter = Splitter::default();
        let short = splitter.split_as(b"1,2", &header).err().expect("short");
        assert_eq!(short.column, "c");
        assert!(splitter.split_as(b"1,2,3,4", &header).is_err());
    }
}
