//! Made-up reports for tests: any number of policies and seeds, every invariant kept.
//!
//! Requests are drawn from simple laws with a fixed generator, so the curves look like real ones. No number here
//! says anything about a real policy.

use super::check::{CAUSES, LINKS, MEMORY_USES, STAGES};
use super::model::*;
use std::collections::BTreeMap;

/// A generator that is good enough to make up data (xorshift64*).
struct Draw(u64);

impl Draw {
    fn new(seed: u64) -> Self {
        Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    /// Log-normal with this median and spread.
    fn around(&mut self, median: f64, spread: f64) -> f64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        median * (spread * normal).exp()
    }
}

/// How a made-up policy behaves.
struct Habit {
    name: &'static str,
    about: &'static str,
    /// Share of requests that meet a cold start, and what a cold start takes relative to the worst.
    cold: f64,
    depth: f64,
    /// GPU-seconds reserved, and the busy share.
    reserved_s: f64,
    busy: f64,
    duplicates: f64,
}

const HABITS: [Habit; 4] = [
    Habit {
        name: "serverlesslora",
        about: "Shares one backbone, pre-loads adapters and kernels by value density, batches to the limit.",
        cold: 0.04,
        depth: 0.2,
        reserved_s: 9_100.0,
        busy: 0.41,
        duplicates: 0.0,
    },
    Habit {
        name: "serverless-llm",
        about: "Loads checkpoints in tiers and places requests where the start is shortest; no sharing.",
        cold: 0.22,
        depth: 0.55,
        reserved_s: 11_800.0,
        busy: 0.33,
        duplicates: 0.24,
    },
    Habit {
        name: "keep-alive-fixed",
        about: "Keeps every instance for a fixed time after its last request.",
        cold: 0.31,
        depth: 1.0,
        reserved_s: 13_900.0,
        busy: 0.28,
        duplicates: 0.31,
    },
    Habit {
        name: "reserved-slora",
        about: "Never scales down: the whole fleet is reserved and holds every adapter it has met.",
        cold: 0.01,
        depth: 0.05,
        reserved_s: 14_006.8,
        busy: 0.27,
        duplicates: 0.0,
    },
];

const ARRIVED: usize = 1_200;
const FUNCTIONS: usize = 32;
const SPAN_S: f64 = 3_501.7;
const SLO_TTFT_S: f64 = 2.0;
const SLO_TPOT_S: f64 = 0.1;

/// A report with this many policies, each run once per seed 1..=`seeds`.
pub fn report(policies: usize, seeds: usize) -> Report {
    let policies = (0..policies).map(|i| policy(i, seeds)).collect();
    Report {
        schema: SCHEMA.to_owned(),
        tool: "coldframe 0.1.0".to_owned(),
        title: "azure-conv on 4 x A100-80GB".to_owned(),
        trace: trace(),
        inputs: inputs(),
        policies,
        warnings: vec![
            "12 rows had no output tokens and were dropped (`--keep-empty` keeps them).".to_owned(),
        ],
        limits: vec![
            "A step's time is linear in tokens; memory-bound and compute-bound parts are not told apart."
                .to_owned(),
            "The network has no loss and shares its bandwidth equally.".to_owned(),
        ],
    }
}

/// A report of two policies in which no request completed: no latency, no curve, and still a bill.
pub fn nothing_completed() -> Report {
    let mut report = report(2, 1);
    for run in report.policies.iter_mut().flat_map(|policy| &mut policy.runs) {
        let arrived = run.requests.arrived;
        run.requests =
            RequestCounts { arrived, refused: arrived - 5, timed_out: 5, ..RequestCounts::default() };
        (run.prompt_tokens, run.output_tokens) = (0, 0);
        (run.ttft_s, run.tpot_s, run.e2e_s) = Default::default();
        run.ttft_cdf.clear();
        run.e2e_cdf.clear();
        run.slo = SloReport::default();
        run.cold_by_kind.iter_mut().for_each(|kind| kind.1 = 0);
        run.stages.iter_mut().for_each(|stage| (stage.mean_s, stage.cold_mean_s) = (0.0, 0.0));
        for bill in &mut run.bills {
            (bill.per_1000_requests_usd, bill.per_million_tokens_usd) = (0.0, 0.0);
        }
        run.functions.iter_mut().for_each(|f| (f.cold, f.ttft_mean_s, f.ttft_max_s) = (0, 0.0, 0.0));
        run.adapters = AdapterReport::default();
        run.fairness = 0.0;
    }
    report
}

