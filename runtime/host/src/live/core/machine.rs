//! The real worker: models opened, adapters loaded, code compiled, calls run, on this machine.
//!
//! Weights are mapped once however many instances a policy counts: private copies are accounted for, not made. An
//! adapter that left the device stays in host memory for as long as the core counts on it; on a CPU both are the same
//! memory under two budgets, so coming back is a change of owner.

use super::functions::Estimates;
use super::seam::{Arrived, Executors, FunctionInfo, FunctionKey, Held, Pieces, Ran, Size};
use crate::call::{Answer, Call, Later, Prompt, Work};
use crate::live::Before;
use crate::live::code::Code;
use crate::live::engine::Meter;
use crate::live::loaders::Loaders;
use crate::live::logs::Logs;
use crate::live::model::{Model, ModelOptions};
use crate::live::resident::{Loaded, Resident, load_adapter};
use crate::live::run::{Ending, Outcome, Place, start_call};
use crate::live::standing::Standings;
use crate::live::state::StateStore;
use crate::live::threads::soon;
use crate::records::{AdapterRecord, ModuleRecord, Names, Settings};
use coldframe_backbone::executor::PAGE_TOKENS;
use coldframe_backbone::kv::TenantId;
use coldframe_backbone::text::ChatInput;
use coldframe_policy::artifact::Tier;
use coldframe_policy::spec::BackboneSpec;
use coldframe_policy::units::{BackboneId, Bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Bytes of a prompt beyond which it is tokenised on a thread that may block. Arbitrary: some hundred microseconds.
const INLINE: usize = 8 << 10;

/// Bytes of text that stand for a token while the tokenizer is not at hand.
const BYTES_PER_TOKEN: usize = 4;

/// Where artifacts lie on this machine's disk, fetched if they must be.
pub trait ArtifactSource: Send + Sync + 'static {
    /// The folder (or GGUF file) of an adapter.
    fn adapter_dir<'a>(&'a self, adapter: &'a AdapterRecord) -> Later<'a, Result<PathBuf, String>>;
    /// The file of a component.
    fn module<'a>(&'a self, module: &'a ModuleRecord) -> Later<'a, Result<PathBuf, String>>;
}

/// Makes code ready to be called.
pub trait Compiler: Send + Sync + 'static {
    /// Compiles a component, or takes it compiled from its cache. Blocks.
    ///
    /// # Errors
    /// Why it can't be, for whoever deployed it.
    fn compile(
        &self,
        of: &Names,
        module: &ModuleRecord,
        file: &Path,
        settings: &Settings,
    ) -> Result<Arc<dyn Code>, String>;
}

/// A host without a sandbox: functions with code are refused.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCode;

impl Compiler for NoCode {
    fn compile(&self, _: &Names, _: &ModuleRecord, _: &Path, _: &Settings) -> Result<Arc<dyn Code>, String> {
        Err("this host runs no code: deploy the function without a module".to_owned())
    }
}

/// What the machine works with.
pub struct MachineOptions {
    /// Backbones, by number.
    pub models: Vec<ModelOptions>,
    /// Where artifacts are.
    pub source: Arc<dyn ArtifactSource>,
    /// Makes code ready.
    pub compiler: Arc<dyn Compiler>,
    /// What functions' code keeps between calls.
    pub state: Arc<dyn StateStore>,
    /// What functions' code logs.
    pub logs: Arc<Logs>,
    /// Where backbones and adapters are loaded.
    pub loaders: Loaders,
    /// Where code is: slow compiling keeps no adapter waiting.
    pub code_loaders: Loaders,
}

/// See the module. Its clones are the same machine.
#[derive(Clone)]
pub struct Machine(Arc<Inner>);

struct Inner {
    models: Vec<Slot>,
    source: Arc<dyn ArtifactSource>,
    compiler: Arc<dyn Compiler>,
    state: Arc<dyn StateStore>,
    logs: Arc<Logs>,
    standings: Arc<Standings>,
    loaders: Loaders,
    code_loaders: Loaders,
    tenants: Mutex<BTreeMap<String, u32>>,
    staged: Mutex<BTreeMap<FunctionKey, Arc<Vec<Loaded>>>>,
}

