//! Writing our own format: CSV, JSONL, Parquet, packed with gzip or zstd or not.
//!
//! The file's head carries the notes of the stream, so a trace says how it was made. Names are written in full on each
//! row (they pack well). It leaves out where the bytes go: any `Write` will do.

mod csv;
mod jsonl;
mod parquet;

use crate::record::{Catalog, Record, TraceError};
use std::io::{self, Write};
use std::path::Path;

/// Shape of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Comma-separated values.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Parquet in row groups of 65,536.
    Parquet,
}

/// Packing around CSV and JSONL; Parquet packs its own pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As it is.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// Shape and packing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFormat {
    /// Shape of the rows.
    pub shape: Shape,
    /// Packing around them.
    pub packing: Packing,
}

impl WriteFormat {
    /// By a file name's ending: `.csv`, `.jsonl`, `.parquet`, the first two also with `.gz` or `.zst`.
    pub fn by_name(path: &Path) -> Result<Self, TraceError> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("").to_ascii_lowercase();
        let (bare, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
            (Some(bare), _) => (bare, Packing::Gzip),
            (_, Some(bare)) => (bare, Packing::Zstd),
            _ => (name.as_str(), Packing::Plain),
        };
        let shape = match bare.rsplit_once('.').map_or("", |(_, ending)| ending) {
            "csv" => Shape::Csv,
            "jsonl" | "ndjson" => Shape::Jsonl,
            "parquet" if packing == Packing::Plain => Shape::Parquet,
            _ => {
                return Err(TraceError::Setting(format!(
                    "{}: the ending says no format; use .csv, .jsonl (each also .gz or .zst) or .parquet",
                    path.display()
                )));
            }
        };
        Ok(Self { shape, packing })
    }
}

enum Packed<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Write for Packed<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(w) => w.write(buf),
            Self::Gzip(w) => w.write(buf),
            Self::Zstd(w) => w.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(w) => w.flush(),
            Self::Gzip(w) => w.flush(),
            Self::Zstd(w) => w.flush(),
        }
    }
}

#[allow(
    clippy::large_enum_variant,
    reason = "a file has one writer; the size depends on the compressor's features"
)]
enum Kind<W: Write + Send> {
    Text { out: Box<Packed<W>>, line: Vec<u8>, json: bool },
    Parquet(Box<parquet::Writer<W>>),
}

/// Writes records in our format.
pub struct TraceWriter<W: Write + Send> {
    kind: Kind<W>,
    rows: u64,
}

impl<W: Write + Send> TraceWriter<W> {
    /// Starts a file on `out`; `notes` go to its head.
    pub fn new(out: W, format: WriteFormat, notes: &[String]) -> io::Result<Self> {
        if format.shape == Shape::Parquet {
            return Ok(Self { kind: Kind::Parquet(Box::new(parquet::Writer::new(out, notes)?)), rows: 0 });
        }
        let mut out = match format.packing {
            Packing::Plain => Packed::Plain(out),
            Packing::Gzip => {
                Packed::Gzip(flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::best()))
            }
            // Level 9 packs a trace about as well as gzip's best, in less time.
            Packing::Zstd => Packed::Zstd(zstd::stream::write::Encoder::new(out, 9)?),
        };
        let json = format.shape == Shape::Jsonl;
        let mut line = vec![];
        if json {
            jsonl::head(&mut line, notes)
        } else {
            csv::head(&mut line, notes)
        }
        out.write_all(&line)?;
        Ok(Self { kind: Kind::Text { out: Box::new(out), line, json }, rows: 0 })
    }

    /// Writes one record, whose function is in `catalog`.
    pub fn write(&mut self, record: &Record, catalog: &Catalog) -> io::Result<()> {
        self.rows += 1;
        match &mut self.kind {
            Kind::Text { out, line, json } => {
                line.clear();
                if *json {
                    jsonl::row(line, record, catalog)
                } else {
                    csv::row(line, record, catalog)
                }
                out.write_all(line)
            }
            Kind::Parquet(writer) => writer.write(record, catalog),
        }
    }

    /// Rows written.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Ends the file and gives the output back.
    pub fn finish(self) -> io::Result<W> {
        match self.kind {
            Kind::Text { out, .. } => match *out {
                Packed::Plain(mut w) => {
                    w.flush()?;
                    Ok(w)
                }
                Packed::Gzip(w) => w.finish(),
                Packed::Zstd(w) => w.finish(),
            },
            Kind::Parquet(writer) => writer.finish(),
        }
    }
}