fn trace() -> TraceSection {
    TraceSection {
        name: "AzureLLMInferenceTrace_conv.csv".to_owned(),
        sha256: "2b5f4a9cde1077aa3f0f5d0c3e1f9b6d8c7a6b5e4d3c2b1a0f9e8d7c6b5a4f3e".to_owned(),
        format: "azure-llm".to_owned(),
        rows: 19_378,
        records: 19_366,
        refused: 12,
        functions: FUNCTIONS as u64,
        span_s: SPAN_S,
        prompt_tokens: 22_361_870,
        output_tokens: 4_088_665,
        mapping: vec!["adapter by Zipf(1.0) over 32 functions, seed 7".to_owned()],
    }
}

fn inputs() -> Inputs {
    let used = |kind: &str, name: &str, source: &str| ProfileUsed {
        kind: kind.to_owned(),
        name: name.to_owned(),
        source: source.to_owned(),
    };
    Inputs {
        fleet: "1 worker x 4 A100-80GB".to_owned(),
        gpus: 4,
        profiles: vec![
            used("gpu", "a100-80gb", "vendor data sheet, 2021"),
            used("model", "llama-2-7b", "published configuration"),
            used("tariff", "gpu-second", "list price"),
            used("tariff", "memory-second", "list price"),
        ],
        slo_ttft_s: SLO_TTFT_S,
        slo_tpot_s: SLO_TPOT_S,
        primary_tariff: "gpu-second".to_owned(),
        command: "coldframe replay azure-conv.csv --policy serverlesslora,serverless-llm --seeds 5"
            .to_owned(),
    }
}

fn policy(index: usize, seeds: usize) -> PolicyReport {
    let habit = &HABITS[index % HABITS.len()];
    let name = match index / HABITS.len() {
        0 => habit.name.to_owned(),
        variant => format!("{}-variant-with-a-rather-long-name-{variant}", habit.name),
    };
    let parameters = [("keep_alive.adapter_s", "60"), ("batch.max", "32"), ("sharing", "yes")];
    PolicyReport {
        name,
        about: habit.about.to_owned(),
        parameters: parameters
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        runs: (1..=seeds as u64).map(|seed| run(habit, index, seed)).collect(),
    }
}

/// One drawn request: stage times in seconds, then what follows.
struct Request {
    stages: [f64; 7],
    kind: usize,
    tpot_s: f64,
    e2e_s: f64,
    function: usize,
}

impl Request {
    fn ttft_s(&self) -> f64 {
        self.stages.iter().sum()
    }
}

fn requests(habit: &Habit, draw: &mut Draw, count: usize) -> Vec<Request> {
    let make = |_| {
        let mut stages = [0.0; 7];
        stages[0] = draw.around(0.02 + 0.05 * habit.cold, 0.9);
        stages[6] = draw.around(0.16, 0.5);
        let mut kind = 0;
        if draw.unit() < habit.cold {
            let full = [0.0, 1.9, 3.1, 4.6, 0.35, 0.6, 0.0];
            kind = 1 + ((draw.unit() + habit.depth) * 2.4).min(4.0) as usize;
            // Kinds from shallow to deep: kernel, adapter, model, runtime, container.
            let deepest = [5, 4, 3, 2, 1][kind - 1];
            for (stage, seconds) in full.iter().enumerate().skip(deepest) {
                stages[stage] +=
                    if *seconds > 0.0 { draw.around(seconds * (0.3 + habit.depth), 0.3) } else { 0.0 };
            }
        }
        let tpot_s = draw.around(0.021 + 0.02 * (1.0 - habit.duplicates), 0.3);
        let tokens = 20.0 + 400.0 * draw.unit();
        let function = ((FUNCTIONS as f64).powf(draw.unit()) - 1.0) as usize;
        let e2e_s = stages.iter().sum::<f64>() + tpot_s * tokens;
        Request { stages, kind, tpot_s, e2e_s, function: function.min(FUNCTIONS - 1) }
    };
    (0..count).map(make).collect()
}

