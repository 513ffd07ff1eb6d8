//! The report as JSON: written with a stable key order, read with checks.
//!
//! Keys follow the order of the model, numbers that are not finite become `null` (`check` names them), and lists of
//! numbers stay on one line. Reading first looks at the schema's name, so that another version gets its own error
//! instead of a complaint about some field. It leaves out the invariants: those are `check`'s.

use super::model::{Report, SCHEMA};
use serde::{Deserialize, Serialize};
use serde_json::ser::Formatter;
use std::io;
use std::path::{Path, PathBuf};

/// Why a report could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is no JSON, is cut short, or a field has the wrong type.
    #[error("{}, line {line}, column {column}: {message}; {}", path.display(), hint(*cut, *line, *column))]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What was wrong there.
        message: String,
        /// True when the text ended too early.
        cut: bool,
    },
    /// Valid JSON that is something else.
    #[error(
        "{}: this is JSON but not a coldframe report (it has no `schema` field with a text); \
         write one with `coldframe replay --trace TRACE --out FILE.json`", path.display()
    )]
    NotAReport {
        /// The file.
        path: PathBuf,
    },
    /// A report of another version, or another tool's file.
    #[error("{}: its schema is `{found}`, this coldframe reads `{wanted}`; {}", path.display(), advice(found, wanted))]
    Version {
        /// The file.
        path: PathBuf,
        /// The schema the file names.
        found: String,
        /// The schema this version reads.
        wanted: &'static str,
    },
}

fn hint(cut: bool, line: usize, column: usize) -> &'static str {
    if !cut && line == 1 && column <= 1 {
        "this is no JSON file, so give a report written by `coldframe replay … --out FILE.json`"
    } else if cut {
        "the file ends too early, so write it again with `coldframe replay … --out FILE.json`"
    } else {
        "the file was changed by hand or by another tool; write it again with `coldframe replay … --out FILE.json`"
    }
}

fn advice(found: &str, wanted: &str) -> &'static str {
    let split = |schema: &str| {
        let (name, version) = schema.rsplit_once('/')?;
        Some((name.to_owned(), version.parse::<u64>().ok()?))
    };
    match (split(found), split(wanted)) {
        (Some((name, found)), Some((ours, wanted))) if name == ours && found > wanted => {
            "a newer coldframe wrote it: update, or replay the trace again with this one"
        }
        (Some((name, _)), Some((ours, _))) if name == ours => {
            "an older coldframe wrote it: replay the trace again with this one"
        }
        _ => "give a report written by `coldframe replay … --out FILE.json`",
    }
}

/// The report as pretty JSON with a newline at the end. Two equal reports give equal text.
pub fn to_string(report: &Report) -> String {
    pretty(report)
}

/// Any value in the report's JSON style.
pub fn pretty<T: Serialize>(value: &T) -> String {
    let mut bytes = Vec::new();
    let mut writer = serde_json::Serializer::with_formatter(&mut bytes, Layout::default());
    value.serialize(&mut writer).expect("text keys and a Vec to write to");
    bytes.push(b'\n');
    String::from_utf8(bytes).expect("serde_json writes UTF-8")
}

/// Reads and checks a report file.
pub fn read(path: &Path) -> Result<Report, ReadError> {
    let text = std::fs::read(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
    parse(path, &text)
}

/// Reads a report from bytes; `path` is only for messages.
pub fn parse(path: &Path, text: &[u8]) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Head {
        schema: Option<serde_json::Value>,
    }
    // A byte-order mark is a habit of some editors and no reason to refuse.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let not_a_report = || ReadError::NotAReport { path: path.to_owned() };
    // Read as anything first: broken JSON must be told from JSON of another shape.
    serde_json::from_slice::<serde::de::IgnoredAny>(text).map_err(|e| syntax(path, text, e))?;
    let head: Head = serde_json::from_slice(text).map_err(|_| not_a_report())?;
    match head.schema {
        Some(serde_json::Value::String(found)) if found == SCHEMA => {
            serde_json::from_slice(text).map_err(|e| syntax(path, text, e))
        }
        Some(serde_json::Value::String(found)) => {
            let found = printable(&found).chars().take(80).collect();
            Err(ReadError::Version { path: path.to_owned(), found, wanted: SCHEMA })
        }
        _ => Err(not_a_report()),
    }
}

fn syntax(path: &Path, text: &[u8], error: serde_json::Error) -> ReadError {
    let told = error.to_string();
    // The position is told separately.
    let message = told.rsplit_once(" at line ").map_or(told.as_str(), |(message, _)| message);
    let message = printable(message);
    let (line, column) = (error.line(), error.column());
    // A number cut in two is an invalid number to the parser, at the very end of the text.
    let last = text.rsplit(|byte| *byte == b'\n').next().map_or(0, <[u8]>::len);
    let at_end = line > text.iter().filter(|byte| **byte == b'\n').count() && column >= last && last > 0;
    let cut = error.is_eof() || (error.is_syntax() && at_end);
    ReadError::Syntax { path: path.to_owned(), line, column, message, cut }
}

