//! A backbone opened for a command: files checked, weights mapped, tokenizer loaded, each phase timed.

use crate::backbone::HomeArg;
use crate::ui::Ui;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use coldframe_backbone::adapter::{Adapter, Limits};
use coldframe_backbone::checkpoint::Checkpoint;
use coldframe_backbone::native::KvFormat;
use coldframe_backbone::pack::Pack;
use coldframe_backbone::text::Tokenizer;
use std::ffi::OsString;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Which backbone, and how it runs.
#[derive(Args, Clone)]
pub struct BackboneArg {
    /// The model: a name of the store (`coldframe backbone list`) or a path
    #[arg(long, value_name = "NAME|PATH")]
    pub backbone: String,
    #[command(flatten)]
    home: HomeArg,
    /// Threads of a step [default: all cores]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,
    /// How keys and values are kept
    #[arg(long, value_enum, default_value_t = Kv::F16)]
    kv: Kv,
}

/// [`KvFormat`] on the command line.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
pub enum Kv {
    /// As computed: twice the memory of f16
    F32,
    /// Half precision
    F16,
    /// 8 bits with a scale for each head and position: about half the memory
    Q8,
}

impl BackboneArg {
    /// Threads of a step.
    pub fn threads(&self) -> usize {
        self.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZero::get)
    }

    /// Format of the KV pages.
    pub fn kv(&self) -> KvFormat {
        match self.kv {
            Kv::F32 => KvFormat::F32,
            Kv::F16 => KvFormat::F16,
            Kv::Q8 => KvFormat::Q8,
        }
    }

    /// The same choice as arguments, for a process of the command's own.
    pub fn arguments(&self) -> Result<Vec<OsString>> {
        let mut all: Vec<OsString> = vec!["--backbone".into(), (&self.backbone).into()];
        all.extend(["--threads".into(), self.threads().to_string().into()]);
        let kv = self.kv.to_possible_value().context("a format that has a name")?;
        all.extend(["--kv".into(), kv.get_name().into()]);
        all.extend(["--home".into(), self.home.store()?.root().into()]);
        Ok(all)
    }

    /// Its file or folder.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.home.store()?.resolve(&self.backbone)?)
    }

    /// Checks that it can be opened, and leaves it closed.
    pub fn check(&self) -> Result<()> {
        Checkpoint::open(&self.path()?)?;
        Ok(())
    }

    /// Opens it.
    pub fn open(&self, ui: &Ui) -> Result<Opened> {
        let store = self.home.store()?;
        let path = store.resolve(&self.backbone)?;
        let start = Instant::now();
        let checkpoint = Checkpoint::open(&path)?;
        let validate_ms = ms(start);
        let start = Instant::now();
        let pack = Arc::new(pack(&checkpoint, &store.packs(), ui)?);
        let map_ms = ms(start);
        let start = Instant::now();
        let tokenizer = Arc::new(Tokenizer::open(checkpoint.text())?);
        let tokenizer_ms = ms(start);
        let names = names(&self.backbone, &path);
        Ok(Opened {
            path,
            names,
            checkpoint,
            pack,
            tokenizer,
            phases: Phases { validate_ms, map_ms, tokenizer_ms },
        })
    }
}

/// An opened backbone.
pub struct Opened {
    /// Its file or folder.
    pub path: PathBuf,
    /// What adapters may call it, beside the name in its files.
    names: Vec<String>,
    /// Its files.
    pub checkpoint: Checkpoint,
    /// Its weights.
    pub pack: Arc<Pack>,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// What opening took.
    pub phases: Phases,
}

/// Milliseconds of opening.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct Phases {
    /// Mapping the model's files and checking them.
    pub validate_ms: f64,
    /// Mapping the packed weights, or making them the first time.
    pub map_ms: f64,
    /// Loading the tokenizer.
    pub tokenizer_ms: f64,
}

impl Opened {
    /// Loads an adapter for it.
    pub fn adapter(&self, path: &Path, ui: &Ui) -> Result<Arc<Adapter>> {
        let limits = Limits { base_names: self.names.clone(), ..Limits::default() };
        let adapter = Adapter::load(path, &*self.pack, &limits)?;
        adapter.warnings().iter().for_each(|warning| ui.say(warning));
        Ok(Arc::new(adapter))
    }
}

/// The name it was asked by, and its file's without the format's (`SmolLM2-135M-Instruct.Q4_1.gguf`).
fn names(asked: &str, path: &Path) -> Vec<String> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let short = stem.split_once(".Q").map_or(stem.as_str(), |(name, _)| name).to_owned();
    vec![asked.to_owned(), short]
}

/// Maps the weights; the first time on a machine they are packed, with a bar on a terminal.
fn pack(checkpoint: &Checkpoint, folder: &Path, ui: &Ui) -> Result<Pack> {
    let mut bar = None;
    let pack = Pack::open_with(checkpoint, folder, &mut |done, all| {
        let bar = bar.get_or_insert_with(|| ui.progress("packing the weights, once"));
        bar.set_position((done as f64 / all.max(1) as f64 * 1000.0) as u64);
    });
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    Ok(pack?)
}

/// Milliseconds since.
pub fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
