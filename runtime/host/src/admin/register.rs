//! Registration: artifacts are brought in, checked against the backbone, tried where asked, and only then become a
//! generation that a name may point at.
//!
//! The same content is the same generation: a repeat changes nothing and has the same ETag.

use super::action::{At, DEFAULT_ADAPTER, FunctionSpec, SelfCheck};
use super::change::Edit;
use super::error::{AdminError, Kind, Result};
use super::functions::{LIVE, key};
use super::ingest::Uploads;
use super::live::Base;
use super::reply::{Deployed, Done, DryRunView, ProblemView, Reply};
use super::{Admin, Principal, Terms, generation, names, now_ms, tenants};
use crate::records::{Function, Generation, Names, Quota, Settings, Target};
use std::sync::Arc;

/// Adapters of a function: arbitrary.
const ADAPTERS_MAX: usize = 32;
/// Generations that a function keeps; the oldest that no alias points at goes first.
const GENERATIONS_MAX: usize = 100;
/// Tokens of a self-check's answer where it names no number.
const CHECK_TOKENS: u32 = 64;
/// Bytes of a self-check's texts.
const CHECK_BYTES_MAX: usize = 16 << 10;

/// A generation that was checked and is not registered yet.
struct Ready {
    generation: Generation,
    warnings: Vec<String>,
}

impl Admin {
    pub(super) async fn register(
        &self,
        who: &Principal,
        at: &At,
        spec: FunctionSpec,
        uploads: &Uploads,
        terms: &Terms,
    ) -> Result<Done> {
        let names = self.named(who, at)?;
        self.check_names(&names, &spec).await?;
        let alias = spec.alias.clone().unwrap_or_else(|| LIVE.to_owned());
        let (expected, pinned, check) =
            (spec.expected_generation.clone(), spec.pinned, spec.self_check.clone());
        // Told before anything is fetched: the answer would be the same afterwards.
        if let Some(expected) = &expected {
            let now = self.read::<Function>(&key(&names)).await?;
            hold(now.as_ref().map(|(function, _)| function), &alias, expected)?;
        }
        let Ready { generation, warnings } = self.prepare(spec, uploads).await?;
        self.within_quota(&names, &generation).await?;
        if let Some(check) = check {
            self.self_check(&names, &generation, &check).await?;
        }
        let id = generation.id.clone();
        let changed = self
            .change::<Function, Function>(&key(&names), terms, |found| {
                if let Some(expected) = &expected {
                    hold(found.as_ref(), &alias, expected)?;
                }
                let after = deployed(found.clone(), &names, &generation, &alias, pinned);
                match found.as_ref() == Some(&after) {
                    true => Ok(Edit::Keep(after)),
                    false => {
                        let after = Function { updated_ms: now_ms(), ..after };
                        Ok(Edit::Put(after.clone(), after))
                    }
                }
            })
            .await?;
        let reply = Deployed {
            object: "function",
            tenant: names.tenant,
            function: names.function,
            generation: id,
            alias,
            changed: changed.written,
            warnings,
            live: changed.value.aliases.get(LIVE).cloned().unwrap_or_default(),
            revision: changed.revision,
        };
        Ok(Done { made: changed.made, ..Done::of(Reply::Deployed(reply)).at(changed.revision) })
    }

    pub(super) async fn dry_run(
        &self,
        who: &Principal,
        at: &At,
        spec: FunctionSpec,
        uploads: &Uploads,
    ) -> Result<Done> {
        let names = self.named(who, at)?;
        let outcome = async {
            self.check_names(&names, &spec).await?;
            let ready = self.prepare(spec, uploads).await?;
            self.within_quota(&names, &ready.generation).await?;
            Ok::<Ready, AdminError>(ready)
        };
        let view = match outcome.await {
            Ok(Ready { generation, warnings }) => DryRunView {
                fits: true,
                disk_bytes: disk_bytes(&generation),
                memory_bytes: generation.adapters.iter().map(|adapter| adapter.memory_bytes).sum(),
                generation: Some(generation.id),
                problems: Vec::new(),
                warnings,
            },
            Err(error) if matches!(error.kind, Kind::Internal | Kind::Storage | Kind::Busy) => {
                return Err(error);
            }
            Err(error) => DryRunView {
                fits: false,
                generation: None,
                disk_bytes: 0,
                memory_bytes: 0,
                problems: problems(&error),
                warnings: Vec::new(),
            },
        };
        Ok(Done::of(Reply::DryRun(view)))
    }

