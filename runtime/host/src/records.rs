//! What is registered: tenants, keys, functions and their immutable generations, as the store keeps them.
//!
//! Records are JSON in the registry, one per key, changed by compare-and-swap. A generation never changes once it is
//! there; a function's aliases point at generations. Bytes (weights, modules) are blobs, named here by SHA-256.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Lower-case hexadecimal SHA-256.
pub type Digest = String;

/// Who and what a call is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Names {
    /// The tenant.
    pub tenant: String,
    /// The function; the backbone's name for a call of the base model.
    pub function: String,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// `[a-z0-9-]{1,32}`.
    pub name: String,
    /// Its quotas.
    #[serde(default)]
    pub quota: Quota,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// Limits of a tenant; what is absent is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Requests a minute.
    pub rpm: Option<u64>,
    /// Tokens a minute, prompt and answer: reserved at admission, settled at the end.
    pub tpm: Option<u64>,
    /// Calls at once.
    pub concurrent: Option<u64>,
    /// Money a calendar month, 10⁻⁹ dollars.
    pub month_nanodollars: Option<u64>,
    /// Functions registered.
    pub functions: Option<u64>,
    /// Bytes of blobs.
    pub blob_bytes: Option<u64>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Call functions of its tenant.
    Invoke,
    /// Call and change functions of its tenant, see its usage.
    Admin,
    /// Everything, for every tenant.
    Operator,
}

/// An API key; the secret itself is shown once and never kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// Public part: names the key in lists and logs.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// What it may do.
    pub scope: Scope,
    /// SHA-256 of the secret, hexadecimal.
    pub secret_sha256: Digest,
    /// For people.
    #[serde(default)]
    pub note: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970; past it the key is refused.
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

/// A function: a name, its generations, and which of them answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Function {
    /// Whose and which.
    #[serde(flatten)]
    pub names: Names,
    /// Immutable generations, oldest first.
    pub generations: Vec<Generation>,
    /// Aliases; `live` is the one a bare name means.
    pub aliases: BTreeMap<String, Vec<Target>>,
    /// Never evicted.
    #[serde(default)]
    pub pinned: bool,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub updated_ms: u64,
}

/// A weighted share of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A generation of the function.
    pub generation: Digest,
    /// Its weight among the alias's targets, at least 1.
    pub weight: u32,
}

/// What a function was at one time: never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// SHA-256 over the canonical form of everything below but `created_ms` and `source`.
    pub id: Digest,
    /// The backbone it was made for, by its name in the server's configuration.
    pub backbone: String,
    /// Adapters, the default first; none serves the backbone as it is.
    pub adapters: Vec<AdapterRecord>,
    /// The component, where it has code.
    pub module: Option<ModuleRecord>,
    /// How it runs.
    pub settings: Settings,
    /// Milliseconds since 1970.
    pub created_ms: u64,
}

/// An adapter of a generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterRecord {
    /// Its name inside the function.
    pub name: String,
    /// The adapter's own content id, see `coldframe_backbone::adapter::Generation`.
    pub generation: Digest,
    /// Its files by name (`adapter_config.json`, `adapter_model.safetensors`, `chat_template.jinja`, or one `.gguf`).
    pub files: BTreeMap<String, Digest>,
    /// Kind: `lora`, `dora`, …
    pub kind: String,
    /// Largest rank.
    pub rank: u32,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Bytes in memory.
    pub memory_bytes: u64,
    /// Where it came from; hidden from callers who may not change it.
    #[serde(default)]
    pub source: Option<String>,
}

/// A function's code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleRecord {
    /// The component's blob.
    pub digest: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// `coldframe` (exports `handler`), `coldframe+hook` or `wasi-http`.
    pub world: String,
}

/// How a function runs; the part of the manifest that the host reads. What is absent takes the server's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// TTFT promised, milliseconds.
    pub slo_ttft_ms: Option<u64>,
    /// Seconds an idle function stays in device memory.
    pub keep_alive_s: Option<u64>,
    /// Calls at once.
    pub max_concurrency: Option<u32>,
    /// Guest memory, MiB.
    pub memory_limit_mb: Option<u32>,
    /// Guest CPU of a call, in fuel.
    pub fuel: Option<u64>,
    /// Wall time of a call, milliseconds.
    pub timeout_ms: Option<u64>,
    /// Tokens a call may generate, over all its generations.
    pub token_budget: Option<u64>,
    /// Generations a call may run at once.
    pub max_generations: Option<u32>,
    /// Bytes a call may write.
    pub output_bytes: Option<u64>,
    /// Bytes a call may log.
    pub log_bytes: Option<u64>,
    /// Hosts its code may call: `https://api.example.com`.
    pub allowed_outbound_hosts: Vec<String>,
    /// Capabilities of its code: `state`, `clock`, `random`.
    pub capabilities: Vec<String>,
    /// Sampling defaults, by OpenAI's names.
    pub defaults: serde_json::Map<String, serde_json::Value>,
}
