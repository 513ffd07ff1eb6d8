//! A configuration read again while the server works: what may change is changed, the rest is told.
//!
//! All of it is checked before anything is changed, so that a broken file changes nothing. What a server is built around
//! (addresses, backbones, memory, the store) stays until it is started again.

use super::config::{ConfigError, HostConfig};
use super::control::{Control, policy};
use super::ledger::Till;
use super::start::{self, StartError};
use crate::auth::Bootstrap;
use crate::catalog::Catalog;
use crate::http::app::App;
use crate::http::tls::Certificates;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;

/// What a changed configuration came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys in force from now on, and files that were read again.
    pub changed: Vec<&'static str>,
    /// Keys that differ from what the server was started with, and why they wait for the next start.
    pub kept: Vec<(&'static str, &'static str)>,
}

/// The configuration in force.
pub(super) struct Taken {
    pub(super) config: HostConfig,
    /// The policy that it names, as its file had it then.
    pub(super) policy: String,
}

/// Takes configurations while the server works.
pub struct Reloader {
    pub(super) taken: Mutex<Taken>,
    pub(super) control: Arc<Control>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) till: Arc<Till>,
    pub(super) app: Arc<App>,
    pub(super) certificates: Option<Arc<Certificates>>,
}

impl Reloader {
    /// Takes a configuration, whole.
    ///
    /// # Errors
    /// What is wrong with it; everything stays as it was.
    pub async fn reload(&self, next: HostConfig) -> Result<Reloaded, StartError> {
        let mut taken = self.taken.lock().await;
        let config = taken.config.clone();
        next.check()?;
        let bootstrap = start::bootstrap(&next)?;
        if bootstrap.is_none() && !self.catalog.has_stored_keys() && !self.app.settings.open {
            return Err(ConfigError::Value {
                key: "api_key_file",
                problem: "without it nobody could reach this server: make a key first".to_owned(),
            }
            .into());
        }
        let prices = start::prices(&next)?;
        let text = start::policy_text(&next)?;
        let parsed = policy(&text).map_err(|error| StartError::Policy(error.message))?;
        // The last thing that can fail changes something itself.
        if let Some(certificates) = &self.certificates {
            certificates.reload()?;
        }
        let mut done = Reloaded { kept: kept(&config, &next), ..Reloaded::default() };
        if self.certificates.is_some() {
            done.changed.push("tls_certificate");
        }
        // One that was set through the API stays, unless the file says another one than before.
        if taken.policy != text {
            let set = self.control.live.set_policy(parsed).await;
            set.map_err(|error| StartError::Policy(error.to_string()))?;
            done.changed.push("policy");
        }
        self.take(&config, &next, bootstrap, &mut done);
        if self.till.set_prices(prices) {
            done.changed.push("tariff");
        }
        *taken = Taken { config: merged(&config, next), policy: text };
        Ok(done)
    }

    fn take(
        &self,
        config: &HostConfig,
        next: &HostConfig,
        bootstrap: Option<Bootstrap>,
        done: &mut Reloaded,
    ) {
        if self.catalog.set_bootstrap(bootstrap) {
            done.changed.push("api_key_file");
        }
        if config.limits != next.limits {
            done.changed.push("limits");
        }
        if config.runtime_lora_updating != next.runtime_lora_updating {
            done.changed.push("runtime_lora_updating");
        }
        let mut limits = next.edge_limits();
        limits.connections = self.app.settings.limits.connections;
        self.app.tune(limits, next.runtime_lora_updating);
    }
}

/// What is in force afterwards: the new one, but for what waits for a start.
fn merged(config: &HostConfig, next: HostConfig) -> HostConfig {
    HostConfig {
        policy: next.policy,
        api_key: next.api_key,
        api_key_file: next.api_key_file,
        runtime_lora_updating: next.runtime_lora_updating,
        tariff: next.tariff,
        tariff_device: next.tariff_device,
        log: next.log,
        limits: next.limits,
        ..config.clone()
    }
}

const BUILT: &str = "the server is built around it";
const OPENED: &str = "it is opened once, at the start";

/// Keys that differ and wait, each with its reason.
fn kept(config: &HostConfig, next: &HostConfig) -> Vec<(&'static str, &'static str)> {
    let HostConfig {
        host,
        port,
        data_dir,
        models_dir,
        backbones,
        policy: _,
        api_key: _,
        api_key_file: _,
        tls_certificate,
        tls_key,
        runtime_lora_updating: _,
        slo_ttft_ms,
        measure_tokens,
        event_log,
        traces,
        tariff: _,
        tariff_device: _,
        log: _,
        engine,
        artifacts,
        limits,
        lora_modules,
    } = next;
    let tls = |own: &Option<PathBuf>, next: &Option<PathBuf>| own != next;
    let all = [
        ("host", *host != config.host, OPENED),
        ("port", *port != config.port, OPENED),
        ("data_dir", *data_dir != config.data_dir, OPENED),
        ("models_dir", *models_dir != config.models_dir, BUILT),
        ("backbones", *backbones != config.backbones, BUILT),
        (
            "tls_certificate",
            tls(&config.tls_certificate, tls_certificate),
            "its files are read again, its path is not",
        ),
        ("tls_key", tls(&config.tls_key, tls_key), "its files are read again, its path is not"),
        ("slo_ttft_ms", *slo_ttft_ms != config.slo_ttft_ms, "functions are given it as they are registered"),
        (
            "measure_tokens",
            *measure_tokens != config.measure_tokens,
            "the machine is measured once, at the start",
        ),
        ("event_log", *event_log != config.event_log, OPENED),
        ("traces", *traces != config.traces, OPENED),
        ("engine", *engine != config.engine, BUILT),
        ("artifacts", *artifacts != config.artifacts, BUILT),
        ("limits.connections", limits.connections != config.limits.connections, BUILT),
        (
            "lora_modules",
            *lora_modules != config.lora_modules,
            "they are registered at the start: use the API",
        ),
    ];
    all.into_iter().filter(|(_, differs, _)| *differs).map(|(key, _, why)| (key, why)).collect()
}
