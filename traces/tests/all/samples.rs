//! The committed samples are what their generator makes, and stay small.

use crate::read_all;
use coldframe_traces::info::functions::{CovClass, FunctionStats};
use coldframe_traces::{OpenOptions, TraceStream, open, preset};
use std::path::{Path, PathBuf};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name)
}

fn same_as_generated(file: &str, name: &str, seed: u64) -> usize {
    let mut made = preset(name, None, seed).expect("generates");
    let mut read = open(&sample(file), &OpenOptions::default()).expect("opens");
    let ((made_records, _), (read_records, refused)) = (read_all(&mut made), read_all(&mut read));
    assert!(refused.is_empty());
    assert_eq!(made_records.len(), read_records.len());
    for (a, b) in made_records.iter().zip(&read_records) {
        assert_eq!(
            (a.arrival_ns, a.prompt_tokens, a.output_tokens),
            (b.arrival_ns, b.prompt_tokens, b.output_tokens)
        );
        let identity = |stream: &dyn TraceStream, i: u32| stream.catalog().functions()[i as usize].clone();
        assert_eq!(identity(&made, a.function), identity(&read, b.function));
    }
    read_records.len()
}

#[test]
fn samples_are_reproducible() {
    let requests = same_as_generated("demo-bursty.csv.gz", "demo-bursty", 2);
    assert!((3000..10_000).contains(&requests));
    same_as_generated("demo-zipf.csv.gz", "demo-zipf", 1);
}

#[test]
fn samples_are_small() {
    let files = std::fs::read_dir(sample("")).expect("the folder of samples");
    let bytes: u64 = files.map(|f| f.and_then(|f| f.metadata()).expect("a file").len()).sum();
    assert!(bytes < 200_000, "{bytes} bytes");
}

#[test]
fn the_demo_has_the_classes_in_its_names() {
    let mut stream = open(&sample("demo-bursty.csv.gz"), &OpenOptions::default()).expect("opens");
    let (records, _) = read_all(&mut stream);
    let mut stats = FunctionStats::default();
    records.iter().for_each(|r| stats.add(r));
    let functions = stream.catalog().functions();
    assert_eq!(functions.len(), 8);
    for (i, info) in functions.iter().enumerate() {
        let class =
            CovClass::ALL.iter().find(|(name, _)| info.name.ends_with(name)).expect("named by class").1;
        assert_eq!(stats.class(i as u32), class, "{}", info.name);
    }
}

#[test]
fn paper_presets_without_data_say_so() {
    for name in ["paper-predictable", "paper-normal", "paper-bursty"] {
        let mut stream = preset(name, None, 3).expect("generates");
        assert!(stream.warnings().iter().any(|w| w.contains("COLDFRAME_DATA is not set")), "{name}");
        let (records, _) = read_all(&mut stream);
        assert!(
            records.len() > 160 && records.last().is_some_and(|r| r.arrival_ns < 14_400_000_000_000),
            "{name}"
        );
        assert_eq!(stream.catalog().functions().len(), 8);
    }
    assert!(preset("spiky-code", None, 1).err().expect("needs data").to_string().contains("COLDFRAME_DATA"));
    assert!(preset("nope", None, 1).err().expect("unknown").to_string().contains("paper-bursty"));
}
