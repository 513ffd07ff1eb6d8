//! What a calibration measured: plain numbers, each the median of its rounds. They can be written down and read again, so
//! that a calibration can be made of several runs ([`super::mean`]).

use crate::profile::EngineRules;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The machine and the run, for the `source` lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Name of the profile, e.g. `this-machine`.
    pub name: String,
    /// CPU and executor in words.
    pub device: String,
    /// Day of the run, `2026-01-31`.
    pub date: String,
    /// Threads of a step.
    pub threads: u32,
    /// Memory that the simulated device may hold, bytes.
    pub device_bytes: u64,
    /// Host memory, bytes.
    pub host_bytes: u64,
    /// Rounds of every measurement in a run.
    pub rounds: u32,
    /// Runs at different times, of which this is the mean; 0 and 1 are one run.
    pub runs: u32,
    /// Price of the machine, 10^-9 dollars a second, where the user gave one.
    pub price_nano_usd_per_s: Option<u64>,
}

impl Machine {
    /// How often each number was measured, in words.
    pub fn how_often(&self) -> String {
        match self.runs {
            0 | 1 => format!("medians of {} rounds", self.rounds),
            runs if self.rounds == 1 => format!("means of {runs} runs of one round each"),
            runs => format!("means of {runs} runs, in each the median of {} rounds", self.rounds),
        }
    }
}

/// Shape of the model as the runtime holds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// Its name.
    pub name: String,
    /// Layers.
    pub layers: u32,
    /// Hidden width.
    pub hidden: u32,
    /// Vocabulary.
    pub vocab: u32,
    /// Weights in memory, bytes.
    pub weight_bytes: u64,
    /// KV bytes of a token.
    pub kv_bytes_per_token: u64,
    /// Memory that the executor takes beside weights and KV, bytes.
    pub context_bytes: u64,
}

/// One kind of step, measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepPoint {
    /// Prompt tokens in it (whole prompts: nothing before them).
    pub prompt: u64,
    /// Decode rows in it.
    pub rows: u64,
    /// Positions in the pages that its rows look back on, in all.
    pub cached: u64,
    /// Different adapters; zero is none, otherwise every token runs under one.
    pub adapters: u64,
    /// Bytes of those adapters in all.
    pub adapter_bytes: u64,
    /// In the executor, ns.
    pub device_ns: u64,
    /// In the engine outside the executor, sampling included, ns.
    pub host_ns: u64,
}

/// Decode steps behind a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingPoint {
    /// Streams at once, each under an adapter of its own.
    pub rows: u64,
    /// Positions that they look back on, in all.
    pub cached: u64,
    /// Bytes of those adapters.
    pub adapter_bytes: u64,
    /// From token to token, ns.
    pub step_ns: u64,
}

impl ServingPoint {
    /// The step that the engine makes there.
    pub(super) fn step(&self) -> StepPoint {
        StepPoint {
            rows: self.rows,
            cached: self.cached,
            adapters: self.rows,
            adapter_bytes: self.adapter_bytes,
            ..StepPoint::default()
        }
    }
}

/// First tokens behind a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstPoint {
    /// Streams that speak meanwhile, each under an adapter.
    pub rows: u64,
    /// Positions that they look back on, in all.
    pub cached: u64,
    /// Tokens of the prompt, under an adapter of its own.
    pub prompt: u64,
    /// Bytes of all those adapters.
    pub adapter_bytes: u64,
    /// From the moment before it is sent to the first event, mean, ns.
    pub ttft_ns: u64,
}

/// Loads of an adapter behind a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedLoad {
    /// Streams that speak meanwhile.
    pub rows: u64,
    /// Bytes of the adapter.
    pub bytes: u64,
    /// What the server says that it took, mean, ns.
    pub load_ns: u64,
}

/// Which load of an adapter stands for one from disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Files {
    /// Its files are in the page cache, as on a host with memory to spare.
    #[default]
    Cached,
    /// They are not.
    Dropped,
}

/// An adapter's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterLoad {
    /// Its rank, on q, k, v and o.
    pub rank: u32,
    /// Bytes in memory.
    pub bytes: u64,
    /// Bytes of its file.
    pub file_bytes: u64,
    /// With its file out of the page cache, ns; `None` where the system would not drop it.
    pub disk_ns: Option<u64>,
    /// With its file in memory, ns.
    pub memory_ns: u64,
}

/// The backbone's load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackboneLoad {
    /// Bytes mapped.
    pub bytes: u64,
    /// Map and check with everything in the page cache, ns.
    pub map_ns: u64,
    /// Map, check and read every page with nothing in the page cache, ns; `None` where it would not be dropped.
    pub disk_ns: Option<u64>,
    /// The first step after it, ns.
    pub first_step_ns: u64,
    /// The same step later, ns.
    pub usual_step_ns: u64,
}

/// Bandwidths, bytes per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidths {
    /// One reader of a file that is not in memory.
    pub disk_alone: Option<u64>,
    /// All of several such readers at once.
    pub disk_contended: Option<u64>,
    /// One thread reading memory.
    pub memory_alone: u64,
    /// All threads reading memory at once, in all.
    pub memory_contended: u64,
    /// One thread copying memory.
    pub copy_alone: u64,
    /// All threads copying memory at once, in all.
    pub copy_contended: u64,
}

/// A function's code, where a module was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Compiling the module, ns.
    pub compile_ns: u64,
    /// Reading it compiled, ns.
    pub load_ns: u64,
    /// One instance, ns.
    pub instantiate_ns: u64,
}

/// Everything measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The machine.
    pub machine: Machine,
    /// The model.
    pub shape: Shape,
    /// Steps.
    pub steps: Vec<StepPoint>,
    /// Adapter loads by rank.
    pub adapters: Vec<AdapterLoad>,
    /// The backbone's load.
    pub backbone: BackboneLoad,
    /// Bandwidths.
    pub bandwidths: Bandwidths,
    /// Steps as readers of a server's streams see them; empty where no server was measured.
    pub serving: Vec<ServingPoint>,
    /// First tokens behind a server, where they were measured.
    pub firsts: Vec<FirstPoint>,
    /// Adapter loads behind a server, idle and busy, where they were measured.
    pub served_loads: Vec<ServedLoad>,
    /// A function's code.
    pub sandbox: Option<Sandbox>,
    /// Rank that stands for all adapters.
    pub rank: u32,
    /// Which of their loads stands for one from disk.
    pub files: Files,
    /// The rules by which the runtime's engine makes its steps.
    pub engine: Option<EngineRules>,
    /// Anything a reader should know of the run.
    pub notes: BTreeMap<String, String>,
}
