//! The machine at the moment of a scrape: engines, adapters by level, memory by tier, and what the core counted.

use super::requests::labels;
use super::scene::{EngineScene, FunctionScene, Scene};
use super::text::{Kind, Page};
use crate::live::core::{Residency, State};
use crate::live::engine::Snapshot;
use coldframe_policy::artifact::Tier;
use std::collections::{BTreeMap, BTreeSet};

/// Writes everything; `now_s` is seconds since 1970.
pub(super) fn write(page: &mut Page, scene: &Scene, now_s: f64) {
    engines(page, scene);
    adapters(page, scene, now_s);
    memory(page, &scene.residency);
    moved(page, &scene.residency);
    functions(page, &scene.functions);
}

fn engines(page: &mut Page, scene: &Scene) {
    let waiting = |engine: &EngineScene| {
        let parked = scene.functions.iter().filter(|f| f.backbone == engine.name).map(|f| f.seen.waiting);
        engine.snapshot.map_or(0, |seen| seen.waiting as u64) + parked.sum::<u64>()
    };
    let mut family = page.family("vllm:num_requests_running", Kind::Gauge, "Sequences in the batch.");
    for engine in &scene.engines {
        family.count(&labels(&engine.name), engine.snapshot.map_or(0, |seen| seen.running as u64));
    }
    let help = "Of these, those that give way: of functions that lately broke a limit.";
    let mut family = page.family("coldframe_yielding_sequences", Kind::Gauge, help);
    open(scene).for_each(|(engine, seen)| family.count(&labels(&engine.name), seen.yielding as u64));
    let help = "Requests that wait: for their function's artifacts or their turn, and in the engine's queue.";
    let mut family = page.family("vllm:num_requests_waiting", Kind::Gauge, help);
    scene.engines.iter().for_each(|engine| family.count(&labels(&engine.name), waiting(engine)));
    let mut family =
        page.family("vllm:kv_cache_usage_perc", Kind::Gauge, "Share of KV pages in use, 0 to 1.");
    for engine in &scene.engines {
        family.value(&labels(&engine.name), engine.snapshot.map_or(0.0, |seen| usage(&seen)));
    }
    let help = "Size of the KV cache, as labels.";
    let mut family = page.family("vllm:cache_config_info", Kind::Gauge, help);
    for (engine, seen) in open(scene) {
        let (size, blocks) = (engine.page_tokens.to_string(), seen.pages_total.to_string());
        let [model, number] = labels(&engine.name);
        family.count(&[model, number, ("block_size", &size), ("num_gpu_blocks", &blocks)], 1);
    }
    engine_counters(page, scene);
}

fn usage(seen: &Snapshot) -> f64 {
    f64::from(seen.pages.used) / f64::from(seen.pages_total.max(1))
}

fn open(scene: &Scene) -> impl Iterator<Item = (&EngineScene, Snapshot)> {
    scene.engines.iter().filter_map(|engine| Some((engine, engine.snapshot?)))
}

