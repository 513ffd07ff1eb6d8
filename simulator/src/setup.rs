//! What a run is made of: policy, hardware, models, cold-start regime, limits; checked before anything starts.
//!
//! It turns profiles into what the core and the engines need: specs, estimates, step costs. It reads no file.

use crate::engine::{EngineLimits, StepCost};
use crate::profile::{ColdStart, GpuProfile, ModelProfile, StepProfile};
use crate::start::Start;
use coldframe_policy::config::PolicyConfig;
use coldframe_policy::parts::sharing::SharingPart;
use coldframe_policy::spec::{BackboneSpec, FunctionSpec, WorkerSpec};
use coldframe_policy::units::{BackboneId, Bytes, Nanos};
use coldframe_traces::FunctionInfo;
use std::collections::BTreeMap;

/// A backbone of the run.
#[derive(Clone, Debug)]
pub struct Model {
    /// Sizes.
    pub profile: ModelProfile,
    /// Step times on the run's GPU.
    pub step: StepProfile,
}

/// Times of one function that differ from the regime's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FunctionTimes {
    /// Libraries, ns.
    pub runtime_ns: Option<u64>,
    /// First-inference work, ns.
    pub kernel_ns: Option<u64>,
}

/// Everything one run needs beside its trace.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The policy.
    pub policy: PolicyConfig,
    /// The GPU.
    pub gpu: GpuProfile,
    /// Workers.
    pub workers: u32,
    /// GPUs on each.
    pub gpus_per_worker: u32,
    /// Host memory of each, bytes.
    pub host_memory_bytes: u64,
    /// Virtual CPUs of each.
    pub vcpus: u32,
    /// Backbones; the first is the default for functions that name none.
    pub models: Vec<Model>,
    /// Cold-start regime.
    pub cold: ColdStart,
    /// Rank of every adapter (q, k, v, o).
    pub rank: u32,
    /// TTFT limit, ns.
    pub slo_ttft_ns: u64,
    /// TPOT limit, ns.
    pub slo_tpot_ns: u64,
    /// Functions with their own times, by name.
    pub function_times: BTreeMap<String, FunctionTimes>,
    /// Seed of the run's own chance (load-time jitter).
    pub seed: u64,
    /// Uniform jitter of every load and start, thousandths either way.
    pub jitter_permille: u32,
    /// Functions that name a backbone the run doesn't have run on the first one, instead of ending the run.
    pub any_backbone: bool,
    /// The host that is simulated, as it was before its first request; `None` starts with nothing but workers.
    pub start: Option<Start>,
    /// How much later than it was due each record was sent, microseconds, by its number; none beyond the end. Times count from
    /// when it was due, as a live replay's do.
    pub sent_late_us: Vec<u32>,
    /// Keep the event log in memory (tests, first-difference search).
    pub keep_log: bool,
}

/// Why a run can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The fleet or a limit makes no sense.
    #[error("{0}")]
    Setup(String),
    /// The trace can't be read.
    #[error(transparent)]
    Trace(#[from] coldframe_traces::TraceError),
    /// A row was refused and refusals are not skipped.
    #[error("{}:{}: {}{}", .0.file.display(), .0.line, column(&.0.column), .0.reason)]
    Row(coldframe_traces::Refusal),
    /// A function names a backbone the run doesn't have.
    #[error(
        "function `{function}` needs the backbone `{model}`, which is not part of this run; there are: {known}. Add it with --model"
    )]
    Model {
        /// The function.
        function: String,
        /// What it names.
        model: String,
        /// What there is.
        known: String,
    },
    /// The trace has invocations without tokens.
    #[error(
        "record {record} has no tokens: this policy serves language models. Give the trace token lengths with `coldframe trace compose`, or replay a trace of invocations with `coldframe replay-invocations`"
    )]
    NoTokens {
        /// Which, from 1.
        record: u64,
    },
    /// The trace has tokens where invocations without are replayed.
    #[error(
        "record {record} (function {function:?}) has {tokens} tokens: it is a request to a language model. Replay this trace with `coldframe replay --trace …`, or take a trace of invocations with durations"
    )]
    HasTokens {
        /// Which, from 1.
        record: u64,
        /// Its function's name.
        function: String,
        /// Prompt and output tokens.
        tokens: u64,
    },
    /// Nothing to replay.
    #[error("the trace has no requests: nothing to replay")]
    Empty,
    /// Stopped by the caller.
    #[error("stopped")]
    Stopped,
    /// Writing rows or a timeline failed.
    #[error("cannot write: {0}")]
    Io(#[from] std::io::Error),
    /// A bill could not be made.
    #[error(transparent)]
    Cost(#[from] crate::cost::CostError),
}

fn column(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!("column `{name}`: ") }
}

