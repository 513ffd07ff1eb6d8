//! Records held in memory, written as a trace file.

use crate::ui::WholeFile;
use anyhow::Result;
use coldframe_traces::{Catalog, Record, TraceWriter, WriteFormat};
use std::path::Path;

/// Writes them; the format is by the file's ending.
pub fn write(path: &Path, records: &[Record], catalog: &Catalog, note: String) -> Result<()> {
    let format = WriteFormat::by_name(path)?;
    let mut writer = TraceWriter::new(WholeFile::create(path)?, format, &[note])?;
    for record in records {
        writer.write(record, catalog)?;
    }
    writer.finish()?.finish()
}
