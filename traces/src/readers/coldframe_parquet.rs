//! Our own format as Parquet: the CSV format's columns, read in batches, one row group after the other.
//!
//! `arrival_s` and `duration_s` are DECIMAL(18, 9) as written here (exact), or DOUBLE (rounded to the nearest
//! nanosecond); tokens and turns INT32 or INT64; `session` INT64; names and `prefix_group` UTF-8. A row's "line" is its
//! number from 1. A whole-file gzip around Parquet is not read: Parquet packs its own pages.

use super::coldframe_csv::{COLUMNS, prefix, slo_class};
use super::names::Names;
use super::order::{Order, Pushed};
use super::rows::Fault;
use crate::fields::id_of;
use crate::open::OpenOptions;
use crate::record::{Catalog, Item, Record, Refusal, TraceError, TraceStream};
use parquet::basic::{ConvertedType, LogicalType};
use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Rows decoded at once: small beside a row group, large beside a page header.
const BATCH: usize = 8192;

/// Values of one column of a batch, nulls included.
enum Values {
    Absent,
    Whole(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Text(Vec<Option<ByteArray>>),
}

struct ColdframeParquet {
    file: PathBuf,
    reader: SerializedFileReader<File>,
    columns: [Option<usize>; 12],
    /// Decimal scale of `arrival_s` and `duration_s`, where they are decimals.
    scales: [i32; 12],
    group: usize,
    readers: Vec<Option<ColumnReader>>,
    left_in_group: usize,
    batch: Vec<Values>,
    batch_len: usize,
    at: usize,
    rows: u64,
    total: u64,
    names: Names,
    catalog: Catalog,
    base_model: String,
    order: Order,
    at_end: bool,
    notes: Vec<String>,
    warnings: Vec<String>,
}

/// The decoder is foreign code over foreign bytes: a panic in it on a damaged file becomes an error here.
fn guarded<T>(
    file: &Path,
    row: u64,
    decode: impl FnOnce() -> parquet::errors::Result<T>,
) -> Result<T, TraceError> {
    let reason = match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the decoder gave up".to_owned(),
    };
    let reason = format!("not a readable Parquet trace ({reason}); write it again or convert it to CSV");
    Err(TraceError::Format { file: file.to_owned(), line: row, reason })
}

