//! Side files of the minute counts: the window list, and rows picked out of a count file.
//!
//! A bad row here ends the reading: these are known files, and a preset with a row missing would be another preset.

use crate::fields::{parse_u32, parse_u64};
use crate::info::functions::CovClass;
use crate::input::Lines;
use crate::readers::rows::{Fault, InColumn};
use crate::readers::table::{Header, Row, Splitter};
use crate::record::TraceError;
use std::path::Path;

/// One four-hour window of a function.
pub(crate) struct Window {
    /// Stem of the count file.
    pub file: String,
    /// `HashFunction` in it.
    pub function: String,
    /// First minute column, from 0.
    pub start: usize,
    /// Invocations in it.
    pub invocations: u64,
}

/// Calls `take` for each row with the positions of `columns`.
fn each_row(
    path: &Path,
    columns: impl FnOnce(&Header, &Lines) -> Result<Vec<usize>, TraceError>,
    mut take: impl FnMut(&Row<'_>, &[usize]) -> Result<(), Fault>,
) -> Result<(), TraceError> {
    let mut lines = Lines::open(path)?;
    let header = Header::read(&mut lines)?;
    let at = columns(&header, &lines)?;
    let mut splitter = Splitter::default();
    while let Some(line) = lines.next_line()? {
        let taken = splitter.split_as(line, &header).and_then(|row| take(&row, &at));
        if let Err(fault) = taken {
            lines.unread();
            return Err(lines.fault(format!("{} {}", fault.column, fault.reason)));
        }
    }
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The windows of one class, in file order.
pub(crate) fn read_windows(path: &Path, class: CovClass) -> Result<Vec<Window>, TraceError> {
    let mut windows = vec![];
    let columns = |header: &Header, lines: &Lines| {
        ["file", "HashFunction", "start_col", "invocations", "class"]
            .iter()
            .map(|c| header.need(c, lines))
            .collect()
    };
    each_row(path, columns, |row, at| {
        if row.get(at[4]) == class.name().as_bytes() {
            windows.push(Window {
                file: text(row.get(at[0])),
                function: text(row.get(at[1])),
                start: parse_u32(row.get(at[2])).column("start_col")? as usize,
                invocations: parse_u64(row.get(at[3])).column("invocations")?,
            });
        }
        Ok(())
    })?;
    Ok(windows)
}

/// Calls `take` with each function and its counts by minute column.
pub(crate) fn read_counts(path: &Path, mut take: impl FnMut(&str, &[u32])) -> Result<(), TraceError> {
    let mut minutes: Vec<u32> = vec![];
    let columns = |header: &Header, lines: &Lines| {
        let mut at = vec![header.need("HashFunction", lines)?];
        at.extend((0..header.names.len()).filter(|&i| header.names[i].parse::<u32>().is_ok()));
        Ok(at)
    };
    each_row(path, columns, |row, at| {
        minutes.clear();
        for &i in &at[1..] {
            minutes.push(parse_u32(row.get(i)).column("minute")?);
        }
        take(&text(row.get(at[0])), &minutes);
        Ok(())
    })
}
