//! A policy as data: one choice per part, named presets, and users' own files.
//!
//! Unknown keys fail. Presets are TOML files like any user's, embedded in the binary.

use crate::parts::batching::BatchingPart;
use crate::parts::eviction::EvictionPart;
use crate::parts::keep_alive::KeepAlivePart;
use crate::parts::preload::PreloadPart;
use crate::parts::routing::RoutingPart;
use crate::parts::scaling::ScalingPart;
use crate::parts::sharing::{Sharing, SharingPart};
use serde::{Deserialize, Serialize};

/// A whole policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// Name in reports.
    pub name: String,
    /// One sentence on what it does.
    pub about: String,
    /// What functions share.
    pub sharing: SharingPart,
    /// Where requests go.
    pub routing: RoutingPart,
    /// How many instances.
    pub scaling: ScalingPart,
    /// What is brought in ahead.
    pub preload: PreloadPart,
    /// How requests become batches.
    pub batching: BatchingPart,
    /// How long idle things stay.
    pub keep_alive: KeepAlivePart,
    /// What leaves under pressure.
    pub eviction: EvictionPart,
    /// Loading paths.
    pub loader: Loader,
    /// The engine inside an instance.
    pub engine: Engine,
    /// Bounds of the queues.
    pub queue: Queue,
}

/// How weights come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loader {
    /// Loading-optimised checkpoints (ServerlessLLM's store) instead of the default path.
    pub fast: bool,
    /// Loaded weights stay in host memory while there is room, so that the next load is a copy.
    pub host_cache: bool,
    /// Library loading and backbone loading overlap (the paper overlaps loads on CUDA streams; its measured timeline
    /// shows sums, so the default is off).
    pub overlap: bool,
}

/// What runs inside an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    /// Most sequences in a step.
    pub max_sequences: u32,
    /// Most tokens in a step: prompts longer than the room are chunked.
    pub max_batched_tokens: u32,
    /// Most distinct adapters in a step; 0 is no cap.
    pub max_adapters: u32,
    /// Adapters kept on the device by a one-process engine.
    pub adapter_slots: u32,
    /// Adapters kept in host memory by a one-process engine; the others are on disk.
    pub host_adapters: u32,
    /// KV pages out of a pool the engine owns (`true`), or reserved on the device per request (`false`).
    pub paged_kv: bool,
    /// Share of device memory an instance may use, per mille.
    pub memory_permille: u32,
    /// New batches join a running one at the next step (`true`) or wait until it is done (`false`).
    pub continuous: bool,
}

/// Bounds of the queues.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Queue {
    /// Most requests parked for one function.
    pub limit: u64,
    /// Seconds a request waits before it is turned away.
    pub patience_s: f64,
}

const BASE: [(&str, &str); 5] = [
    ("vllm", include_str!("../presets/vllm.toml")),
    ("serverlessllm", include_str!("../presets/serverlessllm.toml")),
    ("instainfer", include_str!("../presets/instainfer.toml")),
    ("serverlesslora", include_str!("../presets/serverlesslora.toml")),
    ("coldframe", include_str!("../presets/coldframe.toml")),
];

/// A key and the TOML value it is set to.
type Setting = (&'static str, &'static str);

/// Ablations of `serverlesslora`: the name's suffix, what it says, and the keys it sets.
const ABLATIONS: [(&str, &str, &[Setting]); 4] = [
    (
        "no-sharing",
        "every function keeps a private copy of the backbone",
        &[("sharing", "{ kind = 'private', exclusive_gpu = false }")],
    ),
    ("no-preload", "nothing is brought in before a request asks for it", &[("preload", "{ kind = 'none' }")]),
    ("no-offload", "memory pressure evicts nothing", &[("eviction", "{ kind = 'none' }")]),
    (
        "no-batching",
        "requests are admitted as they come, without delay, contention bound or deadline order",
        &[("batching", "{ kind = 'immediate', max_batch = 1000000 }")],
    ),
];

/// Why a policy can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not a preset.
    #[error("unknown policy `{name}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Not a policy file.
    #[error("policy {place}: {reason}")]
    Bad {
        /// The file or setting.
        place: String,
        /// What is wrong.
        reason: String,
    },
}

/// Names of all presets, in the order they are shown.
pub fn preset_names() -> Vec<String> {
    let base = BASE.iter().map(|(name, _)| (*name).to_owned());
    base.chain(ABLATIONS.iter().map(|(suffix, ..)| format!("serverlesslora-{suffix}"))).collect()
}

/// A preset's TOML, as a user would write it.
pub fn preset_toml(name: &str) -> Result<toml::Table, PolicyError> {
    let unknown = || PolicyError::Unknown { name: name.to_owned(), known: preset_names().join(", ") };
    let parse = |text: &str| text.parse::<toml::Table>().map_err(|e| bad(name, &e));
    if let Some((_, text)) = BASE.iter().find(|(n, _)| *n == name) {
        return parse(text);
    }
    let suffix = name.strip_prefix("serverlesslora-").ok_or_else(unknown)?;
    let (_, about, changes) = ABLATIONS.iter().find(|(s, ..)| *s == suffix).ok_or_else(unknown)?;
    let mut table = parse(BASE[3].1)?;
    table.insert("name".to_owned(), name.into());
    table.insert("about".to_owned(), format!("ServerlessLoRA, but {about}.").into());
    for (key, value) in *changes {
        set(&mut table, key, value)?;
    }
    Ok(table)
}

