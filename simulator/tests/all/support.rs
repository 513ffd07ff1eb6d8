//! Random fleets, policies and traces for the tests, and a driver that watches a world event by event.
//!
//! Sizes are toys (a backbone of ten gigabytes, devices just above it), so that memory is always short. It asserts
//! nothing about a policy's quality.

use coldframe_policy::artifact::Class;
use coldframe_policy::config::{PolicyConfig, preset, preset_names};
use coldframe_policy::parts::batching::{BatchingPart, Delay, Order};
use coldframe_policy::parts::eviction::EvictionPart;
use coldframe_policy::parts::keep_alive::KeepAlivePart;
use coldframe_policy::parts::preload::PreloadPart;
use coldframe_policy::parts::routing::RoutingPart;
use coldframe_policy::parts::scaling::ScalingPart;
use coldframe_policy::parts::sharing::SharingPart;
use coldframe_simulator::profile::{ColdStart, GpuProfile, ModelProfile, RowTimes, StepProfile};
use coldframe_simulator::setup::{Model, Setup};
use coldframe_simulator::validate::Held;
use coldframe_simulator::world::World;
use coldframe_traces::{Catalog, FunctionInfo, Record, TraceStream};
use proptest::prelude::*;
use std::collections::BTreeMap;

const GB: u64 = 1_000_000_000;
const S: u64 = 1_000_000_000;

/// Weights of the toy backbones.
pub const WEIGHTS: u64 = 10 * GB;
/// KV bytes of one token.
pub const KV: u64 = 1_000_000;

/// A toy backbone; later ones are a little smaller.
pub fn model(n: u32) -> Model {
    let name = format!("m{n}");
    Model {
        profile: ModelProfile {
            name: name.clone(),
            aliases: Vec::new(),
            same_shape: Vec::new(),
            source: "toy".to_owned(),
            layers: 10,
            hidden: 64,
            weight_bytes: WEIGHTS - u64::from(n) * GB,
            kv_bytes_per_token: KV,
            adapter_bytes_per_rank: 10_000_000,
            vocab: 100,
        },
        step: StepProfile {
            name: "toy".to_owned(),
            gpu: "a100-80".to_owned(),
            model: name,
            source: "toy".to_owned(),
            prefill_floor_ps: 9_000_000_000,
            prefill_a_ps: 8_000_000_000,
            prefill_b_ps: 60_000_000,
            prefill_c_ps: 900,
            decode_a_ps: 12_000_000_000,
            decode_b_ps: 150_000_000,
            decode_rows_ps: RowTimes::default(),
            decode_c_ps: 20_000,
            host_ps: 1_000_000_000,
            adapter_layer_ps: 10_000_000,
            adapter_token_ps: 0,
            serving_row_ps: 0,
            engine: None,
            edge: None,
        },
    }
}

/// A toy fleet under a policy: devices hold one backbone and `spare` bytes.
pub fn setup(policy: PolicyConfig) -> Setup {
    Setup {
        policy,
        gpu: GpuProfile {
            name: "a100-80".to_owned(),
            aliases: Vec::new(),
            about: "toy".to_owned(),
            source: "toy".to_owned(),
            memory_bytes: 16 * GB,
            memory_bytes_per_s: 1_500 * GB,
            host_link_bytes_per_s: 24 * GB,
            power_w: 400,
        },
        workers: 1,
        gpus_per_worker: 1,
        host_memory_bytes: 64 * GB,
        vcpus: 8,
        models: vec![model(0)],
        cold: ColdStart {
            name: "toy".to_owned(),
            about: "toy".to_owned(),
            source: "toy".to_owned(),
            container_ns: S,
            runtime_ns: 3 * S,
            runtime_bytes: 2 * GB,
            backbone_fixed_ns: S / 10,
            adapter_fixed_ns: S / 2,
            adapter_fast_ns: S / 10,
            adapter_disk_ns: S / 4,
            adapter_disk_bytes_per_s: None,
            adapter_busy_permille: None,
            backbone_mapped: false,
            adapter_activate_ns: S / 100,
            kernel_ns: S,
            kernel_restore_ns: S / 3,
            kernel_bytes: GB / 2,
            remote_bytes_per_s: GB,
            disk_bytes_per_s: 8 * GB,
            default_loader_bytes_per_s: 3 * GB,
            fast_loader_bytes_per_s: 7 * GB,
            host_bytes_per_s: 20 * GB,
        },
        rank: 10,
        slo_ttft_ns: 2 * S,
        slo_tpot_ns: S / 5,
        function_times: BTreeMap::new(),
        seed: 1,
        jitter_permille: 0,
        any_backbone: false,
        start: None,
        sent_late_us: Vec::new(),
        keep_log: true,
    }
}