/// Opens a trace of this format.
pub fn open(path: &Path, options: &OpenOptions) -> Result<Box<dyn TraceStream>, TraceError> {
    let file = File::open(path).map_err(|source| TraceError::Io { file: path.to_owned(), source })?;
    let reader = guarded(path, 0, || SerializedFileReader::new(file))?;
    let meta = reader.metadata().file_metadata();
    let schema = meta.schema_descr();
    let find = |name: &str| schema.columns().iter().position(|c| c.path().string() == name);
    let columns = COLUMNS.map(find);
    let error = |reason| TraceError::Format { file: path.to_owned(), line: 0, reason };
    if columns[0].is_none() || columns[1].is_none() {
        return Err(error("the file has no columns `arrival_s` and `function`".into()));
    }
    let scales = columns.map(|at| {
        let Some(column) = at.map(|i| schema.column(i)) else { return 0 };
        match (column.logical_type_ref(), column.converted_type()) {
            (Some(LogicalType::Decimal(decimal)), _) => decimal.scale,
            (_, ConvertedType::DECIMAL) => column.type_scale(),
            _ => 0,
        }
    });
    if columns
        .iter()
        .flatten()
        .any(|&i| schema.column(i).max_rep_level() > 0 || schema.column(i).max_def_level() > 1)
    {
        return Err(error("a column is nested or repeated; this format's columns are flat".into()));
    }
    let odd: Vec<_> = schema
        .columns()
        .iter()
        .map(|c| c.path().string())
        .filter(|n| !COLUMNS.contains(&n.as_str()))
        .collect();
    let warnings = if odd.is_empty() {
        vec![]
    } else {
        vec![format!("columns not understood and left out: {}", odd.join(", "))]
    };
    let pairs = meta.key_value_metadata().cloned().unwrap_or_default();
    let notes = pairs.into_iter().filter(|p| p.key == "coldframe_trace").filter_map(|p| p.value);
    let notes = notes.flat_map(|v| v.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let total = u64::try_from(meta.num_rows()).unwrap_or(0);
    Ok(Box::new(ColdframeParquet {
        file: path.to_owned(),
        columns,
        scales,
        group: 0,
        readers: vec![],
        left_in_group: 0,
        batch: vec![],
        batch_len: 0,
        at: 0,
        rows: 0,
        total,
        names: Names::default(),
        catalog: Catalog::new(),
        base_model: options.base_model.clone(),
        order: super::order(options),
        at_end: false,
        notes,
        warnings,
        reader,
    }))
}

/// Spreads `values` over `levels`: 1 is a value, 0 a null. Required columns have no levels.
fn with_nulls<T, U>(
    values: Vec<T>,
    levels: &[i16],
    optional: bool,
    convert: impl Fn(T) -> U,
) -> Vec<Option<U>> {
    let mut values = values.into_iter();
    if !optional {
        return values.map(|v| Some(convert(v))).collect();
    }
    levels.iter().map(|level| if *level > 0 { values.next().map(&convert) } else { None }).collect()
}

/// Decodes up to `n` rows of one column.
fn decode(reader: &mut ColumnReader, n: usize, optional: bool) -> parquet::errors::Result<Values> {
    macro_rules! read {
        ($inner:expr, $variant:ident, $convert:expr) => {{
            let (mut values, mut levels) = (vec![], vec![]);
            // One call may stop at a page's end.
            let mut have = 0;
            while have < n {
                let (got, _, _) = $inner.read_records(n - have, Some(&mut levels), None, &mut values)?;
                if got == 0 {
                    break;
                }
                have += got;
            }
            Values::$variant(with_nulls(values, &levels, optional, $convert))
        }};
    }
    Ok(match reader {
        ColumnReader::Int32ColumnReader(inner) => read!(inner, Whole, i64::from),
        ColumnReader::Int64ColumnReader(inner) => read!(inner, Whole, |v| v),
        ColumnReader::FloatColumnReader(inner) => read!(inner, Real, f64::from),
        ColumnReader::DoubleColumnReader(inner) => read!(inner, Real, |v| v),
        ColumnReader::ByteArrayColumnReader(inner) => read!(inner, Text, |v| v),
        _ => {
            return Err(parquet::errors::ParquetError::General(
                "a column is of a type this format has not".into(),
            ));
        }
    })
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Self::Absent => usize::MAX,
            Self::Whole(v) => v.len(),
            Self::Real(v) => v.len(),
            Self::Text(v) => v.len(),
        }
    }
}

impl ColdframeParquet {
    /// Decodes the next batch; false at the end of the file.
    fn fill(&mut self) -> Result<bool, TraceError> {
        while self.left_in_group == 0 {
            if self.group == self.reader.num_row_groups() {
                return Ok(false);
            }
            let (reader, columns, group) = (&self.reader, &self.columns, self.group);
            let (readers, rows) = guarded(&self.file, self.rows, || {
                let group = reader.get_row_group(group)?;
                let open = |at: &Option<usize>| at.map(|i| group.get_column_reader(i)).transpose();
                let readers: Vec<_> = columns.iter().map(open).collect::<Result<_, _>>()?;
                Ok((readers, group.metadata().num_rows()))
            })?;
            self.readers = readers;
            self.left_in_group = usize::try_from(rows).unwrap_or(0);
            self.group += 1;
        }
        let n = self.left_in_group.min(BATCH);
        let schema = self.reader.metadata().file_metadata().schema_descr_ptr();
        let (readers, columns) = (&mut self.readers, &self.columns);
        self.batch = guarded(&self.file, self.rows, || {
            let mut batch = vec![];
            for (reader, at) in readers.iter_mut().zip(columns) {
                batch.push(match (reader, at) {
                    (Some(reader), Some(at)) => decode(reader, n, schema.column(*at).max_def_level() > 0)?,
                    _ => Values::Absent,
                });
            }
            match batch.iter().any(|values| values.len() < n) {
                true => {
                    Err(parquet::errors::ParquetError::General("a column ends before its row group".into()))
                }
                false => Ok(batch),
            }
        })?;
        self.left_in_group -= n;
        self.batch_len = n;
        self.at = 0;
        Ok(true)
    }

    fn whole(&self, column: usize) -> Result<u64, Fault> {
        let value = match &self.batch[column] {
            Values::Absent => None,
            Values::Whole(values) => values[self.at],
            _ => return Err(Fault::at(COLUMNS[column], "is not a column of whole numbers")),
        };
        let negative = |_| Fault::at(COLUMNS[column], "is negative");
        u64::try_from(value.unwrap_or(0)).map_err(negative)
    }