impl Setup {
    /// Checks that the run can make sense at all.
    pub fn check(&self) -> Result<(), RunError> {
        let wrong = |text: String| Err(RunError::Setup(text));
        if self.workers == 0 || self.gpus_per_worker == 0 {
            return wrong(
                "the fleet has no GPU: --workers and --gpus-per-worker must be at least 1".to_owned(),
            );
        }
        if self.slo_ttft_ns == 0 || self.slo_tpot_ns == 0 {
            return wrong("SLO limits must be above zero".to_owned());
        }
        if self.models.is_empty() {
            return wrong("no backbone: name at least one with --model".to_owned());
        }
        for model in &self.models {
            let need = model.profile.weight_bytes + self.adapter_bytes(model) + self.cold.kernel_bytes;
            let usable = self.gpu.memory_bytes / 1000 * u64::from(self.policy.engine.memory_permille);
            if need + model.profile.kv_bytes_per_token > usable {
                return wrong(format!(
                    "no GPU of this fleet can hold {}: weights, adapter and context take {:.1} GB, a {} has {:.1} GB usable. \
                     Choose a larger --gpu or a smaller --model",
                    model.profile.name,
                    need as f64 / 1e9,
                    self.gpu.name,
                    usable as f64 / 1e9
                ));
            }
        }
        Ok(())
    }

    /// Adapter weights of a backbone's functions, bytes.
    pub fn adapter_bytes(&self, model: &Model) -> u64 {
        model.profile.adapter_bytes(self.rank)
    }

    /// Workers as the core sees them.
    pub fn worker_spec(&self) -> WorkerSpec {
        WorkerSpec {
            host: Bytes(self.host_memory_bytes),
            devices: vec![Bytes(self.gpu.memory_bytes); self.gpus_per_worker as usize],
        }
    }

    /// Backbones as the core sees them.
    pub fn backbone_specs(&self) -> Vec<BackboneSpec> {
        let spec = |m: &Model| BackboneSpec {
            weights: Bytes(m.profile.weight_bytes),
            kv_per_token: Bytes(m.profile.kv_bytes_per_token),
            context: Bytes(self.cold.kernel_bytes),
            slot: Bytes(self.adapter_bytes(m)),
        };
        self.models.iter().map(spec).collect()
    }