/// One backbone: how to open it, and the one that is open.
struct Slot {
    options: ModelOptions,
    open: Mutex<Weak<Model>>,
    /// Opened ahead and not asked for yet.
    ahead: Mutex<Option<Arc<Model>>>,
    /// One opening at a time.
    turn: tokio::sync::Mutex<()>,
}

/// A hold on an open backbone.
struct BackboneLease(Arc<Model>);

/// A hold on a function's adapters.
struct AdapterLease {
    loaded: Arc<Vec<Loaded>>,
    model: Weak<Model>,
}

/// A hold on a function's code.
struct CodeLease(Arc<dyn Code>);

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// A machine with nothing open.
    pub fn new(options: MachineOptions) -> Self {
        let slot = |options| Slot {
            options,
            open: Mutex::default(),
            ahead: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        };
        Self(Arc::new(Inner {
            models: options.models.into_iter().map(slot).collect(),
            source: options.source,
            compiler: options.compiler,
            state: options.state,
            logs: options.logs,
            standings: Arc::default(),
            loaders: options.loaders,
            code_loaders: options.code_loaders,
            tenants: Mutex::default(),
            staged: Mutex::default(),
        }))
    }

    /// A backbone, where it is open.
    pub fn model(&self, backbone: BackboneId) -> Option<Arc<Model>> {
        lock(&self.0.models[backbone.index()].open).upgrade()
    }

    /// A backbone, opened if it is not. It closes when nobody holds it.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub async fn open(&self, backbone: BackboneId) -> Result<Arc<Model>, String> {
        let slot = &self.0.models[backbone.index()];
        let _turn = slot.turn.lock().await;
        if let Some(model) = self.model(backbone) {
            return Ok(model);
        }
        let options = slot.options.clone();
        let model =
            self.0.loaders.run(move || Model::open(options).map_err(|error| error.to_string())).await?;
        let model = Arc::new(model);
        *lock(&slot.open) = Arc::downgrade(&model);
        Ok(model)
    }

    /// Opens a backbone ahead of the first call and says what the core is to know of it: `slot` is the largest adapter
    /// that a one-process policy makes room for.
    ///
    /// # Errors
    /// Why it can't be opened.
    pub async fn open_ahead(&self, backbone: BackboneId, slot: u64) -> Result<BackboneSpec, String> {
        let model = self.open(backbone).await?;
        let spec = BackboneSpec {
            weights: Bytes(model.mapped_bytes()),
            kv_per_token: Bytes(model.page_bytes / PAGE_TOKENS as u64),
            context: Bytes::ZERO,
            slot: Bytes(slot),
        };
        *lock(&self.0.models[backbone.index()].ahead) = Some(model);
        Ok(spec)
    }

    /// Measures this machine with a backbone: opening, reading, the first token of one prompt of `tokens` and of eight.
    ///
    /// # Errors
    /// Why it can't be opened or does not answer.
    pub async fn measure(
        &self,
        backbone: BackboneId,
        tokens: u32,
        slo_ttft: Duration,
    ) -> Result<Estimates, String> {
        let model = self.open(backbone).await?;
        let path = model.path.clone();
        let rate = self.0.loaders.run(move || read_rate(&path)).await;
        let opening = model.opening.total();
        // Where the files can't be read again, opening them was the reading.
        let rate = rate.unwrap_or_else(|_| rate_of(model.mapped_bytes(), opening));
        // The first step of a process also touches the weights for the first time.
        self.first_token(&model, 1, 1).await?;
        let one = self.first_token(&model, tokens, 1).await?;
        let eight = self.first_token(&model, tokens, 8).await?;
        Ok(Estimates {
            backbone: opening,
            backbone_from_host: opening,
            adapter_bytes_per_s: rate,
            module_bytes_per_s: rate,
            t0: one,
            alpha: eight.saturating_sub(one) / 7,
            slo_ttft,
        })
    }

    /// Time until the last of `batch` prompts has its first token.
    async fn first_token(&self, model: &Arc<Model>, tokens: u32, batch: u32) -> Result<Duration, String> {
        let (start, vocab) = (Instant::now(), model.vocab() as u32);
        let mut calls = Vec::new();
        for n in 0..batch {
            // Different prompts: none is found in another's pages.
            let prompt = (0..tokens.max(1)).map(|t| (t * 31 + n * 977 + batch * 13) % vocab.max(1)).collect();
            let place = self.place(model.clone(), Resident::default(), TenantId(u32::MAX));
            calls.push(start_call(probe(prompt), place, Before::default()));
        }
        for (mut answer, outcome) in calls {
            while answer.events.recv().await.is_some() {}
            if let Ok(Outcome { ending: Ending::Failed(error), .. }) = outcome.await {
                return Err(error.to_string());
            }
        }
        Ok(start.elapsed())
    }

    fn place(&self, model: Arc<Model>, resident: Resident, tenant: TenantId) -> Place {
        Place {
            model,
            resident: Arc::new(resident),
            tenant,
            state: self.0.state.clone(),
            logs: self.0.logs.clone(),
            standings: self.0.standings.clone(),
            meter: Arc::new(Meter::default()),
        }
    }

    /// A number for a tenant's pages: the same for as long as the process lives.
    fn tenant(&self, name: &str) -> TenantId {
        let mut tenants = lock(&self.0.tenants);
        let next = tenants.len() as u32;
        TenantId(*tenants.entry(name.to_owned()).or_insert(next))
    }

    async fn bring_adapters(
        &self,
        function: &FunctionInfo,
        model: Arc<Model>,
        from: Tier,
    ) -> Result<Arrived, String> {
        let kept = lock(&self.0.staged).get(&function.key).cloned().filter(|_| from == Tier::Host);
        if let Some(loaded) = kept {
            return Ok(adapters_arrived(loaded, &model, Tier::Host, [Duration::ZERO; 2]));
        }
        let generation = function.generation.clone().expect("asked only where there are adapters");
        let (mut all, mut times) = (Vec::new(), [Duration::ZERO; 2]);
        for record in &generation.adapters {
            let path = self.0.source.adapter_dir(record).await?;
            let (model, name) = (model.clone(), record.name.clone());
            let loaded = self
                .0
                .loaders
                .run(move || soon(|| load_adapter(&model, &name, &path)).map_err(|error| error.to_string()))
                .await?;
            let found = loaded.adapter.generation().to_string();
            if !record.generation.is_empty() && found != record.generation {
                return Err(format!(
                    "adapter `{}` is {found} on disk and {} in the registry: deploy it again",
                    record.name, record.generation
                ));
            }
            times = [times[0] + loaded.times.read, times[1] + loaded.times.load];
            all.push(loaded);
        }
        let loaded = Arc::new(all);
        // The core says soon whether it counts on this copy.
        lock(&self.0.staged).insert(function.key.clone(), loaded.clone());
        Ok(adapters_arrived(loaded, &model, Tier::Disk, times))
    }

    /// Tokens of a prompt, exactly where the tokenizer is at hand.
    fn count(model: Option<&Model>, work: &Work, body: usize) -> usize {
        let counted = model.and_then(|model| match work {
            Work::Chat { messages, .. } => {
                model.render(None, &ChatInput::new(messages)).ok().map(|prompt| prompt.tokens.len())
            }
            Work::Completion { prompt: Prompt::Text(text) } => {
                model.tokenize(text, true, true).ok().map(|tokens| tokens.len())
            }
            Work::Completion { prompt: Prompt::Tokens(tokens) } => Some(tokens.len()),
            Work::Invoke { .. } => None,
        });
        counted.unwrap_or_else(|| text_bytes(work, body) / BYTES_PER_TOKEN + 1)
    }
}

