//! Rows as Parquet: zstd, dictionary-coded names, row groups of 64k rows.

use super::{COLUMNS, Kind, Lookup, Names, RequestRow, RowSink, Value, values};
use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::io::{self, Write};
use std::sync::Arc;

/// Rows in a group: a few MiB in memory, and large enough to compress well.
pub const ROW_GROUP: usize = 65_536;

/// Cells of one column that wait for the row group to fill.
enum Cells {
    Whole64(Vec<i64>),
    Whole32(Vec<i32>),
    Flag(Vec<bool>),
    Text(Vec<ByteArray>),
}

/// Writes rows as Parquet.
pub struct ParquetSink<W: Write + Send> {
    out: SerializedFileWriter<W>,
    names: Names<ByteArray>,
    cells: Vec<Cells>,
    rows: usize,
}

impl<W: Write + Send> ParquetSink<W> {
    /// Starts the file.
    pub fn new(out: W, lookup: Lookup) -> io::Result<Self> {
        let schema = parse_message_type(&schema()).map_err(failed)?;
        let compression = Compression::ZSTD(ZstdLevel::default());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties)).map_err(failed)?;
        let cells = COLUMNS.iter().map(|(_, kind)| Cells::new(*kind)).collect();
        Ok(ParquetSink {
            out,
            names: Names::new(lookup, |name| ByteArray::from(name.into_bytes())),
            cells,
            rows: 0,
        })
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        if self.rows == 0 {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for cells in &mut self.cells {
            let mut column = group.next_column()?.expect("the schema has as many columns");
            match cells {
                Cells::Whole64(all) => drop(column.typed::<Int64Type>().write_batch(all, None, None)?),
                Cells::Whole32(all) => drop(column.typed::<Int32Type>().write_batch(all, None, None)?),
                Cells::Flag(all) => drop(column.typed::<BoolType>().write_batch(all, None, None)?),
                Cells::Text(all) => drop(column.typed::<ByteArrayType>().write_batch(all, None, None)?),
            }
            column.close()?;
            cells.clear();
        }
        group.close()?;
        self.rows = 0;
        Ok(())
    }
}

impl<W: Write + Send> RowSink for ParquetSink<W> {
    fn row(&mut self, row: &RequestRow) -> io::Result<()> {
        for ((value, (_, kind)), cells) in values(row).into_iter().zip(COLUMNS).zip(&mut self.cells) {
            match (value, kind, cells) {
                (Value::Whole32(number), Kind::Name(kind), Cells::Text(all)) => {
                    all.push(self.names.get(kind, number).clone());
                }
                // Parquet keeps unsigned numbers in the bits of signed ones; the schema says which is meant.
                (Value::Whole32(number), _, Cells::Whole32(all)) => all.push(number.cast_signed()),
                (Value::Whole64(number), _, Cells::Whole64(all)) => all.push(number.cast_signed()),
                (Value::Flag(flag), _, Cells::Flag(all)) => all.push(flag),
                (Value::Text(text), _, Cells::Text(all)) => all.push(ByteArray::from(text)),
                _ => unreachable!("COLUMNS and values() list the same types"),
            }
        }
        self.rows += 1;
        if self.rows == ROW_GROUP { self.write_group().map_err(failed) } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.write_group().map_err(failed)?;
        self.out.close().map(drop).map_err(failed)
    }
}

impl Cells {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Whole64 => Cells::Whole64(Vec::new()),
            Kind::Whole32 => Cells::Whole32(Vec::new()),
            Kind::Flag => Cells::Flag(Vec::new()),
            Kind::Text | Kind::Name(_) => Cells::Text(Vec::new()),
        }
    }

    fn clear(&mut self) {
        match self {
            Cells::Whole64(all) => all.clear(),
            Cells::Whole32(all) => all.clear(),
            Cells::Flag(all) => all.clear(),
            Cells::Text(all) => all.clear(),
        }
    }
}

fn schema() -> String {
    let columns: String = COLUMNS
        .iter()
        .map(|(name, kind)| match kind {
            Kind::Whole64 => format!("REQUIRED INT64 {name} (UINT_64);\n"),
            Kind::Whole32 => format!("REQUIRED INT32 {name} (UINT_32);\n"),
            Kind::Flag => format!("REQUIRED BOOLEAN {name};\n"),
            Kind::Text | Kind::Name(_) => format!("REQUIRED BYTE_ARRAY {name} (UTF8);\n"),
        })
        .collect();
    format!("message requests {{\n{columns}}}")
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(error) => *error,
            Err(other) => io::Error::other(other),
        },
        other => io::Error::other(other),
    }
}
