//! The running host as the administration sees it.

use super::code::Components;
use crate::admin::error::{AdminError, Kind, Result};
use crate::admin::live::{BackboneInfo, Base, LiveControl, ModuleReport, Policy};
use crate::admin::records::LogRow;
use crate::call::{Call, CallEvent, Later, Shape, ToolChoice, Work};
use crate::catalog::{Catalog, LIVE};
use crate::live::core::{Live, LiveError, Machine, Residency, Sleep};
use crate::live::logs::{LogLine, Logs};
use crate::observe::Metrics;
use crate::records::{Generation, Names, Settings};
use crate::store::{LocalFile, Revision};
use coldframe_backbone::sample::SamplingParams;
use coldframe_policy::config::{PolicyConfig, from_table, preset, preset_names};
use coldframe_policy::units::BackboneId;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a change may take until calls see it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the answer to a self-check may take.
const CHECK_TIME: Duration = Duration::from_secs(60);

/// Controls what runs.
pub struct Control {
    /// Decisions.
    pub live: Live,
    /// Models.
    pub machine: Machine,
    /// Names of backbones, by number.
    pub backbones: Vec<String>,
    /// What is registered.
    pub catalog: Arc<Catalog>,
    /// Functions' code.
    pub components: Components,
    /// What functions' code logged.
    pub logs: Arc<Logs>,
    /// The last requests.
    pub metrics: Arc<Metrics>,
    /// Tells the edge to take no more.
    pub shutdown: tokio::sync::watch::Sender<bool>,
}

impl Control {
    fn number(&self, name: &str) -> Option<BackboneId> {
        let place = self.backbones.iter().position(|known| known == name)?;
        Some(BackboneId(u32::try_from(place).ok()?))
    }

    fn info(&self, place: usize, name: &str) -> BackboneInfo {
        let model = self.machine.model(BackboneId(u32::try_from(place).unwrap_or(u32::MAX)));
        let state = match &model {
            None => "unloaded",
            Some(model) if model.engine.fenced().is_some() => "fenced",
            Some(_) => "ready",
        };
        let config = model.as_ref().map(|model| model.checkpoint.config());
        BackboneInfo {
            name: name.to_owned(),
            architecture: config
                .map(|config| format!("{:?}", config.family).to_ascii_lowercase())
                .unwrap_or_default(),
            state: state.to_owned(),
            max_model_len: model.as_ref().map_or(0, |model| model.context()),
            layers: config.map_or(0, |config| config.layers),
            hidden_size: config.map_or(0, |config| config.width),
            vocab_size: config.map_or(0, |config| config.vocab),
            bytes: model.as_ref().map_or(0, |model| model.mapped_bytes()),
            digest: model.as_ref().map(|model| model.checkpoint.identity()),
        }
    }

    /// The generations that a function's bare name means.
    fn live_generations(&self, names: &Names) -> Vec<String> {
        let function = self.catalog.function(&names.tenant, &names.function);
        let targets = function.and_then(|function| function.aliases.get(LIVE).cloned()).unwrap_or_default();
        targets.into_iter().map(|target| target.generation).collect()
    }

    /// What is where, of one tenant or of all.
    async fn seen(&self, tenant: Option<&str>) -> Result<Residency> {
        let mut seen = self.live.residency().await.map_err(refused)?;
        if let Some(tenant) = tenant {
            seen.functions.retain(|function| function.key.names.tenant == tenant);
        }
        Ok(seen)
    }
}

fn refused(error: LiveError) -> AdminError {
    match error {
        LiveError::Unknown { .. } => AdminError::absent("generation"),
        LiveError::Backbone { .. } => AdminError::new(Kind::Conflict, "unknown_backbone", error.to_string()),
        LiveError::Gone => AdminError::new(Kind::Busy, "draining", error.to_string()),
    }
}

/// A preset by name, else a policy in TOML.
///
/// # Errors
/// `invalid_policy` naming the setting.
pub fn policy(text: &str) -> Result<PolicyConfig> {
    let wrong = |problem: String| AdminError::new(Kind::Invalid, "invalid_policy", problem).about("policy");
    let names = preset_names();
    if names.iter().any(|name| name == text.trim()) {
        return preset(text.trim()).map_err(|error| wrong(error.to_string()));
    }
    if !text.contains('=') {
        return Err(wrong(format!("there is no preset of this name; there are {}", names.join(", "))));
    }
    let table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    from_table(table, "policy").map_err(|error| wrong(error.to_string()))
}

fn shown(policy: &PolicyConfig) -> Policy {
    let toml = toml::to_string(policy).unwrap_or_default();
    Policy { name: policy.name.clone(), toml }
}

impl LiveControl for Control {
    fn backbones(&self) -> Vec<BackboneInfo> {
        self.backbones.iter().enumerate().map(|(place, name)| self.info(place, name)).collect()
    }