    /// The backbone a function names.
    pub fn model_of(&self, info: &FunctionInfo) -> Result<usize, RunError> {
        if info.base_model.is_empty() {
            return Ok(0);
        }
        let named =
            |m: &Model| m.profile.name == info.base_model || m.profile.aliases.contains(&info.base_model);
        let found = self.models.iter().position(named).or(self.any_backbone.then_some(0));
        found.ok_or_else(|| RunError::Model {
            function: info.name.clone(),
            model: info.base_model.clone(),
            known: self.models.iter().map(|m| m.profile.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// A function as the core sees it. `prompt` is the prompt length it is profiled with: T0 is one such prompt, alpha
    /// the slope to eight of them in one batch.
    pub fn function_spec(&self, info: &FunctionInfo, prompt: u32) -> Result<FunctionSpec, RunError> {
        let b = self.model_of(info)?;
        let model = &self.models[b];
        let cost = self.step_cost(model);
        let times = self.times(info);
        let one = cost.prefill_alone(u64::from(prompt.max(1)));
        let eight = cost.prefill_alone(8 * u64::from(prompt.max(1)));
        let weights = model.profile.weight_bytes;
        let rate = self.disk_rate();
        let from_host = transfer_ns(weights, self.cold.host_bytes_per_s.min(self.gpu.host_link_bytes_per_s));
        let adapter = if info.adapter.is_empty() && info.base_model.is_empty() && info.name.is_empty() {
            0
        } else {
            self.adapter_bytes(model)
        };
        Ok(FunctionSpec {
            backbone: BackboneId(b as u32),
            adapter: Bytes(adapter),
            runtime: Bytes(self.cold.runtime_bytes),
            kernel: Bytes(self.cold.kernel_bytes),
            slo_ttft: Nanos(self.slo_ttft_ns),
            t0: Nanos(one / 1000),
            alpha: Nanos(eight.saturating_sub(one) / 7 / 1000),
            load: [
                Nanos(self.cold.container_ns),
                Nanos(times.runtime_ns.unwrap_or(self.cold.runtime_ns)),
                Nanos(self.cold.backbone_fixed_ns + transfer_ns(weights, rate)),
                Nanos(self.adapter_ns()),
                Nanos(times.kernel_ns.unwrap_or(self.cold.kernel_ns)),
            ],
            backbone_from_host: Nanos(self.cold.backbone_fixed_ns + from_host),
            keep_alive: None,
            max_concurrency: None,
        })
    }

    /// A function's own times, where it has any.
    pub fn times(&self, info: &FunctionInfo) -> FunctionTimes {
        self.function_times.get(&info.name).copied().unwrap_or_default()
    }

    /// Adapter load and mapping into a function's process, ns.
    pub fn adapter_ns(&self) -> u64 {
        if self.policy.loader.fast { self.cold.adapter_fast_ns } else { self.cold.adapter_fixed_ns }
    }

    /// An adapter of so many bytes from disk into a running engine, ns; `busy` where it has sequences meanwhile.
    pub fn adapter_disk_ns(&self, bytes: Bytes, busy: bool) -> u64 {
        let moving = self.cold.adapter_disk_bytes_per_s.map_or(0, |rate| transfer_ns(bytes.0, rate));
        let idle = self.cold.adapter_disk_ns + moving;
        let longer = self.cold.adapter_busy_permille.filter(|_| busy).unwrap_or(1000);
        idle.saturating_mul(u64::from(longer)) / 1000
    }

    /// One transfer from disk to the device at most, bytes per second.
    pub fn loader_cap(&self) -> u64 {
        if self.policy.loader.fast {
            self.cold.fast_loader_bytes_per_s
        } else {
            self.cold.default_loader_bytes_per_s
        }
    }

    fn disk_rate(&self) -> u64 {
        self.loader_cap().min(self.cold.disk_bytes_per_s)
    }

    /// Step costs of a backbone under the policy.
    pub fn step_cost(&self, model: &Model) -> StepCost {
        let s = &model.step;
        let isolation = match self.policy.sharing {
            SharingPart::SharedWeights { isolation_permille } if s.engine.is_none() => {
                u64::from(isolation_permille)
            }
            _ => 0,
        };
        StepCost {
            prefill_floor: s.prefill_floor_ps,
            prefill_a: s.prefill_a_ps,
            prefill_b: s.prefill_b_ps,
            prefill_c: s.prefill_c_ps,
            decode_a: s.decode_a_ps,
            decode_b: s.decode_b_ps,
            decode_c: s.decode_c_ps,
            decode_rows: s.decode_rows_ps.clone(),
            host: s.host_ps,
            adapters: s.adapter_layer_ps * u64::from(model.profile.layers),
            adapter_token: s.adapter_token_ps,
            serving_row: s.serving_row_ps,
            isolation_permille: isolation,
        }
    }

    /// Whether one engine per device and backbone serves the instances of all functions.
    pub fn one_engine(&self) -> bool {
        self.policy.sharing.one_engine() || self.models.iter().all(|model| model.step.engine.is_some())
    }

    /// Time to read an adapter's weights once from device memory, ps.
    pub fn adapter_read_ps(&self, bytes: Bytes) -> u64 {
        (u128::from(bytes.0) * 1_000_000_000_000 / u128::from(self.gpu.memory_bytes_per_s.max(1))) as u64
    }

    /// Limits of an engine with a KV pool of this many bytes (none: memory is reserved per request).
    pub fn engine_limits(&self, model: &Model, pool: Bytes) -> EngineLimits {
        let e = &self.policy.engine;
        let pool_tokens =
            if e.paged_kv { pool.0 / model.profile.kv_bytes_per_token.max(1) } else { u64::MAX };
        if let Some(own) = model.step.engine {
            return EngineLimits {
                max_sequences: own.max_sequences,
                max_tokens: own.max_batched_tokens,
                max_adapters: 0,
                prefill_quantum: own.prefill_quantum,
                pool_tokens,
            };
        }
        EngineLimits {
            prefill_quantum: 0,
            max_sequences: e.max_sequences,
            max_tokens: e.max_batched_tokens,
            max_adapters: e.max_adapters,
            pool_tokens,
        }
    }
}

/// Nanoseconds to move bytes at a rate, rounded up.
pub fn transfer_ns(bytes: u64, per_second: u64) -> u64 {
    let ns = (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(per_second.max(1)));
    u64::try_from(ns).unwrap_or(u64::MAX)
}