/// Sets `a.b.c` to a TOML value (a bare word that is no TOML value is taken as a string).
pub fn set(table: &mut toml::Table, key: &str, value: &str) -> Result<(), PolicyError> {
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut parts: Vec<&str> = key.split('.').collect();
    let last = parts.pop().expect("split gives at least one part");
    let mut at = table;
    for part in parts {
        let next = at.get_mut(part).and_then(toml::Value::as_table_mut);
        at = next.ok_or_else(|| PolicyError::Bad {
            place: format!("setting `{key}`"),
            reason: format!("`{part}` is no section of this policy"),
        })?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

/// Checks and types a policy table; `place` names it in errors.
pub fn from_table(table: toml::Table, place: &str) -> Result<PolicyConfig, PolicyError> {
    let config: PolicyConfig = table.try_into().map_err(|e: toml::de::Error| bad(place, &e))?;
    let problem = config.problem();
    problem.map_or(Ok(config), |reason| Err(PolicyError::Bad { place: place.to_owned(), reason }))
}

fn bad(place: &str, error: &toml::de::Error) -> PolicyError {
    PolicyError::Bad { place: place.to_owned(), reason: error.to_string().trim_end().to_owned() }
}

/// A preset, typed.
pub fn preset(name: &str) -> Result<PolicyConfig, PolicyError> {
    from_table(preset_toml(name)?, name)
}

impl PolicyConfig {
    fn problem(&self) -> Option<String> {
        let engine = &self.engine;
        let fixed = matches!(self.scaling, ScalingPart::Fixed { .. });
        let one_process = matches!(self.sharing, SharingPart::OneProcess {});
        let text = |s: &str| Some(s.to_owned());
        if fixed != one_process {
            return text("`scaling.kind = \"fixed\"` and `sharing.kind = \"one-process\"` go together");
        }
        if one_process && !engine.paged_kv {
            return text(
                "`sharing.kind = \"one-process\"` needs engine.paged_kv = true: its engine owns one KV pool",
            );
        }
        if engine.paged_kv && !self.sharing.exclusive() {
            return text(
                "engine.paged_kv = true needs a whole device: sharing.exclusive_gpu = true, or one-process",
            );
        }
        if engine.max_sequences == 0 || engine.max_batched_tokens == 0 || engine.adapter_slots == 0 {
            return text(
                "engine.max_sequences, engine.max_batched_tokens and engine.adapter_slots must be at least 1",
            );
        }
        if engine.memory_permille == 0 || engine.memory_permille > 1000 {
            return text("engine.memory_permille must be 1..=1000");
        }
        if engine.max_adapters > engine.adapter_slots {
            return text("engine.max_adapters can't be larger than engine.adapter_slots");
        }
        if !(self.queue.patience_s > 0.0 && self.queue.patience_s.is_finite()) || self.queue.limit == 0 {
            return text("queue.patience_s and queue.limit must be positive");
        }
        let seconds = self.seconds();
        let wrong = seconds.iter().find(|(_, v)| v.is_nan() || *v < 0.0);
        wrong.map(|(name, value)| format!("{name} = {value} must be zero or more"))
    }

    fn seconds(&self) -> Vec<(&'static str, f64)> {
        let mut all = Vec::new();
        match &self.keep_alive {
            KeepAlivePart::Forever {} => {}
            KeepAlivePart::Fixed { container_s, runtime_s, backbone_s, adapter_s, kernel_s } => {
                all.extend([("keep_alive.container_s", *container_s), ("keep_alive.runtime_s", *runtime_s)]);
                all.extend([("keep_alive.backbone_s", *backbone_s), ("keep_alive.adapter_s", *adapter_s)]);
                all.push(("keep_alive.kernel_s", *kernel_s));
            }
            KeepAlivePart::Poisson { container_s, p_offload, window_s, min_s, max_s } => {
                all.extend([("keep_alive.container_s", *container_s), ("keep_alive.window_s", *window_s)]);
                all.extend([("keep_alive.min_s", *min_s), ("keep_alive.max_s - min_s", *max_s - *min_s)]);
                all.extend([
                    ("keep_alive.p_offload", *p_offload),
                    ("1 - keep_alive.p_offload", 1.0 - p_offload),
                ]);
            }
        }
        match &self.preload {
            PreloadPart::None {} => {}
            PreloadPart::Pckp { window_s, replan_s, .. } => {
                all.extend([
                    ("preload.window_s", *window_s),
                    ("preload.replan_s - 0.001", *replan_s - 0.001),
                ]);
            }
            PreloadPart::Poisson { window_s, replan_s, p_load, p_offload, .. } => {
                all.extend([
                    ("preload.window_s", *window_s),
                    ("preload.replan_s - 0.001", *replan_s - 0.001),
                ]);
                all.extend([
                    ("preload.p_load", *p_load),
                    ("preload.p_offload - p_load", *p_offload - *p_load),
                ]);
                all.push(("1 - preload.p_offload", 1.0 - p_offload));
            }
        }
        all
    }

    /// Its settings, flat: `keep_alive.adapter_s` → `60.0`.
    pub fn flat(&self) -> std::collections::BTreeMap<String, String> {
        let mut flat = std::collections::BTreeMap::new();
        let table = toml::Table::try_from(self).expect("a policy is a table");
        flatten("", &toml::Value::Table(table), &mut flat);
        flat.remove("name");
        flat.remove("about");
        flat
    }
}

fn flatten(prefix: &str, value: &toml::Value, into: &mut std::collections::BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (key, inner) in table {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, inner, into);
            }
        }
        toml::Value::String(text) => drop(into.insert(prefix.to_owned(), text.clone())),
        other => drop(into.insert(prefix.to_owned(), other.to_string())),
    }
}
