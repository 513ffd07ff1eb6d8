//! `coldframe serve`: the server. Flags, environment and file meet here; everything else is the host's.

use crate::ui::Ui;
use anyhow::{Context, Result, anyhow};
use clap::Args;
use coldframe_host::auth::Secret;
use coldframe_host::host::{BackboneConfig, Host, HostConfig, LoraModule};
use coldframe_sandbox::Compiler;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};

/// Name of the hidden command that compiles components.
pub const COMPILE: &str = "sandbox-compile";

/// Serve functions on a backbone over HTTP
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe serve --backbone smollm2-135m-instruct
  coldframe serve --backbone smollm2-135m-instruct --lora-modules pirate=functions/adapters/pirate
  coldframe serve --config /etc/coldframe/coldframe.toml

Without keys it listens on this machine only. `coldframe key create` makes the first key.")]
pub struct ServeArgs {
    /// Configuration file (TOML); flags win over it
    #[arg(long, env = "COLDFRAME_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Model to serve: a name of the store, or a path; repeat for more
    #[arg(long, alias = "model", env = "COLDFRAME_BACKBONE", value_name = "NAME|PATH")]
    backbone: Vec<String>,
    /// What requests call the model; further names mean it too
    #[arg(long, num_args = 1.., value_name = "NAME")]
    served_model_name: Vec<String>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long, env = "COLDFRAME_HOST", value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Port; 0 takes a free one [default: 8000]
    #[arg(long, env = "COLDFRAME_PORT")]
    port: Option<u16>,
    /// Folder of the registry, blobs and books [default: coldframe-data]
    #[arg(long, env = "COLDFRAME_DATA_DIR", value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Folder of models [default: $COLDFRAME_HOME, else the user's data folder]
    #[arg(long, env = "COLDFRAME_HOME", value_name = "FOLDER", hide_env_values = true)]
    home: Option<PathBuf>,
    /// The operator's key, 16 characters or more
    #[arg(long, env = "COLDFRAME_OPERATOR_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A file that holds the operator's key, readable by its owner only
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    api_key_file: Option<PathBuf>,
    /// A policy: a preset (`coldframe policies list`) or a file [default: coldframe]
    #[arg(long, env = "COLDFRAME_POLICY", value_name = "NAME|FILE")]
    policy: Option<String>,
    /// Functions to register: NAME=PATH, or JSON with name, path, base_model_name, revision
    #[arg(long, num_args = 1.., value_name = "NAME=PATH")]
    lora_modules: Vec<String>,
    /// Accepted for vLLM's sake: adapters are always on
    #[arg(long)]
    enable_lora: bool,
    /// Accepted for vLLM's sake: a batch has no bound on adapters, memory has
    #[arg(long, value_name = "N")]
    max_loras: Option<usize>,
    /// Largest rank of an adapter [default: 256]
    #[arg(long, value_name = "R")]
    max_lora_rank: Option<usize>,
    /// Folders that file:// may name adapters in
    #[arg(long, value_name = "FOLDER")]
    artifact_root: Vec<PathBuf>,
    /// MiB for weights, adapters and KV pages together [default: three quarters of the machine's memory]
    #[arg(long, value_name = "MIB")]
    device_mib: Option<u64>,
    /// MiB of KV pages [default: 512]
    #[arg(long, value_name = "MIB")]
    kv_mib: Option<u64>,
    /// Threads of a step [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Certificate chain (PEM)
    #[arg(long, alias = "ssl-certfile", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, alias = "ssl-keyfile", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Log decisions to a new file, for `coldframe whatif`
    #[arg(long, value_name = "FILE")]
    event_log: Option<PathBuf>,
}

