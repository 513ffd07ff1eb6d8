//! The report's schema: what a replay writes and `compare` reads.
//!
//! Exact quantities (nanoseconds, bytes, nano-dollars) are integers; floats appear only for statistics. It holds no
//! rendering and no arithmetic beyond reading it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name and version of the schema; `compare` refuses another.
pub const SCHEMA: &str = "coldframe.report/1";

/// One file: inputs, then every policy's runs.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// Tool and version that wrote it, e.g. `coldframe 0.1.0`.
    pub tool: String,
    /// A heading for people, e.g. `azure-conv on 4 x A100-80GB`.
    pub title: String,
    /// The trace replayed.
    pub trace: TraceSection,
    /// Everything else that went in.
    pub inputs: Inputs,
    /// Policies in the order asked for.
    pub policies: Vec<PolicyReport>,
    /// Things the reader should know about this run.
    pub warnings: Vec<String>,
    /// Known limits of the model, one sentence each.
    pub limits: Vec<String>,
}

/// What was replayed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct TraceSection {
    /// File name or preset.
    pub name: String,
    /// SHA-256 of the file's bytes, hex; empty for a generated trace.
    pub sha256: String,
    /// Format the reader took, e.g. `azure-llm`.
    pub format: String,
    /// Rows read.
    pub rows: u64,
    /// Records that came out.
    pub records: u64,
    /// Rows refused.
    pub refused: u64,
    /// Distinct functions.
    pub functions: u64,
    /// First arrival to last, seconds.
    pub span_s: f64,
    /// Prompt tokens in all.
    pub prompt_tokens: u64,
    /// Output tokens in all.
    pub output_tokens: u64,
    /// Each mapping applied (adapter popularity, placement, scale, …) with its seed, in words.
    pub mapping: Vec<String>,
}

/// Fleet, calibration, limits and prices of the runs.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Inputs {
    /// The fleet in words, e.g. `8 workers x 1 L40S-48GB`.
    pub fleet: String,
    /// GPUs in the fleet.
    pub gpus: u32,
    /// Profiles used: name, what it gives, and its source.
    pub profiles: Vec<ProfileUsed>,
    /// TTFT limit, seconds.
    pub slo_ttft_s: f64,
    /// TPOT limit, seconds.
    pub slo_tpot_s: f64,
    /// Tariff that ranks and splits money; the others are reported too.
    pub primary_tariff: String,
    /// Command line or settings that repeat the run.
    pub command: String,
}

/// One profile file that went in.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct ProfileUsed {
    /// `gpu`, `model`, `step`, `cold-start`, `tariff`.
    pub kind: String,
    /// Name, e.g. `l40s`.
    pub name: String,
    /// Where its numbers come from.
    pub source: String,
}

/// A policy's runs, one per seed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PolicyReport {
    /// Name shown, e.g. `serverlesslora` or `serverlesslora-no-sharing`.
    pub name: String,
    /// One sentence on what the policy does.
    pub about: String,
    /// Its parameters, flat: `keep_alive.adapter_s` → `60`.
    pub parameters: BTreeMap<String, String>,
    /// One per seed, in seed order.
    pub runs: Vec<RunReport>,
}

/// One run: one policy, one seed.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct RunReport {
    /// Seed of the run.
    pub seed: u64,
    /// Digest of the event log, hex: equal digests mean equal runs.
    pub event_digest: String,
    /// Events in the log.
    pub events: u64,
    /// Where every arrival ended.
    pub requests: RequestCounts,
    /// Prompt tokens of completed requests.
    pub prompt_tokens: u64,
    /// Output tokens of completed requests.
    pub output_tokens: u64,
    /// Time to first token, seconds, over completed requests.
    pub ttft_s: Quantiles,
    /// Time per output token after the first, seconds, over requests with two or more tokens.
    pub tpot_s: Quantiles,
    /// Arrival to last token, seconds.
    pub e2e_s: Quantiles,
    /// Points (seconds, share at or below), ascending, for the TTFT curve; at most 200.
    pub ttft_cdf: Vec<(f64, f64)>,
    /// The same for E2E.
    pub e2e_cdf: Vec<(f64, f64)>,
    /// SLO attainment and goodput.
    pub slo: SloReport,
    /// Requests by the deepest stage they waited for, in the order of the stages: `warm`, `kernel`, `adapter`, `model`, `runtime`, `container`.
    pub cold_by_kind: Vec<(String, u64)>,
    /// Mean seconds each stage added to TTFT, over all requests and over those that waited for a cold start.
    pub stages: Vec<StageReport>,
    /// GPU time reserved, and where it went.
    pub gpu: GpuTime,
    /// Device memory by use.
    pub memory: MemoryReport,
    /// Adapter residency.
    pub adapters: AdapterReport,
    /// Bytes moved per kind of link, in the order remote, disk, host-to-device, device-to-host.
    pub links: Vec<LinkReport>,
    /// A bill per tariff; the first is the primary one.
    pub bills: Vec<Bill>,
    /// Per function: the 1,000 with most requests, by requests descending.
    pub functions: Vec<FunctionRow>,
    /// Functions left out of `functions`.
    pub functions_left_out: u64,
    /// Jain's index of mean TTFT over tenants (or functions when the trace has no tenants), 0..=1.
    pub fairness: f64,
    /// Preemptions of running requests.
    pub preemptions: u64,
    /// Virtual seconds from the first arrival to the last event.
    pub simulated_s: f64,
    /// A live run's sender: how much later than due each request was sent, microseconds, in the trace's order. Empty in a simulated run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent_late_us: Vec<u32>,
    /// What the run cost to simulate; left at zero where a byte-stable report is wanted.
    pub speed: Speed,
}

