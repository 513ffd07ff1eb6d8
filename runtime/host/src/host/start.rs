//! Starting, serving and stopping.

use super::code::Components;
use super::config::{ConfigError, HostConfig, LoraModule};
use super::control::{self, Control};
use super::feed::Feed;
use super::identify::Keys;
use super::ledger::{StoreLedger, Till};
use super::lora::Dialect;
use super::machine::State;
use super::names::{Known, Served};
use super::quotas::Metered;
use super::reload::{Reloader, Taken};
use super::state::StoreState;
use crate::admin::action::{AdapterSpec, DEFAULT_ADAPTER, FunctionSpec, UsageBy, UsageQuery};
use crate::admin::ingest::Uploads;
use crate::admin::ingest::artifacts::Artifacts;
use crate::admin::live::Books as _;
use crate::admin::{
    Action, Admin, AdminError, AdminOptions, At, DEFAULT_TENANT, Parts, Principal, StoreBooks, Terms,
};
use crate::auth::{Bootstrap, BootstrapError, Secret};
use crate::catalog::Catalog;
use crate::http::app::{App, Behind, Settings};
use crate::http::{auth, server, tls};
use crate::live::core::{BackboneInfo, Budget, EventLog, Live, LiveOptions, Machine, MachineOptions};
use crate::live::loaders::Loaders;
use crate::live::logs::Logs;
use crate::live::model::ModelOptions;
use crate::meter::{DevicePrice, Prices};
use crate::observe::{Look, Metrics, Tracer};
use crate::quota::calendar::Month;
use crate::quota::{Now, Quotas};
use crate::records::Scope;
use crate::store::clock::{Clock, SystemClock};
use crate::store::journal::Book;
use crate::store::ledger::Ledger;
use crate::store::{OpenError, Store, StoreError};
use coldframe_backbone::adapter::Limits;
use coldframe_backbone::native::KvFormat;
use coldframe_policy::units::BackboneId;
use coldframe_sandbox::{Compiler, Sandbox, SandboxOptions};
use coldframe_simulator::profile::Profiles;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Largest adapter that a one-process policy makes room for, bytes.
const ADAPTER_SLOT: u64 = 64 << 20;
/// Loads of backbones and adapters at once, and of code. Some wait for a disk or for a child that compiles, so more than there
/// may be cores; arbitrary.
const LOADERS: usize = 4;
/// Bytes of the event log.
const EVENT_LOG_BYTES: u64 = 1 << 30;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store, once open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operator's key.
    #[error(transparent)]
    Key(#[from] BootstrapError),
    /// Listening where strangers could ask.
    #[error(transparent)]
    Exposed(#[from] auth::Exposed),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// The sandbox.
    #[error("the sandbox could not start: {0}")]
    Sandbox(#[from] coldframe_sandbox::Error),
    /// A backbone.
    #[error("backbone `{name}`: {problem}")]
    Backbone {
        /// Which.
        name: String,
        /// Why.
        problem: String,
    },
    /// The policy.
    #[error("policy: {0}")]
    Policy(String),
    /// A function of the configuration.
    #[error("function `{name}` could not be registered: {problem}")]
    Function {
        /// Which.
        name: String,
        /// Why.
        problem: String,
    },
    /// A file or the socket.
    #[error("{what}: {problem}")]
    Io {
        /// What was touched.
        what: String,
        /// Why it failed.
        problem: std::io::Error,
    },
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |problem| StartError::Io { what, problem }
}

/// A server, started.
pub struct Host {
    /// Where it listens.
    pub address: SocketAddr,
    /// The administration.
    pub admin: Arc<Admin>,
    /// The application.
    pub app: Arc<App>,
    listener: TcpListener,
    certificates: Option<Arc<tls::Certificates>>,
    reloader: Arc<Reloader>,
    live: Live,
    decisions: JoinHandle<()>,
    ledger: Ledger,
    shutdown: watch::Sender<bool>,
}

impl Host {
    /// Puts a server together. It answers once [`Host::run`] is called.
    ///
    /// # Errors
    /// [`StartError`], saying what to do.
    pub async fn start(config: HostConfig, compiler: Option<Compiler>) -> Result<Self, StartError> {
        config.check()?;
        let prices = prices(&config)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        std::fs::create_dir_all(&config.data_dir).map_err(io(config.data_dir.display().to_string()))?;
        let store = Arc::new(Store::open(&config.data_dir.join("store"), clock.clone()).await?);
        let bootstrap = bootstrap(&config)?;
        let (catalog, mut changes) = Catalog::start(store.registry(), bootstrap).await?;
        let open = !catalog.has_keys();
        auth::check_exposure(SocketAddr::new(config.host, config.port), open)?;
        let certificates = certificates(&config)?;
        let listener = TcpListener::bind((config.host, config.port));
        let listener = listener.await.map_err(io(format!("listening on {}:{}", config.host, config.port)))?;
        let address = listener.local_addr().map_err(io("the socket"))?;

        let adapters = config.data_dir.join("adapters");
        let artifacts = Artifacts::open(store.blobs(), adapters.clone());
        let artifacts = Arc::new(artifacts.map_err(io(adapters.display().to_string()))?);
        let components = Components::new(Sandbox::new(SandboxOptions {
            cache: Some(config.data_dir.join("compiled")),
            compiler,
            ..SandboxOptions::default()
        })?);
        let logs = Arc::new(Logs::default());
        let machine = Machine::new(MachineOptions {
            models: config.backbones.iter().map(|backbone| model(&config, backbone)).collect(),
            source: artifacts.clone(),
            compiler: Arc::new(components.clone()),
            state: Arc::new(StoreState(store.state())),
            logs: logs.clone(),
            loaders: Loaders::start(LOADERS).map_err(io("the threads that load"))?,
            code_loaders: Loaders::start(LOADERS).map_err(io("the threads that load code"))?,
        });
        let ledger = Ledger::start(store.journal(), Book::Ledger);
        let backbones = open_backbones(&config, &machine, clock.wall_ms()).await?;
        let metrics =
            Arc::new(Metrics::new(Tracer::start(&config.traces).map_err(io("the thread of traces"))?));
        let quotas = Quotas::default();
        let till = Arc::new(Till::new(prices, quotas.clone(), clock.clone()));
        let books = StoreBooks::new(store.clone()).with_ledger(ledger.clone());
        budgets(&books, &quotas, &*clock).await?;
        let sink = StoreLedger { ledger: ledger.clone(), till: till.clone() };
        let (live, decisions) = decide(&config, &machine, &backbones, sink, metrics.clone()).await?;

        let (shutdown, _) = watch::channel(false);
        let names: Vec<String> = backbones.infos.iter().map(|info| info.name.clone()).collect();
        let control = Arc::new(Control {
            live: live.clone(),
            machine: machine.clone(),
            backbones: names,
            catalog: catalog.clone(),
            components,
            logs: logs.clone(),
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        });
        let parts = Parts {
            registry: store.registry(),
            blobs: store.blobs(),
            live: control.clone(),
            books: Arc::new(books),
            artifacts,
        };
        let admin = Arc::new(Admin::new(parts, admin_options(&config)?));

        let mut feed = Feed::new(logs);
        feed.catch_up(&live, &mut changes).await;
        tokio::spawn(feed.follow(live.clone(), changes));

        let look: Weak<dyn Look> = Arc::downgrade(&(control.clone() as Arc<dyn Look>));
        metrics.watch(look);
        let behind = Behind {
            caller: Arc::new(Metered {
                live: live.clone(),
                executors: Arc::new(machine),
                catalog: catalog.clone(),
                quotas,
                clock: clock.clone(),
            }),
            identify: Arc::new(Keys::new(catalog.clone(), clock, open)),
            functions: Arc::new(Known { catalog: catalog.clone(), served: backbones.served, adapters }),
            adapters: Arc::new(Dialect {
                admin: admin.clone(),
                control: control.clone(),
                max_rank: u32::try_from(config.artifacts.max_lora_rank).unwrap_or(u32::MAX),
                max_bytes: budget(&config).device,
            }),
            machine: Arc::new(State {
                control: control.clone(),
                asleep: false.into(),
                broken: Box::new(move || store.broken()),
            }),
            observe: metrics,
        };
        let settings = Settings {
            limits: config.edge_limits(),
            open,
            runtime_lora_updating: config.runtime_lora_updating,
            endpoint: Some(address.to_string()),
        };
        let mut routes = crate::admin::routes::all(&admin);
        routes.extend(crate::dashboard::routes());
        let app = App::new(behind, settings, routes, crate::admin::schemas::all());
        let modules = config.lora_modules.clone();
        let reloader = Arc::new(Reloader {
            taken: tokio::sync::Mutex::new(Taken { policy: policy_text(&config)?, config }),
            control,
            catalog,
            till,
            app: app.clone(),
            certificates: certificates.clone(),
        });
        let host =
            Self { address, admin, app, listener, certificates, reloader, live, decisions, ledger, shutdown };
        host.register(&modules).await?;
        Ok(host)
    }

    /// Registers functions of the configuration, where they are not there as they should be.
    async fn register(&self, modules: &[LoraModule]) -> Result<(), StartError> {
        let operator = Principal {
            tenant: DEFAULT_TENANT.to_owned(),
            scope: Scope::Operator,
            key: "configuration".to_owned(),
        };
        for module in modules {
            let adapter = AdapterSpec {
                name: DEFAULT_ADAPTER.to_owned(),
                uri: Some(reference(module)),
                ..AdapterSpec::default()
            };
            let spec = FunctionSpec {
                backbone: module.base_model_name.clone(),
                adapters: vec![adapter],
                ..FunctionSpec::default()
            };
            let at = At { tenant: None, function: module.name.clone() };
            let action = Action::FunctionPut { at, spec, uploads: Uploads::default() };
            let done = self.admin.run(&operator, action, &Terms::default()).await;
            done.map_err(|AdminError { message, .. }| StartError::Function {
                name: module.name.clone(),
                problem: message,
            })?;
        }
        Ok(())
    }

    /// Serves until `stop` is ready or an operator drains it; then finishes what is under way.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { app, listener, certificates, live, decisions, ledger, shutdown, admin, reloader, .. } =
            self;
        let mut drained = shutdown.subscribe();
        let stop = async move {
            tokio::select! {
                () = stop => {}
                // The sender lives in here, so that this ends only when it is told to.
                _ = drained.wait_for(|drain| *drain) => {}
            }
        };
        server::run(listener, app.clone(), certificates, stop).await;
        if tokio::time::timeout(app.limits().grace, live.drain()).await.is_err() {
            tracing::warn!("calls that did not end within the grace are cut");
        }
        drop((live, admin, app, reloader, shutdown));
        // The last rows of residency are written as the decisions end.
        let _ = tokio::time::timeout(Duration::from_secs(2), decisions).await;
        if let Err(error) = ledger.flush().await {
            tracing::error!(%error, "the last rows of the ledger could not be written");
        }
    }

    /// Takes configurations while it serves, and no longer.
    pub fn reloader(&self) -> Weak<Reloader> {
        Arc::downgrade(&self.reloader)
    }
}

pub(super) fn bootstrap(config: &HostConfig) -> Result<Option<Bootstrap>, StartError> {
    if let Some(key) = &config.api_key {
        return Ok(Some(Bootstrap::from_text(key.reveal())?));
    }
    Ok(config.api_key_file.as_deref().map(Bootstrap::from_file).transpose()?)
}

fn certificates(config: &HostConfig) -> Result<Option<Arc<tls::Certificates>>, StartError> {
    let pair = config.tls_certificate.as_deref().zip(config.tls_key.as_deref());
    Ok(pair.map(|(certificate, key)| tls::Certificates::load(certificate, key)).transpose()?)
}

fn model(config: &HostConfig, backbone: &super::BackboneConfig) -> ModelOptions {
    let engine = &config.engine;
    let usual = ModelOptions::new(backbone.model.clone());
    ModelOptions {
        name: backbone.name.clone(),
        home: config.models_dir.clone(),
        threads: engine.threads.unwrap_or(usual.threads),
        kv: match engine.kv.as_str() {
            "f32" => KvFormat::F32,
            "q8" => KvFormat::Q8,
            _ => KvFormat::F16,
        },
        kv_bytes: engine.kv_mib << 20,
        ..usual
    }
}

/// Backbones, opened.
struct Opened {
    infos: Vec<BackboneInfo>,
    served: Vec<Served>,
}

async fn open_backbones(config: &HostConfig, machine: &Machine, now_ms: u64) -> Result<Opened, StartError> {
    let (mut infos, mut served) = (Vec::new(), Vec::new());
    for (place, backbone) in config.backbones.iter().enumerate() {
        let number = BackboneId(u32::try_from(place).unwrap_or(u32::MAX));
        let failed = |problem| StartError::Backbone { name: backbone.model.clone(), problem };
        let spec = machine.open_ahead(number, ADAPTER_SLOT).await.map_err(failed)?;
        let model = machine.open(number).await.map_err(failed)?;
        infos.push(BackboneInfo { name: model.name.clone(), spec });
        served.push(Served::of(&model, backbone.served_names.clone(), now_ms));
    }
    Ok(Opened { infos, served })
}

async fn decide(
    config: &HostConfig,
    machine: &Machine,
    backbones: &Opened,
    ledger: StoreLedger,
    witness: Arc<Metrics>,
) -> Result<(Live, JoinHandle<()>), StartError> {
    let text = policy_text(config)?;
    let policy = control::policy(&text).map_err(|error| StartError::Policy(error.message))?;
    let slo = Duration::from_millis(config.slo_ttft_ms);
    let estimates = machine.measure(BackboneId(0), config.measure_tokens, slo).await;
    let estimates = estimates
        .map_err(|problem| StartError::Backbone { name: backbones.infos[0].name.clone(), problem })?;
    let path = config.event_log.clone();
    let options = LiveOptions {
        policy,
        backbones: backbones.infos.clone(),
        budget: budget(config),
        estimates,
        max_calls: config.engine.max_calls,
        log: path.map(|path| {
            let make: Box<dyn FnOnce(&_) -> _ + Send> =
                Box::new(move |header: &_| EventLog::create(&path, header, EVENT_LOG_BYTES));
            make
        }),
        ledger: Arc::new(ledger),
        witness,
        checked: false,
    };
    Live::start(options, Arc::new(machine.clone())).map_err(io("the event log"))
}

/// The policy's name, or the text of its file.
pub(super) fn policy_text(config: &HostConfig) -> Result<String, StartError> {
    match config.policy.ends_with(".toml") || config.policy.contains('/') {
        true => std::fs::read_to_string(&config.policy).map_err(io(config.policy.clone())),
        false => Ok(config.policy.clone()),
    }
}

/// The tariff, for this machine.
pub(super) fn prices(config: &HostConfig) -> Result<Option<Prices>, StartError> {
    let Some(name) = &config.tariff else { return Ok(None) };
    let wrong = |key, problem: String| StartError::Config(ConfigError::Value { key, problem });
    let tariff = Profiles::tariff(name).map_err(|error| wrong("tariff", error.to_string()))?;
    let device = DevicePrice { name: config.tariff_device.clone(), memory_bytes: budget(config).device };
    let prices = Prices::new(tariff, device);
    prices
        .map(Some)
        .map_err(|error| wrong("tariff_device", format!("{error}: say which of them this machine is")))
}

/// Tells budgets what the ledger has of this month.
async fn budgets(books: &StoreBooks, quotas: &Quotas, clock: &dyn Clock) -> Result<(), StartError> {
    let now = Now { monotonic: clock.monotonic(), wall_ms: clock.wall_ms() };
    let query = UsageQuery {
        from_ms: Some(Month::of(now.wall_ms).start_ms()),
        by: UsageBy::Tenant,
        ..UsageQuery::default()
    };
    for row in books.usage(&query).await? {
        quotas.spend(&row.tenant, row.total_nanodollars, now);
    }
    Ok(())
}

/// Memory that decisions may use: as configured, else three quarters of the machine's.
fn budget(config: &HostConfig) -> Budget {
    let device = config.engine.device_mib.map_or_else(|| machine_bytes() / 4 * 3, |mib| mib << 20);
    Budget { device, host: config.engine.host_mib << 20 }
}

/// Memory of the machine; 8 GiB where the system does not say.
fn machine_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(8 << 30, |kib| kib << 10)
}

