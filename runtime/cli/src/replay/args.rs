//! What a user types after `coldframe replay`.
//!
//! Values are plain here; `resolve` looks names up and checks them.

use crate::names::data_value;
use clap::Args;
use std::path::PathBuf;

/// Replay a trace through serving policies on a simulated GPU fleet and compare what they cost
///
/// A policy is a preset (`coldframe policies list`) or a TOML file (`coldframe policies show NAME` prints one to start
/// from). A trace is a file in any format of `coldframe trace formats`, or a workload preset such as `paper-bursty`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  Four policies on eight L40S, as a table:
    coldframe replay --trace traces/samples/demo-bursty.csv.gz --gpu l40s --workers 8
  A real trace without functions, mapped to 100 adapters, as a page:
    coldframe replay --trace AzureLLMInferenceTrace_conv.csv --adapters 100 --zipf 0.9 \\
        --gpu a100-80 --workers 4 --policy vllm --set scaling.replicas=0 --html conv.html
  Ten draws of the paper's bursty workload, with intervals, kept for `coldframe compare`:
    coldframe replay --trace paper-bursty --seeds 10 --out bursty.json
  This machine, as `coldframe calibrate --out here.toml` measured it:
    coldframe replay --trace traces/samples/demo-bursty.csv.gz --profile here.toml --policy serverlesslora
  The same against a running host, side by side with the simulation:
    coldframe replay --trace chat.csv --live http://127.0.0.1:8000 --out live.json
  A policy of your own:
    coldframe policies show serverlesslora > mine.toml
    coldframe replay --trace paper-bursty --policy serverlesslora,mine.toml --baseline serverlesslora")]
pub struct ReplayArgs {
    /// Trace file, or a workload preset
    #[arg(long, short)]
    pub trace: String,
    /// Trace format; told by the first line when left out
    #[arg(long)]
    pub format: Option<String>,
    /// Policies: presets or TOML files, separated by commas
    #[arg(
        long,
        short,
        value_delimiter = ',',
        default_value = "vllm,serverlessllm,instainfer,serverlesslora,coldframe"
    )]
    pub policy: Vec<String>,
    /// Change a setting of every policy named, e.g. `--policy serverlesslora --set keep_alive.adapter_s=300`; may be
    /// given several times. A policy without the setting is an error: name only those that have it
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A profile of one machine, as `coldframe calibrate` writes it: GPU, model, step times, cold starts and fleet in one
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["gpu", "workers", "gpus_per_worker", "host_memory_gb",
        "vcpus", "fleet", "model", "step", "cold_start"])]
    pub profile: Option<String>,
    /// Memory of each GPU, GB, in place of the profile's
    #[arg(long, value_name = "GB")]
    pub gpu_memory_gb: Option<f64>,
    /// GPU profile or file
    #[arg(long, default_value = "l40s")]
    pub gpu: String,
    /// Workers in the fleet
    #[arg(long, default_value_t = 8)]
    pub workers: u32,
    /// GPUs on each worker
    #[arg(long, default_value_t = 1)]
    pub gpus_per_worker: u32,
    /// Host memory of each worker, GB
    #[arg(long, default_value_t = 256.0)]
    pub host_memory_gb: f64,
    /// Virtual CPUs of each worker
    #[arg(long, default_value_t = 16)]
    pub vcpus: u32,
    /// Fleet profile or file, in place of the five above
    #[arg(long)]
    pub fleet: Option<String>,
    /// Backbones in the run; the first serves functions that name none
    #[arg(long, value_delimiter = ',', default_value = "llama-2-7b,llama-2-13b")]
    pub model: Vec<String>,
    /// Step times: a source (`vidur`, `aiconfigurator`, …) or a file
    #[arg(long)]
    pub step: Option<String>,
    /// Host work per engine step, milliseconds, in place of the step profile's
    #[arg(long)]
    pub host_ms: Option<f64>,
    /// Cold-start regime: `container`, `engine`, or a file
    #[arg(long, default_value = "container")]
    pub cold_start: String,
    /// Rank of every adapter (on q, k, v and o)
    #[arg(long, default_value_t = 16)]
    pub rank: u32,
    /// TTFT limit, seconds
    #[arg(long, default_value_t = 2.0)]
    pub slo_ttft: f64,
    /// TPOT limit, seconds
    #[arg(long, default_value_t = 0.2)]
    pub slo_tpot: f64,
    /// Tariffs or files; the first ranks and splits money. All that price the GPU when left out
    #[arg(long, value_delimiter = ',')]
    pub tariff: Vec<String>,
    /// Give a trace without functions this many, by a seeded Zipf law
    #[arg(long)]
    pub adapters: Option<u32>,
    /// Exponent of that law
    #[arg(long, default_value_t = 0.9)]
    pub zipf: f64,
    /// Probability that a request repeats the function before it
    #[arg(long, default_value_t = 0.0)]
    pub sticky: f64,
    /// Replay the trace this many times end to end
    #[arg(long, default_value_t = 1)]
    pub repeat: u64,
    /// First seed
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seeds, each its own run of every policy (intervals are over them)
    #[arg(long, default_value_t = 1)]
    pub seeds: u64,
    /// Jitter of every load and start, per mille either way
    #[arg(long, default_value_t = 0)]
    pub jitter: u32,
    /// Go on when the trace has rows that can't be read; each is counted and the first are shown
    #[arg(long)]
    pub skip_bad_rows: bool,
    /// Sort the trace by arrival in memory
    #[arg(long)]
    pub sort: bool,
    /// Folder with the public data the workload presets sample from
    #[arg(long, env = "COLDFRAME_DATA", value_parser = data_value)]
    pub data: Option<PathBuf>,
    /// Policy the others are measured against
    #[arg(long)]
    pub baseline: Option<String>,
    /// Write the report here (JSON)
    #[arg(long, short)]
    pub out: Option<PathBuf>,
    /// Write the page here (HTML, one file)
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Write a row per request here (.csv or .parquet; one policy and seed)
    #[arg(long)]
    pub requests: Option<PathBuf>,
    /// Write a Chrome/Perfetto timeline here (JSON; one policy and seed)
    #[arg(long)]
    pub timeline: Option<PathBuf>,
    /// Threads; results do not depend on it
    #[arg(long, default_value_t = default_jobs())]
    pub jobs: usize,
    #[cfg(feature = "host")]
    #[command(flatten)]
    pub live: crate::live::LiveArgs,
}

fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
