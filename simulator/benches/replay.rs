//! Replay speed per policy, and of its hottest parts: requests, invocations, queue events and shared-resource changes a
//! second.
//!
//! `cargo bench -p coldframe-simulator`. Traces are drawn in memory, so disks and data sets play no part. The promises
//! of docs/spec.md are measured by `scripts/bench.sh replay`.

use coldframe_policy::config::preset;
use coldframe_simulator::kernel::queue::Queue;
use coldframe_simulator::kernel::sharing::Sharing;
use coldframe_simulator::profile::Profiles;
use coldframe_simulator::run::{Hooks, run};
use coldframe_simulator::setup::{Model, Setup};
use coldframe_traces::generate::preset as workload;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::collections::BTreeMap;
use std::hint::black_box;

fn setup(policy: &str) -> Setup {
    let gpu = Profiles::gpu("a100-80").expect("shipped");
    let profile = Profiles::model("llama-2-7b").expect("shipped");
    let step = Profiles::step(&gpu, &profile).expect("shipped");
    Setup {
        policy: preset(policy).expect("a preset"),
        gpu,
        workers: 4,
        gpus_per_worker: 1,
        host_memory_bytes: 256_000_000_000,
        vcpus: 16,
        models: vec![Model { profile, step }],
        cold: Profiles::cold_start("container").expect("shipped"),
        rank: 16,
        slo_ttft_ns: 2_000_000_000,
        slo_tpot_ns: 200_000_000,
        function_times: BTreeMap::new(),
        seed: 1,
        jitter_permille: 0,
        any_backbone: false,
        start: None,
        sent_late_us: Vec::new(),
        keep_log: false,
    }
}

fn policies(c: &mut Criterion) {
    let mut group = c.benchmark_group("replay demo-zipf");
    group.sample_size(10);
    for policy in ["vllm", "serverlessllm", "instainfer", "serverlesslora"] {
        let setup = setup(policy);
        let replay = || {
            let mut trace = workload("demo-zipf", None, 1).expect("a workload");
            run(&setup, &[], trace.as_mut(), Hooks::default()).expect("replays").records
        };
        group.throughput(Throughput::Elements(replay()));
        group.bench_function(policy, |b| b.iter(|| black_box(replay())));
    }
    group.finish();
}

fn kernel(c: &mut Criterion) {
    let mut group = c.benchmark_group("kernel");
    group.throughput(Throughput::Elements(10_000));
    group.bench_function("queue: push and pop among 64", |b| {
        b.iter(|| {
            let mut queue = Queue::default();
            (0..64u64).for_each(|n| queue.push(n * 7919 % 64, n));
            for _ in 0..10_000 {
                let (at, event) = queue.pop().expect("never empty");
                queue.push(at + 1 + event * 31 % 97, event);
            }
            black_box(queue.len())
        });
    });
    group.bench_function("sharing: finish and start among 16", |b| {
        b.iter(|| {
            let mut gpu = Sharing::new(1000);
            (0..16u32).for_each(|user| gpu.start(user, 1_000_000 + u64::from(user)));
            for _ in 0..10_000 {
                let at = gpu.next_done_at().expect("always busy");
                gpu.advance(at);
                let user = gpu.take_done().expect("due");
                gpu.start(user, 1_000_000 + u64::from(user) * 977);
            }
            black_box(gpu.virtual_ps())
        });
    });
    group.finish();
}

criterion_group!(benches, policies, kernel);
criterion_main!(benches);
