//! Parquet of our format: all columns required, times DECIMAL(18, 9) in 64 bits, pages packed with zstd.
//!
//! One row group is held while it fills.

use crate::readers::coldframe_csv::COLUMNS;
use crate::record::{Catalog, Record};
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use std::io::{self, Write};
use std::sync::Arc;

/// Rows of a row group: about 4 MB held. Arbitrary.
const GROUP_ROWS: usize = 65_536;
/// Largest time of DECIMAL(18, 9): a billion seconds.
const TIME_MAX_NS: u64 = 999_999_999_999_999_999;

pub(super) struct Writer<W: Write + Send> {
    out: SerializedFileWriter<W>,
    whole: [Vec<i64>; 6],
    text: [Vec<ByteArray>; 6],
}

/// The columns that are numbers; the others are texts.
fn is_whole(name: &str) -> bool {
    matches!(name, "arrival_s" | "prompt_tokens" | "output_tokens" | "session" | "turn" | "duration_s")
}

fn failed(error: ParquetError) -> io::Error {
    io::Error::other(error)
}

fn schema() -> Result<Type, ParquetError> {
    let mut fields = vec![];
    for name in COLUMNS {
        let physical = if is_whole(name) { Physical::INT64 } else { Physical::BYTE_ARRAY };
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        let field = match name {
            "arrival_s" | "duration_s" => {
                field.with_converted_type(ConvertedType::DECIMAL).with_precision(18).with_scale(9)
            }
            _ if is_whole(name) => field,
            _ => field.with_converted_type(ConvertedType::UTF8),
        };
        fields.push(Arc::new(field.build()?));
    }
    Type::group_type_builder("coldframe_trace").with_fields(fields).build()
}

fn put<W: Write + Send, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: &mut Vec<T::T>,
) -> Result<(), ParquetError> {
    let mut column = group.next_column()?.expect("as many columns as the schema has");
    column.typed::<T>().write_batch(values, None, None)?;
    values.clear();
    column.close()
}

impl<W: Write + Send> Writer<W> {
    pub(super) fn new(out: W, notes: &[String]) -> io::Result<Self> {
        let level = ZstdLevel::try_new(3).map_err(failed)?;
        let pairs = vec![KeyValue::new("coldframe_trace".to_owned(), notes.join("\n"))];
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_created_by("coldframe".to_owned())
            .set_key_value_metadata(Some(pairs))
            .build();
        let schema = Arc::new(schema().map_err(failed)?);
        let out = SerializedFileWriter::new(out, schema, Arc::new(properties)).map_err(failed)?;
        Ok(Self { out, whole: Default::default(), text: Default::default() })
    }

    pub(super) fn write(&mut self, record: &Record, catalog: &Catalog) -> io::Result<()> {
        let info = &catalog.functions()[record.function as usize];
        if record.arrival_ns.max(record.duration_ns) > TIME_MAX_NS {
            return Err(io::Error::other(
                "a time beyond 31 years does not fit Parquet's decimal; write CSV or JSONL",
            ));
        }
        let blocks: Vec<String> = record.prefix.iter().flatten().map(u64::to_string).collect();
        // A session id above 2^63 wraps to a negative number; the reader would refuse it, so its top bit is cut.
        let session = (record.session & (i64::MAX as u64)) as i64;
        let whole = [
            record.arrival_ns as i64,
            i64::from(record.prompt_tokens),
            i64::from(record.output_tokens),
            session,
            i64::from(record.turn),
            record.duration_ns as i64,
        ];
        let slo_class = &catalog.slo_classes[record.slo_class as usize];
        let blocks = blocks.join(";");
        let text = [&info.name, &info.adapter, &info.base_model, &info.tenant, slo_class, &blocks];
        self.whole.iter_mut().zip(whole).for_each(|(column, value)| column.push(value));
        self.text
            .iter_mut()
            .zip(text)
            .for_each(|(column, value)| column.push(ByteArray::from(value.as_str())));
        if self.whole[0].len() == GROUP_ROWS { self.flush().map_err(failed) } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ParquetError> {
        if self.whole[0].is_empty() {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        let (mut whole, mut text) = (self.whole.iter_mut(), self.text.iter_mut());
        for name in COLUMNS {
            if is_whole(name) {
                put::<_, Int64Type>(&mut group, whole.next().expect("six number columns"))?;
            } else {
                put::<_, ByteArrayType>(&mut group, text.next().expect("six text columns"))?;
            }
        }
        group.close()?;
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.flush().map_err(failed)?;
        let mut out = self.out.into_inner().map_err(failed)?;
        out.flush()?;
        Ok(out)
    }
}