    async fn check_names(&self, function: &Names, spec: &FunctionSpec) -> Result<()> {
        if self.live.backbones().iter().any(|backbone| backbone.name == function.function) {
            let problem = "a backbone has this name, and backbones win: take another";
            return Err(AdminError::new(Kind::Conflict, "name_is_a_backbone", problem).about("function"));
        }
        if function.tenant != super::DEFAULT_TENANT && !self.exists(&tenants::key(&function.tenant)).await? {
            return Err(AdminError::absent("tenant"));
        }
        if let Some(alias) = &spec.alias {
            names::alias(alias)?;
        }
        if let Some(expected) = &spec.expected_generation {
            names::digest("expected_generation", expected)?;
        }
        if spec.adapters.len() > ADAPTERS_MAX {
            return Err(AdminError::invalid("adapters", format!("a function has at most {ADAPTERS_MAX}")));
        }
        for (place, adapter) in spec.adapters.iter().enumerate() {
            names::adapter(&adapter.name)?;
            if spec.adapters[..place].iter().any(|earlier| earlier.name == adapter.name) {
                let problem = format!("two adapters are named `{}`", adapter.name);
                return Err(AdminError::invalid("adapters.name", problem));
            }
        }
        check_settings(&spec.settings)
    }

    /// The backbone by name; the only one where none is named.
    async fn base(&self, wanted: Option<&str>) -> Result<(String, Base)> {
        let known = self.live.backbones();
        let name = match (wanted, &known[..]) {
            (Some(name), _) => name.to_owned(),
            (None, [only]) => only.name.clone(),
            (None, _) => {
                let names: Vec<_> = known.iter().map(|backbone| backbone.name.as_str()).collect();
                let problem = format!("say which backbone: {}", names.join(", "));
                return Err(AdminError::invalid("backbone", problem));
            }
        };
        let base = self.live.base(&name).await?.ok_or_else(|| {
            let names: Vec<_> = known.iter().map(|backbone| backbone.name.as_str()).collect();
            let problem = format!("this server has no such backbone; it has {}", names.join(", "));
            AdminError::new(Kind::Conflict, "unknown_backbone", problem).about("backbone")
        })?;
        Ok((name, base))
    }

    /// Brings everything in and checks it.
    async fn prepare(&self, spec: FunctionSpec, uploads: &Uploads) -> Result<Ready> {
        let (backbone, base) = self.base(spec.backbone.as_deref()).await?;
        let unused =
            uploads.adapters.keys().find(|name| !spec.adapters.iter().any(|spec| spec.name == **name));
        if let Some(unused) = unused {
            let problem = format!("files came for adapter `{unused}`, which the manifest does not name");
            return Err(AdminError::invalid("adapters", problem));
        }
        let (mut adapters, mut warnings) = (Vec::new(), Vec::new());
        for adapter in &spec.adapters {
            let staged = self.ingest.adapter(adapter, uploads).await?;
            let checked = self.verifier.check(staged, &base, adapter.generation.as_deref()).await?;
            let prefix = if adapter.name == DEFAULT_ADAPTER { "" } else { adapter.name.as_str() };
            warnings.extend(checked.warnings.into_iter().map(|warning| match prefix {
                "" => warning,
                prefix => format!("{prefix}: {warning}"),
            }));
            adapters.push(checked.record);
        }
        let module = match self.ingest.module(spec.module.as_ref(), uploads).await? {
            None => None,
            Some(file) => {
                let report = self.live.module(&file, &spec.settings).await?;
                warnings.extend(report.warnings);
                Some(report.record)
            }
        };
        let mut generation = Generation {
            id: String::new(),
            backbone,
            adapters,
            module,
            settings: spec.settings,
            created_ms: now_ms(),
        };
        generation.id = generation::id(&generation);
        Ok(Ready { generation, warnings })
    }

    async fn within_quota(&self, names: &Names, generation: &Generation) -> Result<()> {
        let Quota { functions, blob_bytes, .. } = self.quota(&names.tenant).await?;
        if functions.is_none() && blob_bytes.is_none() {
            return Ok(());
        }
        let all = self.every_function(&format!("function/{}/", names.tenant)).await?;
        let own = all.iter().find(|function| function.names == *names);
        if functions.is_some_and(|most| own.is_none() && all.len() as u64 >= most) {
            let problem = format!("the tenant may have {} functions and has them", all.len());
            return Err(AdminError::new(Kind::Quota, "lora_adapter_limit_exceeded", problem));
        }
        let known = own.is_some_and(|function| function.generations.iter().any(|g| g.id == generation.id));
        let held: u64 = all.iter().flat_map(|function| &function.generations).map(disk_bytes).sum();
        let wanted = held + if known { 0 } else { disk_bytes(generation) };
        match blob_bytes {
            Some(most) if wanted > most => {
                let problem = format!("the tenant may keep {most} bytes; this would make {wanted}");
                Err(AdminError::new(Kind::Quota, "lora_byte_limit_exceeded", problem))
            }
            _ => Ok(()),
        }
    }

