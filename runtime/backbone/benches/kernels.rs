//! The speed of the packed products by shape, rows and tier, against the machine's peaks.
//!
//! `cargo bench -p coldframe-backbone --bench kernels [-- FILTER]`. Weights are rotated over copies that together exceed
//! the second-level cache, so that one row is measured streaming them, as decoding does.

use coldframe_backbone::kernels::{Acts, Tier, peaks, tile_on};
use coldframe_backbone::pack::{Format, PANEL, Packed};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;

/// `(name, n, k, format)`: the feed-forward of a 135M Llama, its head, and float matrices.
const SHAPES: [(&str, usize, usize, Format); 5] = [
    ("gate", 1536, 576, Format::Q4_1),
    ("down", 576, 1536, Format::Q4_1),
    ("head", 49152, 576, Format::Q8_0),
    ("f32", 1536, 576, Format::F32),
    ("bf16", 1536, 576, Format::Bf16),
];
/// Bytes that the copies of a weight fill together.
const SPREAD: usize = 64 << 20;

fn main() {
    let found = peaks();
    println!(
        "peaks of one thread: int8 {:.0} GOP/s, bf16 {:.0}, f32 {:.0}, read {:.1} GB/s",
        found.int8 / 1e9,
        found.bf16.unwrap_or(0.0) / 1e9,
        found.f32 / 1e9,
        found.read / 1e9
    );
    let mut criterion = Criterion::default().configure_from_args();
    for (name, n, k, format) in SHAPES {
        for tier in Tier::ALL.into_iter().filter(|tier| tier.runs()) {
            for rows in [1, 4, 16, 128, 512] {
                if rows > 16 && (tier == Tier::Portable || n > 10_000) {
                    continue;
                }
                measure(&mut criterion, &format!("{name}/{tier}"), (n, k, format), tier, rows);
            }
        }
    }
    criterion.final_summary();
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    (n, k, format): (usize, usize, Format),
    tier: Tier,
    rows: usize,
) {
    let panels = n / PANEL;
    let size = panels * format.panel_bytes(k);
    let copies = SPREAD.div_ceil(size);
    // Any codes and scales cost the same; these bytes are finite in every format.
    let bytes = vec![0x2a; size * copies];
    let mut acts = Acts::default();
    acts.reshape(rows, k);
    let values: Vec<f32> = (0..k).map(|at| (at % 17) as f32 - 8.0).collect();
    (0..rows).for_each(|row| acts.put(row, &values, !format.is_float()));
    let mut out = vec![0.0; rows * n];
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10).measurement_time(std::time::Duration::from_millis(300));
    group.warm_up_time(std::time::Duration::from_millis(50));
    group.throughput(Throughput::Elements((2 * rows * n * k) as u64));
    let mut turn = 0;
    group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
        bencher.iter(|| {
            turn = (turn + 1) % copies;
            let weight = Packed { format, n, k, bytes: &bytes[turn * size..(turn + 1) * size] };
            tile_on(tier, &weight, &acts, 0..rows, 0..panels, black_box(&mut out), n);
        });
    });
    group.finish();
}
