//! Both sinks on one fixture.

use super::*;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use std::fs::File;
use std::sync::{Arc, Mutex};

fn row(id: u64) -> RequestRow {
    RequestRow {
        id,
        function: (id % 3) as u32,
        adapter: (id % 3) as u32,
        base_model: 0,
        gpu: 1,
        arrival_ns: id * 1_000,
        first_scheduled_ns: id * 1_000 + 10,
        cold_kind: "adapter",
        queue_ns: 10,
        container_ns: 0,
        runtime_ns: 0,
        backbone_ns: 0,
        adapter_ns: 30,
        kernel_ns: 0,
        prefill_ns: 60,
        ttft_ns: 100,
        tpot_ns: 7,
        worst_gap_ns: 12,
        e2e_ns: 240,
        prompt_tokens: 1_155,
        output_tokens: 21,
        preemptions: 0,
        slo_ttft: true,
        slo_tpot: false,
        outcome: Outcome::Completed,
        policy: 0,
        seed: 7,
        compute_ns: u64::MAX,
    }
}

fn lookup() -> Lookup {
    Box::new(|kind, number| match (kind, number) {
        (NameKind::Function, 0) => Some("a,\"b\"".to_owned()),
        (NameKind::Function, 1) => Some("plain".to_owned()),
        (NameKind::Policy, 0) => Some("lru".to_owned()),
        _ => None,
    })
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn columns_and_values_agree() {
    for (value, (name, kind)) in values(&row(1)).iter().zip(COLUMNS) {
        let fits = matches!(
            (value, kind),
            (Value::Whole64(_), Kind::Whole64)
                | (Value::Whole32(_), Kind::Whole32 | Kind::Name(_))
                | (Value::Flag(_), Kind::Flag)
                | (Value::Text(_), Kind::Text)
        );
        assert!(fits, "{name}");
    }
}

#[test]
fn csv_quotes_names() {
    let out = Shared::default();
    let mut sink: Box<dyn RowSink> = Box::new(CsvSink::new(out.clone(), lookup()).expect("memory"));
    for id in 0..3 {
        sink.row(&row(id)).expect("memory");
    }
    sink.finish().expect("memory");
    let text = String::from_utf8(out.0.lock().expect("not poisoned").clone()).expect("text");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    assert!(
        lines[0].starts_with("policy,seed,id,function,adapter,base_model,gpu,outcome,cold_kind,arrival_ns")
    );
    assert!(
        lines[1].starts_with(
            "lru,7,0,\"a,\"\"b\"\"\",#0,#0,1,completed,adapter,0,10,10,0,0,0,30,0,60,100,7,12,240"
        )
    );
    assert!(
        lines[2].starts_with("lru,7,1,plain,#1,")
            && lines[2].ends_with(",1155,21,0,true,false,18446744073709551615")
    );
}

#[test]
fn parquet_reads_back_over_row_groups() {
    let path = std::env::temp_dir().join(format!("coldframe-rows-{}.parquet", std::process::id()));
    let file = File::create(&path).expect("a temporary file");
    let mut sink: Box<dyn RowSink> = Box::new(ParquetSink::new(file, lookup()).expect("a file"));
    let rows = 65_536 + 10;
    for id in 0..rows {
        sink.row(&row(id)).expect("a file");
    }
    sink.finish().expect("a file");
    let reader = SerializedFileReader::new(File::open(&path).expect("just written")).expect("Parquet");
    assert_eq!(reader.metadata().num_row_groups(), 2);
    assert_eq!(reader.metadata().file_metadata().num_rows(), rows as i64);
    let last = reader.get_row_iter(None).expect("rows").last().expect("some").expect("a row");
    let field = |name: &str| {
        let found = last.get_column_iter().find(|(column, _)| *column == name);
        found.map(|(_, field)| field.clone()).expect("the column")
    };
    assert_eq!(field("id"), Field::ULong(rows - 1));
    assert_eq!(field("function"), Field::Str("plain".into()));
    assert_eq!(field("policy"), Field::Str("lru".into()));
    assert_eq!(field("slo_tpot"), Field::Bool(false));
    assert_eq!(field("compute_ns"), Field::ULong(u64::MAX));
    assert_eq!(field("prompt_tokens"), Field::UInt(1_155));
    std::fs::remove_file(&path).expect("our own file");
}

#[test]
fn a_full_disk_is_told() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::new(io::ErrorKind::StorageFull, "full"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(CsvSink::new(Full, lookup()).is_err());
    let failed = ParquetSink::new(Full, lookup()).and_then(|sink| Box::new(sink).finish());
    assert!(failed.is_err());
}