fn classes() -> impl Strategy<Value = Vec<Class>> {
    (0..=5usize).prop_map(|n| Class::ALL[..n].to_vec())
}

fn seconds() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(0.5), Just(13.0), Just(60.0), Just(600.0)]
}

fn preload() -> impl Strategy<Value = PreloadPart> {
    let window = prop_oneof![Just(5.0), Just(60.0), Just(600.0)];
    prop_oneof![
        Just(PreloadPart::None {}),
        (window.clone(), 1u32..5, classes(), 0u32..4, any::<bool>()).prop_map(
            |(window_s, replan, classes, container_pool, displace)| PreloadPart::Pckp {
                window_s,
                replan_s: f64::from(replan) / 2.0,
                classes,
                container_pool,
                displace,
            }
        ),
        (window, 1u32..5, classes()).prop_map(|(window_s, replan, classes)| PreloadPart::Poisson {
            window_s,
            replan_s: f64::from(replan) / 2.0,
            p_load: 0.06,
            p_offload: 0.94,
            classes,
        }),
    ]
}

fn batching() -> impl Strategy<Value = BatchingPart> {
    let delay = prop_oneof![Just(Delay::MaxBatch), Just(Delay::CurrentBatch), Just(Delay::None)];
    let order = prop_oneof![Just(Order::Margin), Just(Order::Fifo)];
    prop_oneof![
        prop_oneof![Just(1u64), Just(3), Just(1_000_000)]
            .prop_map(|max_batch| BatchingPart::Immediate { max_batch }),
        (delay, order, any::<bool>()).prop_map(|(delay, order, bounded)| BatchingPart::FillOrExpire {
            delay,
            order,
            bounded
        }),
    ]
}

fn keep_alive() -> impl Strategy<Value = KeepAlivePart> {
    prop_oneof![
        (seconds(), seconds(), seconds(), seconds(), seconds()).prop_map(|(c, r, b, a, k)| {
            KeepAlivePart::Fixed { container_s: c, runtime_s: r, backbone_s: b, adapter_s: a, kernel_s: k }
        }),
        (seconds(), seconds(), seconds()).prop_map(|(container_s, min_s, more)| KeepAlivePart::Poisson {
            container_s,
            p_offload: 0.94,
            window_s: 600.0,
            min_s,
            max_s: min_s + more,
        }),
    ]
}

fn eviction() -> impl Strategy<Value = EvictionPart> {
    prop_oneof![
        Just(EvictionPart::None {}),
        Just(EvictionPart::Lru {}),
        any::<bool>().prop_map(|offload_kernels| EvictionPart::LowestDensity { offload_kernels }),
    ]
}

fn scaling() -> impl Strategy<Value = ScalingPart> {
    prop_oneof![
        (1u64..5, 1u64..5)
            .prop_map(|(target, max_instances)| ScalingPart::Concurrency { target, max_instances }),
        (1u64..5).prop_map(|max_instances| ScalingPart::SloMargin { max_instances }),
    ]
}

fn routing() -> impl Strategy<Value = RoutingPart> {
    prop_oneof![
        Just(RoutingPart::LeastLoaded {}),
        Just(RoutingPart::LeastEstimate {}),
        Just(RoutingPart::PreloadScore {})
    ]
}

/// Every preset as it is, and with every part and setting drawn anew.
pub fn policy() -> impl Strategy<Value = PolicyConfig> {
    let name = prop::sample::select(preset_names());
    let parts = (preload(), batching(), keep_alive(), eviction(), scaling(), routing());
    let sharing = prop_oneof![
        Just(SharingPart::Private { exclusive_gpu: false }),
        Just(SharingPart::Private { exclusive_gpu: true }),
        Just(SharingPart::SharedWeights { isolation_permille: 0 }),
        Just(SharingPart::SharedWeights { isolation_permille: 214 }),
    ];
    let engine = (
        prop_oneof![Just(1u32), Just(2), Just(256)],
        prop_oneof![Just(16u32), Just(100), Just(2048)],
        0u32..3,
        1u32..4,
        any::<bool>(),
        prop_oneof![Just(900u32), Just(1000)],
        prop::bool::weighted(0.8),
    );
    let loader = any::<(bool, bool, bool)>();
    let queue = (prop_oneof![Just(2u64), Just(100_000)], prop_oneof![Just(3.0), Just(40.0), Just(600.0)]);
    let drawn = prop::bool::weighted(0.8);
    (name, parts, sharing, engine, loader, queue, drawn).prop_map(
        |(name, parts, sharing, engine, loader, queue, drawn)| {
            let mut p = preset(&name).expect("a preset");
            if !drawn {
                return p;
            }
            let serverful = matches!(p.sharing, SharingPart::OneProcess {});
            (p.preload, p.batching, p.eviction, p.routing) = (parts.0, parts.1, parts.3, parts.5);
            if serverful {
                p.scaling = ScalingPart::Fixed { replicas: engine.3 - 1 };
            } else {
                (p.sharing, p.scaling, p.keep_alive) = (sharing, parts.4, parts.2);
            }
            let e = &mut p.engine;
            (e.max_sequences, e.max_batched_tokens) = (engine.0, engine.1);
            (e.adapter_slots, e.max_adapters) = (engine.3, engine.2.min(engine.3));
            let whole = matches!(p.sharing, SharingPart::Private { exclusive_gpu: true });
            (e.paged_kv, e.memory_permille) = (serverful || whole && engine.4, engine.5);
            e.continuous = engine.6;
            (p.loader.fast, p.loader.host_cache, p.loader.overlap) = loader;
            (p.queue.limit, p.queue.patience_s) = queue;
            p
        },
    )
}