impl ServeArgs {
    /// The file with the flags on top.
    fn resolve(self, ui: &Ui) -> Result<HostConfig> {
        let mut config = match &self.config {
            Some(path) => HostConfig::read(path)?,
            None => HostConfig::default(),
        };
        if !self.backbone.is_empty() {
            let named = |model| BackboneConfig { model, ..BackboneConfig::default() };
            config.backbones = self.backbone.into_iter().map(named).collect();
        }
        if let (Some((first, rest)), Some(backbone)) =
            (self.served_model_name.split_first(), config.backbones.first_mut())
        {
            backbone.name = Some(first.clone());
            backbone.served_names = rest.to_vec();
        }
        let modules = self.lora_modules.iter().map(|text| module(text)).collect::<Result<Vec<_>>>()?;
        config.lora_modules.extend(modules);
        if self.max_loras.is_some() {
            ui.say("--max-loras has no effect: memory bounds how many adapters are loaded (--device-mib)");
        }
        let flag = std::env::var("VLLM_ALLOW_RUNTIME_LORA_UPDATING").is_ok()
            || std::env::var("COLDFRAME_ALLOW_RUNTIME_LORA_UPDATING").is_ok();
        if flag {
            config.runtime_lora_updating =
                coldframe_host::http::lora::gate_from(|name| std::env::var(name).ok());
        }
        over(&mut config.host, self.host);
        over(&mut config.port, self.port);
        over(&mut config.data_dir, self.data_dir);
        over(&mut config.policy, self.policy);
        over(&mut config.artifacts.max_lora_rank, self.max_lora_rank);
        over(&mut config.engine.kv_mib, self.kv_mib);
        config.models_dir = self.home.or(config.models_dir);
        config.api_key = self.api_key.map(Secret::new).or(config.api_key);
        config.api_key_file = self.api_key_file.or(config.api_key_file);
        config.engine.device_mib = self.device_mib.or(config.engine.device_mib);
        config.engine.threads = self.threads.or(config.engine.threads);
        config.tls_certificate = self.tls_certificate.or(config.tls_certificate);
        config.tls_key = self.tls_key.or(config.tls_key);
        config.event_log = self.event_log.or(config.event_log);
        for root in self.artifact_root {
            let root = std::path::absolute(&root).with_context(|| format!("{}", root.display()))?;
            config.artifacts.roots.push(root);
        }
        Ok(config)
    }
}

fn over<T>(value: &mut T, flag: Option<T>) {
    if let Some(flag) = flag {
        *value = flag;
    }
}

/// `NAME=PATH`, or JSON as vLLM takes it.
fn module(text: &str) -> Result<LoraModule> {
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).with_context(|| format!("--lora-modules {text}"));
    }
    let (name, path) =
        text.split_once('=').ok_or_else(|| anyhow!("--lora-modules {text}: expected NAME=PATH or JSON"))?;
    Ok(LoraModule { name: name.to_owned(), path: path.to_owned(), ..LoraModule::default() })
}

/// Runs the command.
pub fn run(args: ServeArgs, ui: &Ui) -> Result<()> {
    let config = args.resolve(ui)?;
    let secure = config.tls_certificate.is_some();
    log();
    let program = std::env::current_exe().context("this program's own path, to compile components with")?;
    let compiler = Compiler { program, args: vec![OsString::from(COMPILE)] };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let host = Host::start(config, Some(compiler)).await?;
        let scheme = if secure { "https" } else { "http" };
        ui.say(&format!("listening on {scheme}://{}", host.address));
        // Programs that took port 0 read where it is.
        crate::ui::print(&format!("{scheme}://{}\n", host.address))?;
        let reload = host.reloader();
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                match reload() {
                    Ok(()) => tracing::info!("reloaded"),
                    Err(error) => tracing::error!(%error, "not reloaded; what was there stays in use"),
                }
            }
        });
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (told, mut stop) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                // Whoever asks twice does not want to wait for the drain.
                if told.send_replace(true) {
                    std::process::exit(130);
                }
                tracing::info!("draining; a second signal ends at once");
            }
        });
        host.run(async move { drop(stop.wait_for(|told| *told).await) }).await;
        anyhow::Ok(())
    })
}

/// Logs to stderr: `RUST_LOG` says how much, `COLDFRAME_LOG=json` in which form.
fn log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let to = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber in one process is a test's; the first stays.
    let _ = match std::env::var("COLDFRAME_LOG").as_deref() {
        Ok("json") => to.json().try_init(),
        _ => to.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
    };
}
