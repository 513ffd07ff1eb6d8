//! What a server is started with: one resolved structure, whoever filled it in.
//!
//! A file in TOML, environment variables and flags meet in [`HostConfig`]; keys that it does not know fail with their
//! name. Every key stands in `docs/operations.md`.

use crate::admin::ingest::IngestOptions;
use crate::auth::Secret;
use crate::http::Limits;
use crate::observe::TraceConfig;
use serde::Deserialize;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {problem}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where and why.
        problem: String,
    },
    /// A value makes no sense.
    #[error("{key}: {problem}")]
    Value {
        /// Which.
        key: &'static str,
        /// Why, and what to do.
        problem: String,
    },
}

/// A backbone to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackboneConfig {
    /// A name of the model store, or a path.
    pub model: String,
    /// What requests call it; without, its name in the store or its file's.
    pub name: Option<String>,
    /// Further names that mean it.
    pub served_names: Vec<String>,
}

/// How much the engine takes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineConfig {
    /// Threads of a step; without, all cores.
    pub threads: Option<usize>,
    /// How keys and values are kept: `f32`, `f16` or `q8`.
    pub kv: String,
    /// MiB of KV pages.
    pub kv_mib: u64,
    /// MiB that weights, adapters and KV pages may take together; without, what the machine has less a quarter.
    pub device_mib: Option<u64>,
    /// MiB of host memory for adapters that left the device, and for code.
    pub host_mib: u64,
    /// Calls at once, waiting and running.
    pub max_calls: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            threads: None,
            kv: "f16".to_owned(),
            kv_mib: 512,
            device_mib: None,
            host_mib: 1024,
            max_calls: 1024,
        }
    }
}

/// Where artifacts may come from, and how large they may be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArtifactsConfig {
    /// Folders that `file://` may name things in.
    pub roots: Vec<PathBuf>,
    /// MiB of an adapter's tensor file.
    pub file_mib: u64,
    /// MiB of a component.
    pub module_mib: u64,
    /// Largest rank.
    pub max_lora_rank: usize,
    /// The hub's address.
    pub hub: String,
    /// Allows addresses of private networks, and plain http to them.
    pub private_addresses: bool,
    /// Takes the proxy of the environment.
    pub proxy: bool,
    /// Endings of host names that redirects may lead to.
    pub redirect_hosts: Vec<String>,
}

impl Default for ArtifactsConfig {
    fn default() -> Self {
        let usual = IngestOptions::default();
        Self {
            roots: usual.roots,
            file_mib: usual.file_bytes_max >> 20,
            module_mib: usual.module_bytes_max >> 20,
            max_lora_rank: 256,
            hub: usual.hub,
            private_addresses: usual.private_addresses,
            proxy: usual.proxy,
            redirect_hosts: usual.redirect_hosts,
        }
    }
}

/// A function that is registered at start: `--lora-modules`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraModule {
    /// The function.
    pub name: String,
    /// A folder or GGUF file of this machine, or a reference.
    pub path: String,
    /// Which backbone; without, the only one.
    #[serde(default)]
    pub base_model_name: Option<String>,
    /// A revision of the hub.
    #[serde(default)]
    pub revision: Option<String>,
}

/// Limits of the edge that operators set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Connections at once.
    pub connections: Option<usize>,
    /// MiB of a JSON body.
    pub body_mib: Option<usize>,
    /// MiB of an upload.
    pub upload_mib: Option<u64>,
    /// Seconds a call may take.
    pub request_s: Option<u64>,
    /// Seconds that requests get after the server was told to stop.
    pub grace_s: Option<u64>,
}