fn text_bytes(work: &Work, body: usize) -> usize {
    match work {
        Work::Chat { messages, .. } => {
            let turns = messages.as_array().map(Vec::as_slice).unwrap_or_default();
            turns.iter().map(|turn| turn["content"].as_str().map_or(64, str::len) + 16).sum()
        }
        Work::Completion { prompt: Prompt::Text(text) } => text.len(),
        Work::Completion { prompt: Prompt::Tokens(tokens) } => tokens.len() * BYTES_PER_TOKEN,
        Work::Invoke { .. } => body,
    }
}

fn adapters_arrived(
    loaded: Arc<Vec<Loaded>>,
    model: &Arc<Model>,
    from: Tier,
    times: [Duration; 2],
) -> Arrived {
    let held: Held = Arc::new(AdapterLease { loaded, model: Arc::downgrade(model) });
    Arrived { held, from, read: times[0], load: times[1] }
}

/// A call of the machine's own: one token.
fn probe(prompt: Vec<u32>) -> Call {
    let now = Instant::now();
    Call {
        id: "measure".to_owned(),
        names: Names { tenant: String::new(), function: String::new() },
        generation: None,
        adapter: None,
        work: Work::Completion { prompt: Prompt::Tokens(prompt) },
        body: bytes::Bytes::new(),
        params: coldframe_backbone::sample::SamplingParams {
            max_tokens: Some(1),
            ignore_eos: true,
            ..coldframe_backbone::sample::SamplingParams::greedy()
        },
        choices: 1,
        shape: crate::call::Shape::Free,
        include_stop: false,
        arrived: now,
        deadline: now + Duration::from_secs(120),
    }
}

