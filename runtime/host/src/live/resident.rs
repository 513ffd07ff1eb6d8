//! What a function needs in place: its adapters in memory, its code compiled. Loaded on threads that may block, timed.
//!
//! A [`Resident`] is held by whoever runs a call on it, so that dropping the last hold is what frees the memory. When to
//! load or drop is the policy's business, where files come from the store's.

use super::code::Code;
use super::component::{ComponentCode, grants, limits};
use super::model::Model;
use crate::records::{Digest, Settings};
use coldframe_backbone::adapter::{Adapter, Generation, Limits};
use coldframe_backbone::error::{Error, Result};
use coldframe_backbone::text::ChatTemplate;
use coldframe_sandbox::Sandbox;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes read at a time while files are staged: small enough to stay in a core's cache.
const CHUNK: usize = 128 << 10;

/// The name that stands for no adapter.
pub const BASE: &str = "base";

/// An adapter in memory.
#[derive(Clone)]
pub struct Loaded {
    /// Its name inside the function.
    pub name: String,
    /// The adapter.
    pub adapter: Arc<Adapter>,
    /// The chat template that came with it.
    pub template: Option<Arc<ChatTemplate>>,
    /// What loading took.
    pub times: LoadTimes,
}

/// What loading an adapter took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTimes {
    /// Reading its files from the disk, or from the system's cache of it.
    pub read: Duration,
    /// Checking, converting and copying them into place.
    pub load: Duration,
    /// Bytes read.
    pub bytes: u64,
}

/// A function in place.
#[derive(Clone, Default)]
pub struct Resident {
    /// Its generation's id; `None` for the base model itself.
    pub generation: Option<Digest>,
    /// Adapters in the manifest's order, the default first.
    pub adapters: Vec<Loaded>,
    /// Its code, compiled.
    pub code: Option<Arc<dyn Code>>,
    /// How it runs.
    pub settings: Settings,
}

impl Resident {
    /// The adapter a call asks for: `None` is the first, `base` none.
    ///
    /// # Errors
    /// Names that there are, where there is none of that name.
    pub fn adapter(&self, name: Option<&str>) -> Result<Option<&Loaded>, String> {
        match name {
            None => Ok(self.adapters.first()),
            Some(name) => match self.adapters.iter().find(|loaded| loaded.name == name) {
                Some(loaded) => Ok(Some(loaded)),
                None if name == BASE => Ok(None),
                None => Err(format!("no adapter `{name}`; there are: {}", self.names().join(", "))),
            },
        }
    }

    /// Names of the adapters, in the manifest's order.
    pub fn names(&self) -> Vec<String> {
        self.adapters.iter().map(|loaded| loaded.name.clone()).collect()
    }

    /// Memory of adapters and code, bytes.
    pub fn bytes(&self) -> u64 {
        let adapters: u64 = self.adapters.iter().map(|loaded| loaded.adapter.bytes()).sum();
        adapters + self.code.as_ref().map_or(0, |code| code.bytes())
    }

    /// Generations of its adapters, each once.
    pub fn generations(&self) -> BTreeSet<Generation> {
        self.adapters.iter().map(|loaded| loaded.adapter.generation()).collect()
    }

    /// Drops it from the engine's point of view: cached pages of its adapters. Memory is freed with the last hold.
    pub async fn forget(&self, model: &Model) {
        for generation in self.generations() {
            model.engine.forget(generation).await;
        }
    }
}

/// Reads an adapter's files once, so that they are in the system's cache. Blocks.
///
/// # Errors
/// [`Error::Io`] where a file can't be read.
pub fn stage(path: &Path) -> Result<LoadTimes> {
    let start = Instant::now();
    let (mut bytes, mut chunk) = (0, vec![0; CHUNK]);
    for file in files(path)? {
        let mut open = File::open(&file).map_err(Error::io(&file))?;
        loop {
            match open.read(&mut chunk).map_err(Error::io(&file))? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok(LoadTimes { read: start.elapsed(), load: Duration::ZERO, bytes })
}

/// Loads an adapter from its folder (or GGUF file), reading and loading timed apart. Blocks.
///
/// # Errors
/// As [`Adapter::load`], and for a template that does not parse.
pub fn load_adapter(model: &Model, name: &str, path: &Path) -> Result<Loaded> {
    let path = &adapter_path(path)?;
    let staged = stage(path)?;
    let start = Instant::now();
    let limits = Limits { base_names: model.base_names.clone(), ..Limits::default() };
    let adapter = Adapter::load(path, &*model.pack, &limits)?;
    let template = adapter.chat_template().map(|source| model.parse_template(source)).transpose()?;
    let times = LoadTimes { load: start.elapsed(), ..staged };
    Ok(Loaded { name: name.to_owned(), adapter: Arc::new(adapter), template, times })
}

/// Loads a function's component, compiling it where no compiled form is kept; says what that took.
///
/// # Errors
/// As [`Sandbox::load`].
pub async fn load_code(
    sandbox: &Sandbox,
    component: &[u8],
    settings: &Settings,
) -> Result<(Arc<dyn Code>, Duration), coldframe_sandbox::Error> {
    let start = Instant::now();
    let function = sandbox.load(component, limits(settings), grants(settings)?).await?;
    Ok((Arc::new(ComponentCode(function)), start.elapsed()))
}

/// A folder that holds one GGUF adapter and nothing of PEFT stands for that file.
fn adapter_path(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() || path.join("adapter_config.json").exists() {
        return Ok(path.to_owned());
    }
    let mut gguf = files(path)?;
    gguf.retain(|file| file.extension().is_some_and(|extension| extension == "gguf"));
    Ok(if gguf.len() == 1 { gguf.remove(0) } else { path.to_owned() })
}

/// The file itself, or the regular files of a folder and its subfolders: an adapter saved under a name of its own lies
/// one folder deeper, never two.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    gather(path, 2, &mut all)?;
    all.sort();
    Ok(all)
}

fn gather(path: &Path, depth: usize, all: &mut Vec<PathBuf>) -> Result<()> {
    let kind = std::fs::symlink_metadata(path).map_err(Error::io(path))?;
    if kind.is_file() {
        all.push(path.to_owned());
    } else if kind.is_dir() && depth > 0 {
        for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
            gather(&entry.map_err(Error::io(path))?.path(), depth - 1, all)?;
        }
    }
    Ok(())
}
