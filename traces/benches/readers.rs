//! Reading speed: rows per second of the hot formats, invocations per second of count placement.
//!
//! `cargo bench -p coldframe-traces`. Inputs are made in memory, so disks and data sets play no part.

use coldframe_traces::{OpenOptions, TraceStream, open_reader};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

/// Bytes that many readers share.
#[derive(Clone)]
struct Shared(Arc<[u8]>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn drain(text: &Shared) -> u64 {
    let reader = std::io::Cursor::new(text.clone());
    let mut stream = open_reader(reader, Path::new("bench"), &OpenOptions::default()).expect("opens");
    let mut items = 0;
    while let Some(item) = stream.next_item().expect("reads") {
        black_box(&item);
        items += 1;
    }
    items
}

fn bench(c: &mut Criterion, name: &str, text: String, items: u64) {
    let text = Shared(text.into_bytes().into());
    assert_eq!(drain(&text), items);
    let mut group = c.benchmark_group("readers");
    group.throughput(Throughput::Elements(items)).sample_size(10);
    group.bench_function(name, |b| b.iter(|| drain(&text)));
    group.finish();
}

fn azure_llm(c: &mut Criterion) {
    let row = |i: u32| {
        format!(
            "2023-11-16 {:02}:{:02}:{:02}.{:07},{},{}\r\n",
            i / 360_000 + 1,
            i / 6000 % 60,
            i / 100 % 60,
            i % 100 * 100_000,
            i % 7000,
            i % 900
        )
    };
    let rows: String = (0..500_000).map(row).collect();
    bench(c, "azure-llm", format!("TIMESTAMP,ContextTokens,GeneratedTokens\r\n{rows}"), 500_000);
}

fn native_csv(c: &mut Criterion) {
    let row = |i: u32| {
        let f = i.wrapping_mul(2_654_435_761) >> 25;
        format!(
            "{}.{:06},fn-{f:04},lora-{f:04},llama-2-7b,{},{},tenant-{f:04},,,,,\n",
            i / 100,
            i % 100 * 10_000,
            i % 7000,
            i % 900
        )
    };
    let rows: String = (0..500_000).map(row).collect();
    let header = "arrival_s,function,adapter,base_model,prompt_tokens,output_tokens,tenant,slo_class,session,turn,prefix_group,duration_s";
    bench(c, "coldframe-csv", format!("{header}\n{rows}"), 500_000);
}

fn azure_2019(c: &mut Criterion) {
    // 1,000 functions over a day: a few hot, most with a call now and then; 4.3 million invocations.
    let minutes: Vec<String> = (1..=1440).map(|m| m.to_string()).collect();
    let mut text = format!("HashOwner,HashApp,HashFunction,Trigger,{}\n", minutes.join(","));
    let mut total = 0u64;
    for f in 0..1000u32 {
        let count = |m: u32| -> u32 {
            match f {
                0..20 => 140,
                _ if (m + f).is_multiple_of(7) => 1,
                _ => 0,
            }
        };
        total += (1..=1440).map(|m| u64::from(count(m))).sum::<u64>();
        let counts: Vec<String> = (1..=1440).map(|m| count(m).to_string()).collect();
        text.push_str(&format!("o{f},a{f},f{f},http,{}\n", counts.join(",")));
    }
    bench(c, "azure-functions-2019", text, total);
}

criterion_group!(benches, azure_llm, native_csv, azure_2019);
criterion_main!(benches);