/// Bytes a second of reading the backbone's file, at most 64 MiB of it.
fn read_rate(path: &Path) -> Result<u64, String> {
    let start = Instant::now();
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?.take(64 << 20);
    let (mut chunk, mut bytes) = (vec![0; 1 << 20], 0u64);
    loop {
        match file.read(&mut chunk).map_err(|error| error.to_string())? {
            0 => return Ok(rate_of(bytes, start.elapsed())),
            read => bytes += read as u64,
        }
    }
}

fn rate_of(bytes: u64, took: Duration) -> u64 {
    let rate = u128::from(bytes) * 1_000_000_000 / took.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX).max(1)
}

fn backbone_of(held: Held) -> Result<Arc<Model>, String> {
    let lease =
        held.downcast::<BackboneLease>().map_err(|_| "that is no backbone of this machine".to_owned())?;
    Ok(lease.0.clone())
}

impl Executors for Machine {
    fn backbone(&self, backbone: BackboneId, from: Tier) -> Later<'static, Result<Arrived, String>> {
        let machine = self.clone();
        Box::pin(async move {
            let start = Instant::now();
            let model = machine.open(backbone).await?;
            lock(&machine.0.models[backbone.index()].ahead).take();
            let held: Held = Arc::new(BackboneLease(model));
            Ok(Arrived { held, from, read: Duration::ZERO, load: start.elapsed() })
        })
    }

    fn code(&self, function: Arc<FunctionInfo>) -> Later<'static, Result<Arrived, String>> {
        let machine = self.clone();
        Box::pin(async move {
            let start = Instant::now();
            let generation = function.generation.clone().ok_or("a backbone has no code")?;
            let module = generation.module.clone().ok_or("the function has no code")?;
            let file = machine.0.source.module(&module).await?;
            let read = start.elapsed();
            let compiler = machine.0.compiler.clone();
            let code = machine
                .0
                .code_loaders
                .run(move || compiler.compile(&function.key.names, &module, &file, &generation.settings));
            let held: Held = Arc::new(CodeLease(code.await?));
            Ok(Arrived { held, from: Tier::Disk, read, load: start.elapsed() - read })
        })
    }

    fn adapters(
        &self,
        function: Arc<FunctionInfo>,
        backbone: Held,
        from: Tier,
    ) -> Later<'static, Result<Arrived, String>> {
        let machine = self.clone();
        Box::pin(async move { machine.bring_adapters(&function, backbone_of(backbone)?, from).await })
    }

    fn leaving(&self, _: Arc<FunctionInfo>, adapters: Held) -> Later<'static, ()> {
        Box::pin(async move {
            let Ok(lease) = adapters.downcast::<AdapterLease>() else { return };
            let Some(model) = lease.model.upgrade() else { return };
            let generations: BTreeSet<_> =
                lease.loaded.iter().map(|loaded| loaded.adapter.generation()).collect();
            // Pages are the engine's own memory, not the adapters': nothing waits for a step to end.
            for generation in generations {
                model.engine.forget_soon(generation).await;
            }
        })
    }

    fn keep_staged(&self, functions: Vec<FunctionKey>) {
        let keep: BTreeSet<FunctionKey> = functions.into_iter().collect();
        lock(&self.0.staged).retain(|key, _| keep.contains(key));
    }

    fn size<'a>(&'a self, call: &'a Call) -> Later<'a, Size> {
        Box::pin(async move {
            let named =
                call.generation.as_ref().map_or(&call.names.function, |generation| &generation.backbone);
            let at = self.0.models.iter().position(|slot| {
                slot.options.name.as_ref() == Some(named) || slot.options.backbone == *named
            });
            let model = at.and_then(|at| self.model(BackboneId(at as u32)));
            let context = model.as_ref().map_or(u32::MAX as usize, |model| model.context());
            let body = call.body.len();
            let prompt = if text_bytes(&call.work, body) <= INLINE {
                Self::count(model.as_deref(), &call.work, body)
            } else {
                let work = call.work.clone();
                let counted = tokio::task::spawn_blocking(move || Self::count(model.as_deref(), &work, body));
                counted.await.unwrap_or(text_bytes(&call.work, body) / BYTES_PER_TOKEN + 1)
            };
            let left = context.saturating_sub(prompt).max(1);
            let most = call.params.max_tokens.map_or(left, |most| (most as usize).min(left));
            let settings = call.generation.as_ref().map(|generation| &generation.settings);
            let budget = settings.and_then(|settings| settings.token_budget).unwrap_or(u64::MAX);
            let most = (most as u64).saturating_mul(u64::from(call.choices.max(1))).min(budget);
            let small = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX);
            Size { prompt_tokens: small(prompt as u64), max_tokens: small(most) }
        })
    }

    fn run(
        &self,
        call: Call,
        function: Arc<FunctionInfo>,
        pieces: Pieces,
        before: Before,
    ) -> (Answer, Later<'static, Ran>) {
        let adapters = pieces.adapters.clone().and_then(|held| held.downcast::<AdapterLease>().ok());
        let code = pieces.code.clone().and_then(|held| held.downcast::<CodeLease>().ok());
        let resident = Resident {
            generation: function.key.generation.clone(),
            adapters: adapters.map(|lease| lease.loaded.as_ref().clone()).unwrap_or_default(),
            code: code.map(|lease| lease.0.clone()),
            settings: function.generation.as_ref().map(|g| g.settings.clone()).unwrap_or_default(),
        };
        let tenant = self.tenant(&call.names.tenant);
        let model = backbone_of(pieces.backbone.clone()).expect("this machine made the backbone");
        let (answer, outcome) = start_call(call, self.place(model, resident, tenant), before);
        let done = async move {
            let outcome = outcome.await;
            drop(pieces);
            match outcome {
                Ok(Outcome { ending, usage, first, finished, .. }) => Ran {
                    usage,
                    phases: first.map(|(phases, _)| phases),
                    dropped: ending == Ending::Dropped,
                    error: if let Ending::Failed(error) = ending { Some(error) } else { None },
                    finished,
                },
                Err(error) => {
                    Ran { error: Some(crate::call::CallError::Internal(error.to_string())), ..Ran::default() }
                }
            }
        };
        (answer, Box::pin(done))
    }
}