/// The file's own words go to a terminal, so they may not drive it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Objects over several lines, lists of scalars on one line, lists of lists wrapped every eight.
#[derive(Default)]
struct Layout {
    depth: usize,
    /// Set between a list's separator and its element.
    element: bool,
    /// For each open list: elements so far, and whether one was a list or object.
    lists: Vec<(usize, bool)>,
}

impl Layout {
    fn line<W: ?Sized + io::Write>(&self, out: &mut W) -> io::Result<()> {
        out.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| out.write_all(b" "))
    }

    /// Breaks the line before a compound element of a list.
    fn open<W: ?Sized + io::Write>(&mut self, out: &mut W, every: usize) -> io::Result<()> {
        if !std::mem::take(&mut self.element) {
            return Ok(());
        }
        let (count, compound) = self.lists.last_mut().expect("an element lies in a list");
        *compound = true;
        if (*count - 1).is_multiple_of(every) { self.line(out) } else { Ok(()) }
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, 8)?;
        self.depth += 1;
        self.lists.push((0, false));
        out.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.element = false;
        if self.lists.pop().is_some_and(|(_, compound)| compound) {
            self.line(out)?;
        }
        out.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.lists.last_mut().expect("begin_array came first").0 += 1;
        self.element = true;
        if first { Ok(()) } else { out.write_all(b",") }
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.open(out, 1)?;
        self.depth += 1;
        out.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.depth -= 1;
        self.line(out)?;
        out.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if !first {
            out.write_all(b",")?;
        }
        self.line(out)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.element = false;
        out.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    fn error(text: &str) -> ReadError {
        parse(Path::new("r.json"), text.as_bytes()).expect_err("must be refused")
    }

    #[test]
    fn reads_what_it_writes() {
        let report = sample::report(4, 3);
        let text = to_string(&report);
        let back = parse(Path::new("r.json"), text.as_bytes()).expect("our own text");
        assert_eq!(back, report);
        assert_eq!(to_string(&back), text);
        let with_mark = [b"\xef\xbb\xbf", text.as_bytes()].concat();
        assert!(parse(Path::new("r.json"), &with_mark).is_ok());
    }

    #[test]
    fn lists_of_numbers_stay_short() {
        let text =
            pretty(&serde_json::json!({"a": [1, 2], "b": [[1, 2], [3, 4]], "c": [{"d": []}], "e": {}}));
        assert_eq!(
            text,
            "{\n \"a\": [1,2],\n \"b\": [\n  [1,2],[3,4]\n ],\n \"c\": [\n  {\n   \"d\": []\n  }\n ],\n \"e\": {\n }\n}\n"
        );
    }

    #[test]
    fn other_versions_say_what_to_do() {
        let newer = error(r#"{"schema": "coldframe.report/2", "extra": 1}"#).to_string();
        assert!(newer.contains("`coldframe.report/2`") && newer.contains("`coldframe.report/1`"), "{newer}");
        assert!(newer.contains("update"), "{newer}");
        let older = error(r#"{"schema": "coldframe.report/0"}"#).to_string();
        assert!(older.contains("replay the trace again"), "{older}");
        assert!(matches!(error(r#"{"schema": "vidur"}"#), ReadError::Version { .. }));
    }

    #[test]
    fn any_cut_is_refused() {
        let text = to_string(&sample::report(1, 1));
        for end in (0..text.trim_end().len()).step_by(97) {
            let cut = error(&text[..end]);
            assert!(matches!(cut, ReadError::Syntax { cut: true, .. }), "cut at {end}: {cut}");
        }
    }

    #[test]
    fn messages_cannot_drive_the_terminal() {
        for text in [
            "{\"schema\": \"\\u001b[2J\"}".to_owned(),
            to_string(&sample::report(1, 1)).replacen("\"rows\"", "\"\\u001b[2J\"", 1),
        ] {
            let told = error(&text).to_string();
            assert!(!told.contains('\u{1b}') && told.contains("[2J"), "{told}");
        }
    }

    #[test]
    fn foreign_and_broken_files_are_named() {
        for foreign in ["[1,2]", "3", "{}", r#"{"schema": 1}"#, "null"] {
            assert!(matches!(error(foreign), ReadError::NotAReport { .. }), "{foreign}");
        }
        let text = to_string(&sample::report(1, 1));
        let cut = error(&text[..text.len() / 2]);
        assert!(matches!(cut, ReadError::Syntax { cut: true, line: 2.., .. }), "{cut}");
        assert!(error("policy,ttft").to_string().contains("no JSON file"));
        assert!(matches!(error(""), ReadError::Syntax { cut: true, .. }));
        let wrong = text.replacen("\"rows\": ", "\"rows\": \"many\" , \"x\": ", 1);
        let wrong = error(&wrong);
        let ReadError::Syntax { line, column, cut: false, message, .. } = &wrong else { panic!("{wrong}") };
        assert!(*line > 5 && *column > 5 && message.contains("u64"), "{wrong}");
        let missing = read(Path::new("no/such/report.json")).expect_err("no file").to_string();
        assert!(missing.starts_with("cannot read no/such/report.json"), "{missing}");
    }
}