fn run(habit: &Habit, index: usize, seed: u64) -> RunReport {
    let mut draw = Draw::new(seed * 1_000 + index as u64);
    let refused = (habit.cold * 60.0) as u64;
    let timed_out = (habit.cold * 20.0) as u64;
    let completed = ARRIVED as u64 - refused - timed_out;
    let done = requests(habit, &mut draw, completed as usize);
    let ttft: Vec<f64> = done.iter().map(Request::ttft_s).collect();
    let tpot: Vec<f64> = done.iter().map(|r| r.tpot_s).collect();
    let e2e: Vec<f64> = done.iter().map(|r| r.e2e_s).collect();
    let reserved_ns = (habit.reserved_s * 1e9 * (0.97 + 0.06 * draw.unit())) as u64;
    let (prompt_tokens, output_tokens) = (completed * 1_154, completed * 211);
    let bills = bills(reserved_ns, completed, prompt_tokens + output_tokens);
    RunReport {
        seed,
        event_digest: format!("{:016x}{seed:016x}", draw.0),
        events: completed * 9,
        requests: RequestCounts {
            arrived: ARRIVED as u64,
            completed,
            refused,
            timed_out,
            running: 0,
            queued: 0,
        },
        prompt_tokens,
        output_tokens,
        ttft_s: quantiles(&ttft),
        tpot_s: quantiles(&tpot),
        e2e_s: quantiles(&e2e),
        ttft_cdf: cdf(&ttft),
        e2e_cdf: cdf(&e2e),
        slo: slo(&done),
        cold_by_kind: cold_by_kind(&done),
        stages: stages(&done),
        gpu: GpuTime { reserved_ns, causes: causes(habit, reserved_ns, &mut draw) },
        memory: memory(habit, &mut draw),
        adapters: AdapterReport { hits: completed - 80, misses: 80, loads: 95, evictions: 61 },
        links: LINKS
            .iter()
            .map(|link| LinkReport { link: (*link).to_owned(), bytes: 42_000_000_000, transfers: 310 })
            .collect(),
        functions: functions(&done, (refused + timed_out) as usize, bills[0].total_nano_usd),
        bills,
        functions_left_out: 0,
        fairness: 0.7 + 0.2 * draw.unit(),
        preemptions: 3,
        simulated_s: SPAN_S + 41.2,
        sent_late_us: Vec::new(),
        speed: Speed::default(),
    }
}

fn quantiles(values: &[f64]) -> Quantiles {
    let sorted = sorted(values);
    let at = |share: f64| sorted[((sorted.len() - 1) as f64 * share) as usize];
    Quantiles {
        count: values.len() as u64,
        mean: values.iter().sum::<f64>() / values.len() as f64,
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        max: at(1.0),
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn cdf(values: &[f64]) -> Vec<(f64, f64)> {
    let sorted = sorted(values);
    let points = 120.min(sorted.len());
    (1..=points)
        .map(|i| sorted.len() * i / points)
        .map(|k| (sorted[k - 1], k as f64 / sorted.len() as f64))
        .collect()
}

fn slo(done: &[Request]) -> SloReport {
    let share =
        |good: &dyn Fn(&Request) -> bool| done.iter().filter(|r| good(r)).count() as f64 / ARRIVED as f64;
    let both = share(&|r| r.ttft_s() <= SLO_TTFT_S && r.tpot_s <= SLO_TPOT_S);
    SloReport {
        ttft: share(&|r| r.ttft_s() <= SLO_TTFT_S),
        tpot: share(&|r| r.tpot_s <= SLO_TPOT_S),
        both,
        goodput_rps: both * ARRIVED as f64 / SPAN_S,
    }
}

fn cold_by_kind(done: &[Request]) -> Vec<(String, u64)> {
    ["warm", "kernel", "adapter", "model", "runtime", "container"]
        .iter()
        .enumerate()
        .map(|(kind, name)| ((*name).to_owned(), done.iter().filter(|r| r.kind == kind).count() as u64))
        .collect()
}

fn stages(done: &[Request]) -> Vec<StageReport> {
    let cold: Vec<&Request> = done.iter().filter(|r| r.kind > 0).collect();
    let mean = |sum: f64, n: usize| if n == 0 { 0.0 } else { sum / n as f64 };
    STAGES
        .iter()
        .enumerate()
        .map(|(i, stage)| StageReport {
            stage: (*stage).to_owned(),
            mean_s: mean(done.iter().map(|r| r.stages[i]).sum(), done.len()),
            cold_mean_s: mean(cold.iter().map(|r| r.stages[i]).sum(), cold.len()),
        })
        .collect()
}

fn causes(habit: &Habit, reserved_ns: u64, draw: &mut Draw) -> Vec<(String, u64)> {
    let idle = 1.0 - habit.busy - habit.cold * 0.4 - habit.duplicates;
    let shares =
        [habit.busy, habit.cold * 0.4, idle * 0.4, habit.duplicates, idle * 0.12, idle * 0.05, idle * 0.25];
    let mut left = reserved_ns;
    let mut parts: Vec<u64> = shares
        .iter()
        .map(|share| {
            let part = ((reserved_ns as f64 * share * (0.97 + 0.03 * draw.unit())) as u64).min(left);
            left -= part;
            part
        })
        .collect();
    parts.push(left);
    CAUSES.iter().map(|cause| (*cause).to_owned()).zip(parts).collect()
}

fn memory(habit: &Habit, draw: &mut Draw) -> MemoryReport {
    let gb = 1_000_000_000u64;
    let fleet = 320 * gb;
    let over_time: Vec<Vec<u64>> = (0..120)
        .map(|i| {
            let load = 0.5 + 0.4 * (f64::from(i) / 14.0).sin() * draw.around(1.0, 0.06);
            let part = |size: f64| (size * gb as f64) as u64;
            let mut row = vec![
                part(27.0 + 27.0 * load.round()),
                part(habit.duplicates * 260.0 * load),
                part(6.0 + 9.0 * load),
                part(2.0),
                part(70.0 * load * (1.0 - habit.duplicates)),
                part(30.0 * load),
            ];
            row.push(fleet - row.iter().sum::<u64>());
            row
        })
        .collect();
    let step_s = SPAN_S / 120.0;
    let by_use = MEMORY_USES
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let sum: u64 = over_time.iter().map(|row| row[i]).sum();
            MemoryUse {
                name: (*name).to_owned(),
                gb_seconds: sum as f64 * 1e-9 * step_s,
                mean_bytes: sum / over_time.len() as u64,
                peak_bytes: over_time.iter().map(|row| row[i]).max().unwrap_or(0),
            }
        })
        .collect();
    MemoryReport { by_use, step_s, over_time }
}

