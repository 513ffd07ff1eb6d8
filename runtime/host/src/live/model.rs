//! A backbone opened for serving: files checked, weights mapped, tokenizer, template and grammars at hand, the engine
//! running on its thread.
//!
//! A model is opened once and shared by every function on it. When the files underneath change it is fenced: what runs
//! fails, nothing more is taken, [`Model::health`] says why. Which functions are in place is not known here.

use super::engine::{EngineService, Observer, ServiceOptions, Unobserved};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::engine::{Engine, EngineOptions};
use coldframe_backbone::error::{Error, Result};
use coldframe_backbone::executor::Executor;
use coldframe_backbone::native::{Ahead, KvFormat, Native, NativeOptions};
use coldframe_backbone::pack::Pack;
use coldframe_backbone::sample::Grammars;
use coldframe_backbone::store::Store;
use coldframe_backbone::text::{ChatInput, ChatPrompt, ChatTemplate, Special, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Which backbone, and how it runs.
#[derive(Clone)]
pub struct ModelOptions {
    /// A name of the store, or a path.
    pub backbone: String,
    /// What requests call it; `None` takes the name or the file's.
    pub name: Option<String>,
    /// The store's folder; `None` is the environment's.
    pub home: Option<PathBuf>,
    /// Threads of a step.
    pub threads: usize,
    /// How keys and values are kept.
    pub kv: KvFormat,
    /// Memory for KV pages, bytes.
    pub kv_bytes: u64,
    /// The engine.
    pub engine: EngineOptions,
    /// Its thread.
    pub service: ServiceOptions,
    /// Told of every step.
    pub observer: Arc<dyn Observer>,
}

impl ModelOptions {
    /// A backbone with everything else as usual: all cores, 512 MiB of f16 KV pages.
    pub fn new(backbone: impl Into<String>) -> Self {
        let native = NativeOptions::default();
        Self {
            backbone: backbone.into(),
            name: None,
            home: None,
            threads: native.threads,
            kv: native.kv,
            kv_bytes: 512 << 20,
            engine: EngineOptions::default(),
            service: ServiceOptions::default(),
            observer: Arc::new(Unobserved),
        }
    }
}

/// What opening took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// Mapping the model's files and checking them.
    pub validate: Duration,
    /// Mapping the packed weights, or making them the first time.
    pub map: Duration,
    /// Tokenizer and chat template.
    pub tokenizer: Duration,
    /// KV pages, threads, engine.
    pub engine: Duration,
}

impl Opening {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.validate + self.map + self.tokenizer + self.engine
    }
}

/// An opened backbone.
pub struct Model {
    /// What requests call it.
    pub name: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// What adapters may call it, beside the name in its files.
    pub base_names: Vec<String>,
    /// Its files.
    pub checkpoint: Checkpoint,
    /// Its weights.
    pub pack: Arc<Pack>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// Its own chat template, where it has one.
    pub template: Option<Arc<ChatTemplate>>,
    /// Compiles schemas for its tokenizer.
    pub grammars: Arc<Grammars>,
    /// The engine on its thread.
    pub engine: EngineService,
    /// In words: `cpu (avx512-vnni, 2 threads)`.
    pub device: String,
    /// Bytes of one KV page.
    pub page_bytes: u64,
    /// KV pages.
    pub pages: u32,
    /// What opening took.
    pub opening: Opening,
}

impl Model {
    /// Opens a backbone. Blocks: the first time on a machine the weights are packed.
    ///
    /// # Errors
    /// As the backbone's readers; [`Error::NoRoom`] where the KV memory holds no page.
    pub fn open(options: ModelOptions) -> Result<Self> {
        let store = match &options.home {
            Some(home) => Store::at(home),
            None => Store::at(&Store::default_root()?),
        };
        let path = store.resolve(&options.backbone)?;
        let mut opening = Opening::default();
        let checkpoint = timed(&mut opening.validate, || Checkpoint::open(&path))?;
        let pack = timed(&mut opening.map, || Pack::open(&checkpoint, &store.packs()))?;
        let pack = Arc::new(pack);
        let (tokenizer, template) = timed(&mut opening.tokenizer, || text(&checkpoint))?;
        let engine = timed(&mut opening.engine, || engine(&pack, &options))?;
        let (device, page_bytes, pages) = (engine.device(), engine.page_bytes, engine.pages);
        let service = EngineService::start(engine.engine, options.service, options.observer);
        let service = service.map_err(Error::io(&path))?;
        let mut ahead = engine.ahead;
        service.meanwhile("kv-ahead", move || ahead.more());
        let (base_names, short) = names(&options.backbone, &path);
        Ok(Self {
            name: options.name.unwrap_or(short),
            path,
            base_names,
            checkpoint,
            pack,
            grammars: Arc::new(Grammars::new(tokenizer.clone())),
            tokenizer,
            template,
            engine: service,
            device,
            page_bytes,
            pages,
            opening,
        })
    }