/// Everything a server is started with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostConfig {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Where the registry, blobs and books are.
    pub data_dir: PathBuf,
    /// The model store; without, the environment's.
    pub models_dir: Option<PathBuf>,
    /// Backbones, the default first.
    pub backbones: Vec<BackboneConfig>,
    /// Name of a preset, or path of a policy.
    pub policy: String,
    /// The operator's key; without keys the server listens on loopback only.
    #[serde(skip)]
    pub api_key: Option<Secret>,
    /// A file that holds the operator's key.
    pub api_key_file: Option<PathBuf>,
    /// Certificate chain, PEM.
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Whether vLLM's load and unload routes may change anything.
    pub runtime_lora_updating: bool,
    /// Milliseconds to the first token that are promised where a function names none.
    pub slo_ttft_ms: u64,
    /// Tokens of the prompt that the machine is measured with at start.
    pub measure_tokens: u32,
    /// Where decisions are logged; without, nowhere.
    pub event_log: Option<PathBuf>,
    /// Where traces go.
    pub traces: TraceConfig,
    /// Name of a tariff (`coldframe profiles list tariffs`), or path of one; without, everything is free.
    pub tariff: Option<String>,
    /// The device that this machine is priced as, by its name in the tariff.
    pub tariff_device: String,
    /// What is logged, in the words of `RUST_LOG`; that variable wins.
    pub log: String,
    /// The engine.
    pub engine: EngineConfig,
    /// Artifacts.
    pub artifacts: ArtifactsConfig,
    /// Limits.
    pub limits: LimitsConfig,
    /// Functions to register at start.
    pub lora_modules: Vec<LoraModule>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::from([127, 0, 0, 1]),
            port: 8000,
            data_dir: PathBuf::from("coldframe-data"),
            models_dir: None,
            backbones: Vec::new(),
            policy: "coldframe".to_owned(),
            api_key: None,
            api_key_file: None,
            tls_certificate: None,
            tls_key: None,
            runtime_lora_updating: false,
            slo_ttft_ms: 1000,
            measure_tokens: 64,
            event_log: None,
            traces: TraceConfig::default(),
            tariff: None,
            tariff_device: "cpu".to_owned(),
            log: "info".to_owned(),
            engine: EngineConfig::default(),
            artifacts: ArtifactsConfig::default(),
            limits: LimitsConfig::default(),
            lora_modules: Vec::new(),
        }
    }
}

impl HostConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// [`ConfigError`], with the line of an unknown key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|problem| ConfigError::Unread { path: path.to_owned(), problem })?;
        toml::from_str(&text)
            .map_err(|error| ConfigError::Invalid { path: path.to_owned(), problem: error.to_string() })
    }

    /// Looks for values that make no sense together.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, problem: &str| Err(ConfigError::Value { key, problem: problem.to_owned() });
        if self.backbones.is_empty() {
            return wrong("backbones", "name a model to serve: --backbone smollm2-135m-instruct, or a path");
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return wrong("tls_certificate", "a certificate and its key go together: give both or none");
        }
        if !["f32", "f16", "q8"].contains(&self.engine.kv.as_str()) {
            return wrong("engine.kv", "give f32, f16 or q8");
        }
        if self.engine.kv_mib == 0 || self.engine.max_calls == 0 {
            return wrong("engine", "kv_mib and max_calls are at least 1");
        }
        Ok(())
    }

    /// Limits of the edge.
    pub fn edge_limits(&self) -> Limits {
        let (usual, own) = (Limits::default(), &self.limits);
        Limits {
            connections: own.connections.unwrap_or(usual.connections),
            body_bytes: own.body_mib.map_or(usual.body_bytes, |mib| mib << 20),
            upload_bytes: own.upload_mib.map_or(usual.upload_bytes, |mib| mib << 20),
            request_time: own.request_s.map_or(usual.request_time, Duration::from_secs),
            grace: own.grace_s.map_or(usual.grace, Duration::from_secs),
            ..usual
        }
    }

    /// Bounds and places of artifacts, with the folders of what is registered at start.
    pub fn ingest(&self) -> IngestOptions {
        let own = &self.artifacts;
        let token = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].iter().find_map(|name| std::env::var(name).ok());
        IngestOptions {
            roots: own.roots.clone(),
            file_bytes_max: own.file_mib << 20,
            module_bytes_max: own.module_mib << 20,
            hub: own.hub.clone(),
            hub_token: token.filter(|token| !token.is_empty()).map(Secret::new),
            private_addresses: own.private_addresses,
            proxy: own.proxy,
            redirect_hosts: own.redirect_hosts.clone(),
            ..IngestOptions::default()
        }
    }
}