fn bills(reserved_ns: u64, completed: u64, tokens: u64) -> Vec<Bill> {
    let reserved_s = reserved_ns as f64 * 1e-9;
    let make = |tariff: &str, gpu: f64, cpu: f64, memory: f64, requests: f64| {
        let lines: Vec<(String, u64)> =
            [("gpu", gpu), ("cpu", cpu), ("memory", memory), ("requests", requests), ("rounding", 4.2e-5)]
                .map(|(name, usd)| (name.to_owned(), (usd * 1e9) as u64))
                .to_vec();
        let total_nano_usd: u64 = lines.iter().map(|(_, nano)| nano).sum();
        let usd = total_nano_usd as f64 * 1e-9;
        Bill {
            tariff: tariff.to_owned(),
            total_nano_usd,
            lines,
            per_1000_requests_usd: usd / completed as f64 * 1e3,
            per_million_tokens_usd: usd / tokens as f64 * 1e6,
        }
    };
    vec![
        make("gpu-second", reserved_s * 0.00078, reserved_s * 0.00002, 0.0, completed as f64 * 2e-7),
        make("memory-second", 0.0, reserved_s * 0.00003, reserved_s * 0.00064, completed as f64 * 4e-7),
        make("reserved-month", 4.0 * SPAN_S * 0.00051, 0.0, 0.0, 0.0),
    ]
}

fn functions(done: &[Request], unserved: usize, bill: u64) -> Vec<FunctionRow> {
    let mut rows: Vec<FunctionRow> = (0..FUNCTIONS)
        .map(|function| {
            let mine: Vec<&Request> = done.iter().filter(|r| r.function == function).collect();
            let extra = if function == 0 { unserved } else { 0 };
            FunctionRow {
                name: format!("support-bot-{function:02}"),
                tenant: format!("tenant-{}", function % 5),
                backbone: "llama-2-7b".to_owned(),
                requests: (mine.len() + extra) as u64,
                cold: mine.iter().filter(|r| r.kind > 0).count() as u64,
                ttft_mean_s: mine.iter().map(|r| r.ttft_s()).sum::<f64>() / mine.len().max(1) as f64,
                ttft_max_s: mine.iter().map(|r| r.ttft_s()).fold(0.0, f64::max),
                money_nano_usd: bill / ARRIVED as u64 * (mine.len() + extra) as u64,
            }
        })
        .collect();
    rows.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.name.cmp(&b.name)));
    let shared: u64 = rows.iter().map(|row| row.money_nano_usd).sum();
    rows[0].money_nano_usd += bill - shared;
    rows
}
