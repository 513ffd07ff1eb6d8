//! Ledger rows as tables: CSV and Parquet with the same columns, in the same order.
//!
//! Requests and residencies are two tables. Byte-nanoseconds go beyond 64 bits and are left to the reader: bytes and
//! nanoseconds are both there.

use super::row::{LedgerRow, PHASES, RequestRow, ResidencyRow};
use parquet::basic::{Compression, ConvertedType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde::Serialize;
use std::io::{self, Write};
use std::sync::Arc;

/// Which rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// Requests.
    Requests,
    /// Residencies.
    Residency,
}

/// Of what form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Comma-separated, quoted as RFC 4180 has it.
    Csv,
    /// Apache Parquet, one row group, zstd.
    Parquet,
}

/// A value of a row.
enum Cell {
    Text(String),
    Whole(u64),
}

/// Writes the rows of one table.
///
/// # Errors
/// What `out` answers.
pub fn write(table: Table, format: Format, rows: &[LedgerRow], out: impl Write + Send) -> io::Result<()> {
    let cells: Vec<Vec<(String, Cell)>> = rows.iter().filter_map(|row| cells(table, row)).collect();
    let header = header(table);
    match format {
        Format::Csv => csv(&header, &cells, out),
        Format::Parquet => parquet(&header, &cells, out).map_err(io::Error::other),
    }
}

/// Column names and whether each is a number.
fn header(table: Table) -> Vec<(String, bool)> {
    let row = match table {
        Table::Requests => request(&RequestRow {
            id: String::new(),
            tenant: String::new(),
            function: String::new(),
            generation: String::new(),
            backbone: String::new(),
            arrived_ms: 0,
            took_ns: 0,
            outcome: super::Outcome::Completed,
            cold: String::new(),
            prompt_tokens: 0,
            cached_tokens: 0,
            completion_tokens: 0,
            device_ns: 0,
            kv_bytes: 0,
            admitted_ns: 0,
            sandbox_ns: 0,
            fuel: 0,
            guest_bytes: 0,
            ttft_ns: 0,
            phases_ns: [0; 9],
            nanodollars: 0,
        }),
        Table::Residency => residency(&ResidencyRow {
            tenant: String::new(),
            function: String::new(),
            generation: String::new(),
            backbone: String::new(),
            thing: super::Thing::Backbone,
            tier: String::new(),
            bytes: 0,
            start_ms: 0,
            ns: 0,
            keepers: Vec::new(),
            nanodollars: 0,
        }),
    };
    row.into_iter().map(|(name, cell)| (name, matches!(cell, Cell::Whole(_)))).collect()
}

fn cells(table: Table, row: &LedgerRow) -> Option<Vec<(String, Cell)>> {
    match (table, row) {
        (Table::Requests, LedgerRow::Request(row)) => Some(request(row)),
        (Table::Residency, LedgerRow::Residency(row)) => Some(residency(row)),
        _ => None,
    }
}

fn text(name: &str, value: &str) -> (String, Cell) {
    (name.to_owned(), Cell::Text(value.to_owned()))
}

fn whole(name: &str, value: u64) -> (String, Cell) {
    (name.to_owned(), Cell::Whole(value))
}

/// A word of an enum, as its JSON has it.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn request(row: &RequestRow) -> Vec<(String, Cell)> {
    let mut all = vec![
        text("id", &row.id),
        text("tenant", &row.tenant),
        text("function", &row.function),
        text("generation", &row.generation),
        text("backbone", &row.backbone),
        whole("arrived_ms", row.arrived_ms),
        whole("took_ns", row.took_ns),
        text("outcome", &word(&row.outcome)),
        text("cold", &row.cold),
        whole("prompt_tokens", row.prompt_tokens),
        whole("cached_tokens", row.cached_tokens),
        whole("completion_tokens", row.completion_tokens),
        whole("device_ns", row.device_ns),
        whole("kv_bytes", row.kv_bytes),
        whole("admitted_ns", row.admitted_ns),
        whole("sandbox_ns", row.sandbox_ns),
        whole("fuel", row.fuel),
        whole("guest_bytes", row.guest_bytes),
        whole("ttft_ns", row.ttft_ns),
    ];
    all.extend(PHASES.iter().zip(row.phases_ns).map(|(name, ns)| whole(&format!("{name}_ns"), ns)));
    all.push(whole("nanodollars", row.nanodollars));
    all
}

fn residency(row: &ResidencyRow) -> Vec<(String, Cell)> {
    let keepers =
        row.keepers.iter().map(|(tenant, function, weight)| format!("{tenant}/{function}={weight}"));
    vec![
        text("tenant", &row.tenant),
        text("function", &row.function),
        text("generation", &row.generation),
        text("backbone", &row.backbone),
        text("thing", &word(&row.thing)),
        text("tier", &row.tier),
        whole("bytes", row.bytes),
        whole("start_ms", row.start_ms),
        whole("ns", row.ns),
        text("keepers", &keepers.collect::<Vec<_>>().join(";")),
        whole("nanodollars", row.nanodollars),
    ]
}

fn csv(header: &[(String, bool)], rows: &[Vec<(String, Cell)>], mut out: impl Write) -> io::Result<()> {
    let names: Vec<&str> = header.iter().map(|(name, _)| name.as_str()).collect();
    writeln!(out, "{}", names.join(","))?;
    for row in rows {
        let fields: Vec<String> = row.iter().map(|(_, cell)| field(cell)).collect();
        writeln!(out, "{}", fields.join(","))?;
    }
    out.flush()
}

/// Quoted where needed. A text that a spreadsheet would run as a formula is quoted with an apostrophe before it.
fn field(cell: &Cell) -> String {
    match cell {
        Cell::Whole(value) => value.to_string(),
        Cell::Text(text) => {
            let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
            let text = if formula { format!("'{text}") } else { text.clone() };
            if text.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text
            }
        }
    }
}

fn parquet(
    header: &[(String, bool)],
    rows: &[Vec<(String, Cell)>],
    out: impl Write + Send,
) -> Result<(), ParquetError> {
    let mut fields = Vec::new();
    for (name, number) in header {
        let physical = if *number { Physical::INT64 } else { Physical::BYTE_ARRAY };
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        let kind = if *number { ConvertedType::UINT_64 } else { ConvertedType::UTF8 };
        fields.push(Arc::new(field.with_converted_type(kind).build()?));
    }
    let schema = Arc::new(Type::group_type_builder("coldframe_ledger").with_fields(fields).build()?);
    let level = ZstdLevel::try_new(3)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by("coldframe".to_owned())
        .build();
    let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (at, (_, number)) in header.iter().enumerate() {
        let column = rows.iter().map(|row| &row[at].1);
        let mut to = group.next_column()?.expect("as many columns as the schema has");
        if *number {
            let values: Vec<i64> =
                column.map(|cell| if let Cell::Whole(value) = cell { *value as i64 } else { 0 }).collect();
            to.typed::<Int64Type>().write_batch(&values, None, None)?;
        } else {
            let values: Vec<ByteArray> = column
                .map(|cell| {
                    if let Cell::Text(text) = cell {
                        ByteArray::from(text.as_str())
                    } else {
                        ByteArray::new()
                    }
                })
                .collect();
            to.typed::<ByteArrayType>().write_batch(&values, None, None)?;
        }
        to.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}