fn admin_options(config: &HostConfig) -> Result<AdminOptions, StartError> {
    let mut ingest = config.ingest();
    // What the operator names at start may be read, wherever it lies.
    let local = config.lora_modules.iter().filter(|module| !module.path.contains("://"));
    ingest.roots.extend(local.filter_map(|module| {
        let path = absolute(&module.path);
        if path.is_dir() { Some(path) } else { path.parent().map(Path::to_owned) }
    }));
    Ok(AdminOptions {
        ingest,
        limits: Limits {
            rank_max: config.artifacts.max_lora_rank,
            file_bytes_max: config.artifacts.file_mib << 20,
            ..Limits::default()
        },
        backups: config.data_dir.join("backups"),
        cursor_key: cursor_key(&config.data_dir.join("cursor.key"))?,
    })
}

fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// A path of this machine, absolute; anything else as it stands.
fn reference(module: &LoraModule) -> String {
    match (module.path.contains("://"), &module.revision) {
        (false, _) => format!("file://{}", absolute(&module.path).display()),
        (true, Some(revision)) if !module.path.contains('@') => format!("{}@{revision}", module.path),
        (true, _) => module.path.clone(),
    }
}

/// The secret of cursors: made once, so that a page that was given out before a restart still leads on.
fn cursor_key(path: &Path) -> Result<Secret, StartError> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let shown = || path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) if text.len() >= 32 => return Ok(Secret::new(text)),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(shown())(error)),
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)
        .map_err(|error| io("random numbers")(std::io::Error::other(error.to_string())))?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(io(shown()))?;
    Ok(Secret::new(text))
}