fn engine_counters(page: &mut Page, scene: &Scene) {
    type Count = fn(&Snapshot) -> u64;
    let counts: [(&'static str, &str, Count); 7] = [
        ("vllm:num_preemptions_total", "Sequences put aside for others.", |seen| seen.preempted),
        ("vllm:prefix_cache_queries_total", "Tokens of prompts looked up among cached pages.", |seen| {
            seen.pages.queried_tokens
        }),
        ("vllm:prefix_cache_hits_total", "Of these, found.", |seen| seen.pages.hit_tokens),
        ("coldframe_engine_steps_total", "Steps of the engine.", |seen| seen.steps),
        ("coldframe_engine_failed_steps_total", "Steps that failed as a whole.", |seen| seen.failed_steps),
        ("coldframe_kv_evictions_total", "Cached KV pages given up for others.", |seen| seen.pages.evictions),
        ("coldframe_slow_readers_total", "Generations ended because nobody read them.", |seen| {
            seen.slow_readers
        }),
    ];
    for (name, help, count) in counts {
        let mut family = page.family(name, Kind::Counter, help);
        open(scene).for_each(|(engine, seen)| family.count(&labels(&engine.name), count(&seen)));
    }
    let help = "Time in steps of the engine.";
    let mut family = page.family("coldframe_engine_busy_seconds_total", Kind::Counter, help);
    open(scene).for_each(|(engine, seen)| family.value(&labels(&engine.name), seen.busy_ns as f64 / 1e9));
}

/// An adapter as gateways name it: the function's name. What is of one name is one.
#[derive(Default)]
struct Loaded {
    pinned: bool,
    rank: u32,
}

fn adapters(page: &mut Page, scene: &Scene, now_s: f64) {
    let having: Vec<&FunctionScene> = scene.functions.iter().filter(|f| f.adapter_bytes > 0).collect();
    let mut loaded: BTreeMap<(&str, &'static str), Loaded> = BTreeMap::new();
    for function in &having {
        let level = match function.seen.tier {
            Tier::Device => "gpu",
            Tier::Host => "cpu",
            Tier::Disk | Tier::Remote => continue,
        };
        let one = loaded.entry((function.seen.key.names.function.as_str(), level)).or_default();
        one.pinned |= function.seen.pinned;
        one.rank = one.rank.max(function.rank);
    }
    let on = |level: &str| -> Vec<&str> {
        loaded.keys().filter(|(_, at)| *at == level).map(|(name, _)| *name).collect()
    };
    let waiting: BTreeSet<&str> = having
        .iter()
        .filter(|function| function.seen.waiting > 0)
        .map(|function| function.seen.key.names.function.as_str())
        .collect();
    let waiting: Vec<&str> = waiting.into_iter().collect();
    let (resident, most) = (on("gpu"), fits(scene, &having));
    let help =
        "When this was true, seconds since 1970; which adapters are on the device, which are waited for.";
    page.family("vllm:lora_requests_info", Kind::Gauge, help).value(
        &[
            ("max_lora", &most.to_string()),
            ("running_lora_adapters", &resident.join(",")),
            ("waiting_lora_adapters", &waiting.join(",")),
        ],
        now_s,
    );
    let mut family =
        page.family("vllm:lora_adapter_loaded", Kind::Gauge, "Adapters in memory, one a series.");
    for ((name, level), Loaded { pinned, rank }) in &loaded {
        let (pinned, rank) = (pinned.to_string(), rank.to_string());
        family.count(&[("adapter_name", name), ("level", level), ("pinned", &pinned), ("rank", &rank)], 1);
    }
    let (gpu, cpu) = (resident.len() as f64, on("cpu").len() as f64);
    page.gauge("vllm:num_gpu_loaded_lora_adapters", "Adapters on the device.", gpu);
    page.gauge("vllm:num_cpu_loaded_lora_adapters", "Adapters in host memory and not on the device.", cpu);
    let help = "Adapters that the device has room for beside the backbones, counted by the largest.";
    page.gauge("vllm:max_gpu_lora_adapters", help, most as f64);
}

/// How many adapters of the largest size the device's budget holds beside its backbones.
fn fits(scene: &Scene, having: &[&FunctionScene]) -> u64 {
    let largest = having.iter().map(|function| function.adapter_bytes).max().unwrap_or(0);
    let room = scene.residency.device.capacity.saturating_sub(scene.residency.uses.backbone);
    room.checked_div(largest).unwrap_or(0)
}

fn memory(page: &mut Page, seen: &Residency) {
    let help = "Memory that decisions may use, by tier.";
    let mut family = page.family("coldframe_memory_capacity_bytes", Kind::Gauge, help);
    family.count(&[("tier", "device")], seen.device.capacity);
    family.count(&[("tier", "host")], seen.host.capacity);
    let help =
        "Memory taken, by tier and use; KV pages count as promised, `leaving` until its last call lets go.";
    let mut family = page.family("coldframe_resident_bytes", Kind::Gauge, help);
    for (what, bytes) in [
        ("backbone", seen.uses.backbone),
        ("duplicates", seen.uses.duplicates),
        ("adapters", seen.uses.adapters),
        ("kernels", seen.uses.kernels),
        ("kv", seen.uses.kv),
        ("leaving", seen.uses.leaving),
    ] {
        family.count(&[("tier", "device"), ("use", what)], bytes);
    }
    family.count(&[("tier", "host"), ("use", "all")], seen.host.used);
    let (held, idle) = (&seen.counters.resident_byte_s, &seen.counters.idle_byte_s);
    for (name, help, sums) in [
        ("coldframe_resident_byte_seconds_total", "Bytes times seconds held by artifacts, by tier.", held),
        ("coldframe_idle_byte_seconds_total", "Of these, while no call ran on what was held.", idle),
    ] {
        let mut family = page.family(name, Kind::Counter, help);
        sums.iter().for_each(|(tier, sum)| family.count(&[("tier", tier)], *sum));
    }
    page.gauge("coldframe_parked_requests", "Requests that wait for their function.", seen.waiting as f64);
    page.gauge("coldframe_running_requests", "Requests that run.", seen.running as f64);
}

/// Counters of the core, whose keys are words joined by `/`.
fn moved(page: &mut Page, seen: &Residency) {
    let counters = &seen.counters;
    for (name, help, names, counts) in [
        (
            "coldframe_loads_total",
            "Loads by artifact, tier they came from, and outcome.",
            ["artifact", "tier", "outcome"].as_slice(),
            &counters.loads,
        ),
        (
            "coldframe_evictions_total",
            "Evictions by artifact, tier they went to, and reason.",
            &["artifact", "tier", "reason"],
            &counters.evictions,
        ),
        (
            "coldframe_cold_starts_total",
            "Calls by the farthest artifact they waited for; `warm` waited for none.",
            &["artifact"],
            &counters.cold_starts,
        ),
        ("coldframe_refused_total", "Calls that were refused, by reason.", &["reason"], &counters.refused),
    ] {
        let mut family = page.family(name, Kind::Counter, help);
        for (key, count) in counts {
            let labels: Vec<_> = names.iter().copied().zip(key.split('/')).collect();
            family.count(&labels, *count);
        }
    }
    let mut family =
        page.family("coldframe_cold_wait_seconds_total", Kind::Counter, "Time calls waited, by artifact.");
    for (artifact, ns) in &counters.cold_ns {
        family.value(&[("artifact", artifact)], *ns as f64 / 1e9);
    }
    page.counter("coldframe_calls_arrived_total", "Calls that came to the core.", counters.arrived);
    page.counter("coldframe_calls_admitted_total", "Calls handed to the engine.", counters.admitted);
    page.counter("coldframe_calls_ended_total", "Calls that ran and ended.", counters.ended);
    page.counter("coldframe_calls_cancelled_total", "Calls given up before they ran.", counters.cancelled);
    page.counter("coldframe_policy_changes_total", "Changes of policy.", counters.policies);
}

fn functions(page: &mut Page, functions: &[FunctionScene]) {
    let mut family =
        page.family("coldframe_functions", Kind::Gauge, "Generations that may be called, by state.");
    for (state, word) in [
        (State::Unloaded, "unloaded"),
        (State::Loading, "loading"),
        (State::Loaded, "loaded"),
        (State::Running, "running"),
        (State::Partial, "partial"),
        (State::Sleeping, "sleeping"),
    ] {
        let count = functions.iter().filter(|function| function.seen.state == state).count();
        family.count(&[("state", word)], count as u64);
    }
}