    fn tokens(&self, column: usize) -> Result<u32, Fault> {
        u32::try_from(self.whole(column)?).map_err(|_| Fault::at(COLUMNS[column], "overflows 32 bits"))
    }

    fn text(&self, column: usize) -> Result<&[u8], Fault> {
        match &self.batch[column] {
            Values::Absent => Ok(b""),
            Values::Text(values) => Ok(values[self.at].as_ref().map_or(b"", |v| v.data())),
            _ => Err(Fault::at(COLUMNS[column], "is not a column of texts")),
        }
    }

    fn id(&self, column: usize) -> Result<u64, Fault> {
        if matches!(self.batch[column], Values::Text(_)) {
            Ok(id_of(self.text(column)?))
        } else {
            self.whole(column)
        }
    }

    fn seconds(&self, column: usize) -> Result<Option<u64>, Fault> {
        let fault = |reason: &str| Fault::at(COLUMNS[column], reason.to_owned());
        match &self.batch[column] {
            Values::Absent => Ok(None),
            Values::Whole(values) => {
                let Some(value) = values[self.at] else { return Ok(None) };
                let value = u128::try_from(value).map_err(|_| fault("is negative"))?;
                let scale = self.scales[column];
                if !(0..=18).contains(&scale) {
                    return Err(fault("has a decimal scale outside 0..18"));
                }
                // Half up below the nanosecond, as in the CSV format.
                let ns = (value * 10u128.pow(18 - scale as u32) + 500_000_000) / 1_000_000_000;
                u64::try_from(ns).map(Some).map_err(|_| fault("overflows 64 bits of nanoseconds"))
            }
            Values::Real(values) => match values[self.at] {
                None => Ok(None),
                Some(value) if value.is_finite() && (0.0..1.8e10).contains(&value) => {
                    Ok(Some((value * 1e9 + 0.5) as u64))
                }
                Some(value) => Err(fault(&format!("is {value}; expected seconds of at least 0"))),
            },
            Values::Text(_) => Err(fault("is not a column of numbers")),
        }
    }

    fn record(&mut self) -> Result<Record, Fault> {
        let arrival_ns = self.seconds(0)?.ok_or_else(|| Fault::at("arrival_s", "is missing"))?;
        let mut catalog = std::mem::take(&mut self.catalog);
        let mut names = std::mem::take(&mut self.names);
        let built = (|| {
            let named = self.text(3)?;
            let base_model = if named.is_empty() { self.base_model.as_bytes() } else { named };
            Ok(Record {
                arrival_ns,
                prompt_tokens: self.tokens(4)?,
                output_tokens: self.tokens(5)?,
                slo_class: slo_class(self.text(7)?, &mut catalog)?,
                session: self.id(8)?,
                turn: self.tokens(9)?,
                prefix: prefix(self.text(10)?),
                duration_ns: self.seconds(11)?.unwrap_or(0),
                function: names
                    .function([self.text(1)?, self.text(2)?, base_model, self.text(6)?], &mut catalog)?,
            })
        })();
        (self.catalog, self.names) = (catalog, names);
        built
    }

    fn refuse(&self, fault: Fault) -> Item {
        let column = fault.column.into_owned();
        Item::Refused(Refusal { file: self.file.clone(), line: self.rows, column, reason: fault.reason })
    }
}

impl TraceStream for ColdframeParquet {
    fn next_item(&mut self) -> Result<Option<Item>, TraceError> {
        loop {
            if let Some(record) = self.order.pop(self.at_end) {
                return Ok(Some(Item::Record(record)));
            }
            if self.at_end {
                return Ok(None);
            }
            if self.at == self.batch_len && !self.fill()? {
                self.at_end = true;
                continue;
            }
            self.rows += 1;
            let record = self.record();
            self.at += 1;
            let pushed = match record {
                Ok(record) => self.order.push(record),
                Err(fault) => return Ok(Some(self.refuse(fault))),
            };
            match pushed {
                Pushed::Through(record) => return Ok(Some(Item::Record(record))),
                Pushed::Held => {}
                Pushed::Refused(reason) => return Ok(Some(self.refuse(Fault::at("arrival_s", reason)))),
                Pushed::Full(reason) => {
                    return Err(TraceError::Format { file: self.file.clone(), line: self.rows, reason });
                }
            }
        }
    }

    fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    fn rows_in(&self) -> u64 {
        self.rows
    }

    fn progress(&self) -> Option<f64> {
        Some(self.rows as f64 / self.total.max(1) as f64)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn warnings(&self) -> Vec<String> {
        self.warnings.clone()
    }
}