    /// Tokens a sequence may have, prompt and answer: the model's context, or fewer where the KV pages hold fewer.
    pub fn context(&self) -> usize {
        let positions = self.pages as usize * coldframe_backbone::executor::PAGE_TOKENS;
        self.checkpoint.config().context.min(positions + 1)
    }

    /// Rows of its head: bounds of a token id.
    pub fn vocab(&self) -> usize {
        self.checkpoint.config().vocab
    }

    /// Bytes of the mapped weights.
    pub fn mapped_bytes(&self) -> u64 {
        self.pack.mapped_bytes()
    }

    /// Whether it can be used; checks the files underneath and fences the engine where they changed.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self) -> Result<(), String> {
        if self.engine.fenced().is_none()
            && let Err(error) = self.pack.fence()
        {
            self.engine.fence(error.to_string());
        }
        self.engine.fenced().map_or(Ok(()), |reason| Err(reason.to_owned()))
    }

    /// Tokens of a text; with `special`, control tokens are what they spell.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past the tokenizer's limits.
    pub fn tokenize(&self, text: &str, special: bool, add_bos: bool) -> Result<Vec<u32>> {
        let special = if special { Special::Parse } else { Special::AsText };
        let mut tokens = self.tokenizer.encode(text, special)?;
        if let Some(bos) = self.tokenizer.bos().filter(|_| add_bos && self.tokenizer.adds_bos()) {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// [`Error::BadRequest`] for a token outside the vocabulary.
    pub fn detokenize(&self, tokens: &[u32]) -> Result<String> {
        match tokens.iter().find(|&&token| token as usize >= self.vocab()) {
            None => Ok(self.tokenizer.decode(tokens, false)),
            Some(token) => {
                let problem = format!("{token} is outside the vocabulary of {}", self.vocab());
                Err(Error::BadRequest { field: "tokens", problem })
            }
        }
    }

    /// Parses a template for this model's tokens.
    ///
    /// # Errors
    /// [`Error::Template`], [`Error::TooLarge`].
    pub fn parse_template(&self, source: &str) -> Result<Arc<ChatTemplate>> {
        template(source, &self.tokenizer)
    }

    /// Renders and tokenises a chat with `template`, or with the model's own.
    ///
    /// # Errors
    /// [`Error::BadRequest`] where there is no template or the messages are none; [`Error::Template`],
    /// [`Error::TooLarge`].
    pub fn render(&self, template: Option<&ChatTemplate>, input: &ChatInput<'_>) -> Result<ChatPrompt> {
        let template = template.or(self.template.as_deref()).ok_or_else(|| Error::BadRequest {
            field: "messages",
            problem: "this model has no chat template: give a prompt to /v1/completions".to_owned(),
        })?;
        self.tokenizer.encode_chat(template, input, self.checkpoint.config().context)
    }
}

/// An engine with what is asked of its executor while it still can be.
struct Made {
    engine: Engine,
    ahead: Ahead,
    page_bytes: u64,
    pages: u32,
}

impl Made {
    fn device(&self) -> String {
        self.engine.device()
    }
}

fn engine(pack: &Arc<Pack>, options: &ModelOptions) -> Result<Made> {
    let native = |threads, pages| Native::new(pack.clone(), NativeOptions { threads, pages, kv: options.kv });
    // The size of a page is the executor's own knowledge; one with a single page costs nothing.
    let page_bytes = native(1, 1)?.page_bytes();
    let budget = coldframe_backbone::kv::Budget { total: options.kv_bytes, adapters: 0 };
    let pages = budget.pages(page_bytes)?;
    let executor = native(options.threads, pages as usize)?;
    let ahead = executor.ahead();
    let engine = Engine::new(Box::new(executor), options.engine.clone())?;
    Ok(Made { engine, ahead, page_bytes, pages })
}

fn text(checkpoint: &Checkpoint) -> Result<(Arc<Tokenizer>, Option<Arc<ChatTemplate>>)> {
    let tokenizer = Arc::new(Tokenizer::open(checkpoint.text())?);
    let source = tokenizer.chat_template().map(|source| template(source, &tokenizer)).transpose()?;
    Ok((tokenizer, source))
}

fn template(source: &str, tokenizer: &Tokenizer) -> Result<Arc<ChatTemplate>> {
    ChatTemplate::parse(source, &tokenizer.bos_text(), &tokenizer.eos_text()).map(Arc::new)
}

fn timed<T>(place: &mut Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let done = work();
    *place = start.elapsed();
    done
}

/// Names that adapters may call the base by, and the one requests use: a store's name as it is, a file's without its
/// format (`SmolLM2-135M-Instruct.Q4_1.gguf`).
fn names(asked: &str, path: &Path) -> (Vec<String>, String) {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let short = stem.split_once(".Q").map_or(stem.as_str(), |(name, _)| name).to_owned();
    let by_path = asked.contains('/') || asked.ends_with(".gguf");
    let name = if by_path { short.clone() } else { asked.to_owned() };
    (vec![asked.to_owned(), short], name)
}