/// A random policy on a random fleet.
pub fn setups() -> impl Strategy<Value = Setup> {
    let fleet = (1u32..=6, 1u32..=3, 1u32..=3, any::<u64>(), prop_oneof![Just(0u32), Just(100)]);
    let spare = prop_oneof![Just(1u64), Just(2), Just(6), Just(14)];
    let host = prop_oneof![Just(3u64), Just(13), Just(60)];
    (policy(), fleet, spare, host).prop_map(|(policy, fleet, spare, host)| {
        let mut s = setup(policy);
        (s.workers, s.gpus_per_worker, s.seed, s.jitter_permille) = (fleet.0, fleet.1, fleet.3, fleet.4);
        s.models = (0..fleet.2).map(model).collect();
        let used = WEIGHTS + GB / 2 + GB / 10 + spare * GB;
        s.gpu.memory_bytes = used * 1000 / u64::from(s.policy.engine.memory_permille);
        s.host_memory_bytes = host * GB;
        s
    })
}

/// The functions of the toy traces: spread over the backbones of a setup.
pub fn functions(setup: &Setup) -> Vec<FunctionInfo> {
    let function = |n: usize| FunctionInfo {
        name: format!("f{n}"),
        adapter: format!("a{n}"),
        base_model: setup.models[n % setup.models.len()].profile.name.clone(),
        tenant: format!("t{}", n % 2),
    };
    (0..6).map(function).collect()
}

/// Bursts, equal times, small and huge gaps; tiny and long prompts and outputs; some near what a device can hold.
pub fn records(most: usize) -> impl Strategy<Value = Vec<Record>> {
    let gap = prop_oneof![
        6 => Just(0u64),
        6 => 1u64..S / 2,
        3 => S..20 * S,
        1 => 60 * S..2000 * S,
    ];
    let prompt = prop_oneof![5 => 1u32..200, 2 => 200u32..1500, 1 => 1500u32..3000];
    let output = prop_oneof![2 => Just(1u32), 5 => 1u32..60, 1 => 200u32..1200];
    let one = (gap, 0u32..6, prompt, output);
    prop::collection::vec(one, 1..most).prop_map(|rows| {
        let mut at = 0;
        let record = |(gap, function, prompt_tokens, output_tokens): (u64, u32, u32, u32)| {
            at += gap;
            Record { arrival_ns: at, function, prompt_tokens, output_tokens, ..Record::default() }
        };
        rows.into_iter().map(record).collect()
    })
}

/// A trace over the functions of a setup.
pub fn trace(setup: &Setup, records: &[Record]) -> Held {
    Held::new(functions(setup), records.to_vec())
}

/// Plays a trace event by event until nothing is left to happen, and asks for contradictions after each.
pub fn drain<'a>(setup: &'a Setup, records: &[Record]) -> Result<World<'a>, String> {
    let held = trace(setup, records);
    let catalog: &Catalog = held.catalog();
    let mut world = World::new(setup);
    let mut next = 0;
    let tokens: u64 = records.iter().map(|r| u64::from(r.prompt_tokens + r.output_tokens)).sum();
    let seconds = records.last().map_or(0, |r| r.arrival_ns) / S + 100_000;
    let most = 10_000 + 1_000 * records.len() as u64 + 2 * tokens + 4 * seconds;
    let mut turns = 0;
    loop {
        match (records.get(next), world.next_at()) {
            (Some(r), due) if due.is_none_or(|at| r.arrival_ns <= at) => {
                world.arrive(r, catalog).map_err(|e| e.to_string())?;
                next += 1;
            }
            (None, None) => return Ok(world),
            _ => world.step(),
        }
        if let Some(problem) = world.core.contradiction() {
            return Err(format!("at {} ns: {problem}", world.now()));
        }
        turns += 1;
        if turns > most {
            return Err(format!("no end after {turns} events, at {} ns", world.now()));
        }
    }
}