    fn base<'a>(&'a self, backbone: &'a str) -> Later<'a, Result<Option<Base>>> {
        Box::pin(async move {
            let Some(number) = self.number(backbone) else { return Ok(None) };
            let model = self.machine.open(number).await.map_err(AdminError::internal)?;
            let mut names = model.base_names.clone();
            names.push(backbone.to_owned());
            Ok(Some(Base { weights: model.pack.clone(), names }))
        })
    }

    fn module<'a>(&'a self, file: &'a LocalFile, settings: &'a Settings) -> Later<'a, Result<ModuleReport>> {
        Box::pin(self.components.check(file, settings))
    }

    fn try_out<'a>(
        &'a self,
        names: &'a Names,
        generation: Arc<Generation>,
        prompt: &'a str,
        max_tokens: u32,
    ) -> Later<'a, Result<String>> {
        use crate::call::Caller as _;
        Box::pin(async move {
            let now = Instant::now();
            let messages = json!([{"role": "user", "content": prompt}]);
            let params = SamplingParams { max_tokens: Some(max_tokens), ..SamplingParams::greedy() };
            let body = json!({"messages": messages, "max_tokens": max_tokens}).to_string();
            let call = Call {
                id: "self-check".to_owned(),
                names: names.clone(),
                generation: Some(generation),
                adapter: None,
                work: Work::Chat {
                    messages,
                    tools: None,
                    tool_choice: ToolChoice::default(),
                    extra: serde_json::Map::new(),
                },
                body: body.into(),
                params,
                choices: 1,
                shape: Shape::Free,
                include_stop: false,
                arrived: now,
                deadline: now + CHECK_TIME,
            };
            let failed = |error: crate::call::CallError| {
                AdminError::new(Kind::Unprocessable, "self_check_failed", error.to_string())
            };
            let mut answer = self.live.call(call).await.map_err(failed)?;
            let mut said = String::new();
            while let Some(event) = answer.events.recv().await {
                if let CallEvent::Text { text, .. } = event.map_err(failed)? {
                    said.push_str(&text);
                }
            }
            Ok(said)
        })
    }

    fn settled(&self, revision: Revision) -> Later<'_, ()> {
        Box::pin(async move {
            if !self.catalog.reached(revision, PATIENCE).await {
                tracing::warn!(revision, "a change is stored, and calls do not see it yet");
            }
        })
    }

    fn prewarm<'a>(&'a self, names: &'a Names) -> Later<'a, Result<()>> {
        Box::pin(async move {
            for generation in self.live_generations(names) {
                self.live.warm(names, &generation).await.map_err(refused)?;
            }
            Ok(())
        })
    }

    fn sleep<'a>(&'a self, names: &'a Names, level: u8) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let depth = if level == 1 { Sleep::Device } else { Sleep::All };
            for generation in self.live_generations(names) {
                self.live.sleep(names, &generation, depth).await.map_err(refused)?;
            }
            Ok(())
        })
    }

    fn wake<'a>(&'a self, names: &'a Names) -> Later<'a, Result<()>> {
        self.prewarm(names)
    }

    fn residency(&self, tenant: Option<&str>) -> Later<'_, Result<Value>> {
        let tenant = tenant.map(str::to_owned);
        Box::pin(async move {
            let seen = self.seen(tenant.as_deref()).await?;
            serde_json::to_value(seen).map_err(|error| AdminError::internal(error.to_string()))
        })
    }

    fn logs(&self, names: &Names, after: u64, limit: usize) -> Vec<LogRow> {
        let lines = self.logs.of(names).tail(after, limit);
        let row = |line: LogLine| LogRow {
            number: line.number,
            at_ms: line.at_ms,
            request_id: line.call,
            level: format!("{:?}", line.level).to_ascii_lowercase(),
            message: line.message,
        };
        lines.into_iter().map(row).collect()
    }

    fn overview(&self, tenant: Option<&str>) -> Later<'_, Result<Value>> {
        let tenant = tenant.map(str::to_owned);
        Box::pin(async move {
            let seen = self.seen(tenant.as_deref()).await?;
            Ok(json!({
                "object": "overview",
                "backbones": self.backbones(),
                "residency": seen,
                "recent": self.metrics.recent(tenant.as_deref()),
            }))
        })
    }

    fn policy(&self) -> Later<'_, Result<Policy>> {
        Box::pin(async move { Ok(shown(&self.live.policy().await.map_err(refused)?)) })
    }

    fn set_policy<'a>(&'a self, text: &'a str) -> Later<'a, Result<Policy>> {
        Box::pin(async move {
            let policy = policy(text)?;
            self.live.set_policy(policy.clone()).await.map_err(refused)?;
            Ok(shown(&policy))
        })
    }

    fn drain(&self, _: Option<Duration>) -> Later<'_, Result<Value>> {
        Box::pin(async move {
            self.shutdown.send_replace(true);
            Ok(json!({"object": "drain", "state": "draining"}))
        })
    }
}