/// Conservation: `arrived = completed + refused + timed_out + running + queued`.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct RequestCounts {
    /// Requests that came.
    pub arrived: u64,
    /// Finished.
    pub completed: u64,
    /// Turned away by the policy.
    pub refused: u64,
    /// Gave up waiting.
    pub timed_out: u64,
    /// Still running when the run ended (0 unless it was cut short).
    pub running: u64,
    /// Still queued when the run ended (0 unless it was cut short).
    pub queued: u64,
}

/// Mean exact, quantiles to within 0.4 % (log-linear histogram).
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// Observations.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// Largest.
    pub max: f64,
}

/// Attainment of the stated limits.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct SloReport {
    /// Share of arrived requests whose TTFT met the limit.
    pub ttft: f64,
    /// Share of arrived requests whose TPOT met the limit.
    pub tpot: f64,
    /// Share that met both.
    pub both: f64,
    /// Requests per second that met both.
    pub goodput_rps: f64,
}

/// One cold-start stage.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct StageReport {
    /// `queue`, `container`, `runtime`, `backbone`, `adapter`, `kernel`, `prefill`: in this order.
    pub stage: String,
    /// Mean over all completed requests, seconds. Summed over stages it is the mean TTFT.
    pub mean_s: f64,
    /// Mean over requests with a cold start, seconds.
    pub cold_mean_s: f64,
}

/// Reserved GPU nanoseconds and their causes; the causes add up to `reserved_ns` exactly.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct GpuTime {
    /// GPU-nanoseconds reserved.
    pub reserved_ns: u64,
    /// `busy`, `loading`, `idle_base`, `duplicate_weights`, `idle_adapters`, `idle_kernels`, `unused_kv`, `idle_free`: in this order.
    pub causes: Vec<(String, u64)>,
}

/// Device memory by use, over reserved time.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct MemoryReport {
    /// Per use: `base`, `duplicates`, `adapters`, `kernels`, `kv_used`, `kv_unused`, `free`.
    pub by_use: Vec<MemoryUse>,
    /// Width of a point of `over_time`, seconds.
    pub step_s: f64,
    /// Mean bytes per use in each step, columns as `by_use`; at most 300 points.
    pub over_time: Vec<Vec<u64>>,
}

/// One use of device memory.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct MemoryUse {
    /// Name of the use.
    pub name: String,
    /// GB-seconds (10^9 bytes x seconds) over the run.
    pub gb_seconds: f64,
    /// Mean bytes over the run, whole fleet.
    pub mean_bytes: u64,
    /// Largest bytes at once, whole fleet.
    pub peak_bytes: u64,
}

/// Adapter residency.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct AdapterReport {
    /// Requests that found their adapter on the device.
    pub hits: u64,
    /// Requests that had to wait for it.
    pub misses: u64,
    /// Loads onto a device.
    pub loads: u64,
    /// Evictions from a device.
    pub evictions: u64,
}

/// Bytes over one kind of link.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct LinkReport {
    /// `remote`, `disk`, `host_to_device`, `device_to_host`.
    pub link: String,
    /// Bytes moved.
    pub bytes: u64,
    /// Transfers.
    pub transfers: u64,
}

/// What the run costs under one tariff. Lines add up to the total exactly.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Bill {
    /// Tariff name.
    pub tariff: String,
    /// Total, 10^-9 US dollars.
    pub total_nano_usd: u64,
    /// Lines: `gpu`, `cpu`, `memory`, `requests`, `rounding`.
    pub lines: Vec<(String, u64)>,
    /// US dollars per 1,000 completed requests.
    pub per_1000_requests_usd: f64,
    /// US dollars per million tokens (prompt and output).
    pub per_million_tokens_usd: f64,
}

/// One function's service and money.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct FunctionRow {
    /// Function name.
    pub name: String,
    /// Tenant; empty when unknown.
    pub tenant: String,
    /// Backbone.
    pub backbone: String,
    /// Requests that came.
    pub requests: u64,
    /// Of those, how many met any cold stage.
    pub cold: u64,
    /// Mean TTFT, seconds.
    pub ttft_mean_s: f64,
    /// Largest TTFT, seconds.
    pub ttft_max_s: f64,
    /// Share of the primary bill, 10^-9 US dollars; over all functions they add up to the bill exactly.
    pub money_nano_usd: u64,
}

/// Cost of simulating.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Default)]
#[serde(deny_unknown_fields)]
pub struct Speed {
    /// Wall seconds.
    pub wall_s: f64,
    /// CPU seconds of the run's thread.
    pub cpu_s: f64,
    /// Requests simulated per CPU-second.
    pub requests_per_cpu_s: f64,
    /// Peak resident set of the process so far, bytes.
    pub peak_rss_bytes: u64,
}