/// Nanoseconds as decimal seconds without trailing zeros: 1500000000 → `1.5`.
pub(crate) fn put_seconds(out: &mut Vec<u8>, ns: u64) {
    // Writing to a Vec can't fail.
    let _ = write!(out, "{}", ns / 1_000_000_000);
    let rest = ns % 1_000_000_000;
    if rest > 0 {
        let _ = write!(out, ".{rest:09}");
        let used = out.iter().rposition(|b| *b != b'0').expect("a point stands before");
        out.truncate(used + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FunctionInfo, Item, TraceStream};

    #[test]
    fn seconds() {
        let check = |ns: u64, want: &str| {
            let mut out = vec![];
            put_seconds(&mut out, ns);
            assert_eq!(String::from_utf8_lossy(&out), want);
        };
        check(0, "0");
        check(1_500_000_000, "1.5");
        check(1, "0.000000001");
        check(u64::MAX, "18446744073.709551615");
        check(10_000_000_000, "10");
    }

    #[test]
    fn formats_by_name() {
        let check = |name: &str, want: Option<(Shape, Packing)>| {
            let got = WriteFormat::by_name(Path::new(name)).ok();
            assert_eq!(got, want.map(|(shape, packing)| WriteFormat { shape, packing }), "{name}");
        };
        check("a.csv", Some((Shape::Csv, Packing::Plain)));
        check("a.b.JSONL.gz", Some((Shape::Jsonl, Packing::Gzip)));
        check("a.csv.zst", Some((Shape::Csv, Packing::Zstd)));
        check("a.parquet", Some((Shape::Parquet, Packing::Plain)));
        check("a.parquet.gz", None);
        check("a.txt", None);
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut catalog = Catalog::new();
        let odd = FunctionInfo {
            name: "a,\"b\"".into(),
            adapter: "Ä".into(),
            base_model: "m".into(),
            tenant: String::new(),
        };
        let functions =
            [catalog.intern(odd), catalog.intern(FunctionInfo { name: "f".into(), ..Default::default() })];
        catalog.slo_classes.push("gold".into());
        let record = |i: u64| Record {
            arrival_ns: i * 333_333_333,
            function: functions[(i % 2) as usize],
            prompt_tokens: i as u32,
            output_tokens: 7,
            duration_ns: i * 5,
            slo_class: (i % 2) as u32,
            session: i * 11,
            turn: i as u32 % 3,
            prefix: (!i.is_multiple_of(3)).then(|| vec![i, u64::MAX].into_boxed_slice()),
        };
        let records: Vec<Record> = (0..20_000).map(record).collect();
        for name in ["x.csv", "x.csv.gz", "x.jsonl", "x.jsonl.zst", "x.parquet"] {
            let file = tempfile::Builder::new().suffix(name).tempfile().expect("temporary file");
            let format = WriteFormat::by_name(Path::new(name)).expect("known");
            let notes = vec!["made by a test".to_owned(), "seed 1".to_owned()];
            let mut writer = TraceWriter::new(file.reopen().expect("opens"), format, &notes).expect("starts");
            records.iter().for_each(|r| writer.write(r, &catalog).expect("writes"));
            writer.finish().expect("finishes");
            let mut stream = crate::open(file.path(), &crate::OpenOptions::default()).expect("opens");
            assert_eq!(stream.notes(), notes, "{name}");
            for want in &records {
                let item = stream.next_item().expect("reads").expect("has a row");
                let Item::Record(got) = item else { panic!("{name}: {item:?}") };
                let (a, b) = (
                    &stream.catalog().functions()[got.function as usize],
                    &catalog.functions()[want.function as usize],
                );
                assert_eq!(a, b, "{name}");
                assert_eq!(
                    stream.catalog().slo_classes[got.slo_class as usize],
                    catalog.slo_classes[want.slo_class as usize]
                );
                assert_eq!(
                    Record { function: 0, slo_class: 0, ..got },
                    Record { function: 0, slo_class: 0, ..want.clone() },
                    "{name}"
                );
            }
            assert!(stream.next_item().expect("reads").is_none());
            assert!(stream.warnings().is_empty(), "{name}: {:?}", stream.warnings());
        }
    }
}
