//! `coldframe serve`: the server. Flags, environment and file meet here; everything else is the host's.

use crate::ui::Ui;
use anyhow::{Context, Result, anyhow};
use clap::Args;
use coldframe_host::auth::Secret;
use coldframe_host::host::{BackboneConfig, Host, HostConfig, LoraModule, Reloaded, Reloader};
use coldframe_host::live::threads::answering;
use coldframe_sandbox::Compiler;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Weak;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Name of the hidden command that compiles components.
pub const COMPILE: &str = "sandbox-compile";

/// Serve functions on a backbone over HTTP
#[derive(Args, Clone)]
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
    /// A tariff: one that is shipped (`coldframe profiles list tariffs`) or a file; without, everything is free
    #[arg(long, env = "COLDFRAME_TARIFF", value_name = "NAME|FILE")]
    tariff: Option<String>,
    /// What the tariff calls the device that this machine is priced as [default: cpu]
    #[arg(long, env = "COLDFRAME_TARIFF_DEVICE", value_name = "NAME")]
    tariff_device: Option<String>,
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
        over(&mut config.tariff_device, self.tariff_device);
        config.tariff = self.tariff.or(config.tariff);
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
        config.traces.overlay(|name| std::env::var(name).ok());
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
    let again = args.clone();
    let config = args.resolve(ui)?;
    let secure = config.tls_certificate.is_some();
    let relog = log(&config.log)?;
    let program = std::env::current_exe().context("this program's own path, to compile components with")?;
    let compiler = Compiler { program, args: vec![OsString::from(COMPILE)] };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The host's loads and engine are on threads of their own, started from this one.
        .on_thread_start(answering)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let host = Host::start(config, Some(compiler)).await?;
        let scheme = if secure { "https" } else { "http" };
        ui.say(&format!("listening on {scheme}://{}", host.address));
        // Programs that took port 0 read where it is.
        crate::ui::print(&format!("{scheme}://{}\n", host.address))?;
        tokio::spawn(reloads(again, host.reloader(), relog, signal(SignalKind::hangup())?));
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

/// Takes the configuration again at every SIGHUP, as long as the server works. A broken one is told, and nothing changes.
async fn reloads(args: ServeArgs, reloader: Weak<Reloader>, relog: Relog, mut hangup: Signal) {
    while hangup.recv().await.is_some() {
        let Some(reloader) = reloader.upgrade() else { return };
        let outcome = async {
            let config = args.clone().resolve(&Ui::without_signals(false, true))?;
            let filter = filter(&config.log)?;
            let done = reloader.reload(config).await?;
            relog(filter);
            anyhow::Ok(done)
        };
        match outcome.await {
            Ok(Reloaded { changed, kept }) => {
                for (key, why) in kept {
                    tracing::warn!(key, why, "waits for the next start");
                }
                tracing::info!(changed = changed.join(", "), "reloaded");
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "not reloaded; what was there stays in use")
            }
        }
    }
}

/// Puts another filter on the log.
type Relog = Box<dyn Fn(EnvFilter) + Send + Sync>;

/// What is logged: as `RUST_LOG` says, else as the configuration does.
fn filter(configured: &str) -> Result<EnvFilter> {
    match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::try_new(&text).context("RUST_LOG"),
        _ => EnvFilter::try_new(configured).context("log"),
    }
}

/// Logs to stderr, `COLDFRAME_LOG=json` says in which form.
fn log(configured: &str) -> Result<Relog> {
    let to = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter(configured)?);
    // A second subscriber in one process is a test's; the first stays.
    Ok(match std::env::var("COLDFRAME_LOG").as_deref() {
        Ok("json") => {
            let to = to.json().with_filter_reloading();
            let handle = to.reload_handle();
            let _ = to.try_init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
        _ => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let to = to.with_ansi(terminal).with_filter_reloading();
            let handle = to.reload_handle();
            let _ = to.try_init();
            Box::new(move |filter| drop(handle.reload(filter)))
        }
    })
}