    async fn self_check(&self, names: &Names, generation: &Generation, check: &SelfCheck) -> Result<()> {
        if check.prompt.len() > CHECK_BYTES_MAX || check.contains.len() > CHECK_BYTES_MAX {
            return Err(AdminError::invalid(
                "self_check",
                format!("texts have at most {CHECK_BYTES_MAX} bytes"),
            ));
        }
        let tokens = check.max_tokens.unwrap_or(CHECK_TOKENS);
        let answer = self.live.try_out(names, Arc::new(generation.clone()), &check.prompt, tokens).await?;
        if answer.contains(&check.contains) {
            return Ok(());
        }
        Err(AdminError::new(
            Kind::Unprocessable,
            "self_check_failed",
            "the answer to the self-check's prompt does not hold the expected text; nothing was registered",
        )
        .with(serde_json::json!({"answer": answer})))
    }
}

/// The function with a generation deployed: added where it is new, and pointed at.
fn deployed(
    found: Option<Function>,
    names: &Names,
    generation: &Generation,
    alias: &str,
    pinned: Option<bool>,
) -> Function {
    let now = now_ms();
    let mut function = found.unwrap_or_else(|| Function {
        names: names.clone(),
        generations: Vec::new(),
        aliases: Default::default(),
        pinned: false,
        created_ms: now,
        updated_ms: now,
    });
    if !function.generations.iter().any(|known| known.id == generation.id) {
        function.generations.push(generation.clone());
    }
    let target = vec![Target { generation: generation.id.clone(), weight: 1 }];
    function.aliases.insert(alias.to_owned(), target.clone());
    // A bare name always means something.
    function.aliases.entry(LIVE.to_owned()).or_insert(target);
    function.pinned = pinned.unwrap_or(function.pinned);
    trim(&mut function);
    function
}

/// Drops the oldest generations that nothing points at.
fn trim(function: &mut Function) {
    while function.generations.len() > GENERATIONS_MAX {
        let pointed = |id: &str| function.aliases.values().flatten().any(|target| target.generation == id);
        let idle = function.generations.iter().position(|generation| !pointed(&generation.id));
        match idle {
            Some(place) => drop(function.generations.remove(place)),
            None => return,
        }
    }
}

/// Holds the generation that an alias means now against the caller's expectation.
fn hold(function: Option<&Function>, alias: &str, expected: &str) -> Result<()> {
    let targets = function.and_then(|function| function.aliases.get(alias));
    let now: Vec<_> = targets.into_iter().flatten().map(|target| target.generation.as_str()).collect();
    if now == [expected] {
        return Ok(());
    }
    let problem = format!("`{alias}` does not mean this generation: read the function again");
    Err(AdminError::new(Kind::Conflict, "lora_generation_mismatch", problem)
        .about("expected_generation")
        .with(serde_json::json!({"found": now})))
}

fn disk_bytes(generation: &Generation) -> u64 {
    let adapters: u64 = generation.adapters.iter().map(|adapter| adapter.disk_bytes).sum();
    adapters + generation.module.as_ref().map_or(0, |module| module.bytes)
}

/// Bounds of settings that are nonsense on any server.
fn check_settings(settings: &Settings) -> Result<()> {
    const CAPABILITIES: [&str; 3] = ["state", "clock", "random"];
    if let Some(unknown) = settings.capabilities.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
        let shown: String = unknown.chars().take(40).flat_map(char::escape_default).collect();
        let problem = format!("`{shown}` is no capability: there are {}", CAPABILITIES.join(", "));
        return Err(AdminError::invalid("settings.capabilities", problem));
    }
    let zero = [
        ("settings.max_concurrency", settings.max_concurrency.map(u64::from)),
        ("settings.memory_limit_mb", settings.memory_limit_mb.map(u64::from)),
        ("settings.fuel", settings.fuel),
        ("settings.timeout_ms", settings.timeout_ms),
        ("settings.token_budget", settings.token_budget),
        ("settings.slo_ttft_ms", settings.slo_ttft_ms),
    ];
    if let Some((field, _)) = zero.into_iter().find(|(_, value)| *value == Some(0)) {
        return Err(AdminError::invalid(
            field,
            "0 lets no call through: leave it out for the server's default",
        ));
    }
    if settings.allowed_outbound_hosts.len() > 64 {
        return Err(AdminError::invalid("settings.allowed_outbound_hosts", "at most 64 hosts"));
    }
    Ok(())
}

fn problems(error: &AdminError) -> Vec<ProblemView> {
    let listed = error.details.as_ref().and_then(|details| details["problems"].as_array());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    match listed {
        Some(listed) if !listed.is_empty() => listed
            .iter()
            .map(|problem| ProblemView {
                code: text(&problem["code"]),
                message: text(&problem["problem"]),
                place: Some(text(&problem["place"])).filter(|place| !place.is_empty()),
            })
            .collect(),
        _ => vec![ProblemView {
            code: error.code.to_owned(),
            message: error.message.clone(),
            place: error.param.clone(),
        }],
    }
}
