//! Models on disk: pull, list, info, verify, remove; stored by content hash.
//!
//! A store is a folder. Every file of a model lies once in it, named by its SHA-256 and read-only (`blobs/sha256/`); a
//! manifest says which files make up a backbone (`backbones/NAME.json`); a backbone's files appear under their own
//! names in `models/DIGEST/`, as hard links to the blobs, so that two backbones with a file in common share its pages.
//! `packs/` is the pack's, `partial/` holds downloads that are not done. The store opens no model.

pub mod address;
mod blobs;
mod clean;
mod download;
mod http;
mod hub;
mod local;
mod manifest;
mod places;
mod pull;
mod pypi;
pub mod source;
mod wheel;

pub use clean::{Damage, Health, Removed, Verified};
pub use manifest::{FileEntry, Format, Manifest};
pub use places::Places;
pub use pull::{Pull, Pulled};
pub use source::{ALIASES, Alias, Source};

use crate::error::{Error, Result};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// How the caller of long work watches it.
pub struct Watch<'a> {
    /// Whether to stop now.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Told what is being worked on, bytes done, and bytes in all where they are known.
    pub progress: &'a (dyn Fn(&str, u64, Option<u64>) + Sync),
}

impl Watch<'_> {
    /// Watches nothing: work runs to its end in silence.
    pub const SILENT: Watch<'static> = Watch { stopped: &|| false, progress: &|_, _, _| {} };

    /// Fails once told to stop.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if (self.stopped)() {
            return Err(Error::Interrupted(
                "what was downloaded is kept; the same command resumes it".into(),
            ));
        }
        Ok(())
    }
}

/// A store's folder.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store at a folder, which need not be there yet.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// `COLDFRAME_HOME`, else `$XDG_DATA_HOME/coldframe`, else `~/.local/share/coldframe`.
    ///
    /// # Errors
    /// [`Error::NotFound`] where the environment names none of them.
    pub fn default_root() -> Result<PathBuf> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG specification says that a relative path is to be ignored.
        let data = set("XDG_DATA_HOME").filter(|path| path.is_absolute());
        let data = data.or_else(|| set("HOME").map(|home| home.join(".local/share")));
        set("COLDFRAME_HOME").or_else(|| data.map(|data| data.join("coldframe"))).ok_or_else(|| {
            Error::NotFound {
                what: "a folder for models".into(),
                hint: "set COLDFRAME_HOME (or give --home)".into(),
            }
        })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where packs are kept.
    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    fn partial(&self) -> PathBuf {
        self.root.join("partial")
    }

    fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    fn backbones(&self) -> PathBuf {
        self.root.join("backbones")
    }

    /// Makes the folders that are missing.
    fn prepare(&self) -> Result<()> {
        for folder in [self.blobs(), self.partial(), self.models(), self.backbones(), self.packs()] {
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        Ok(())
    }

    /// Held by whoever adds files, and alone by whoever removes some.
    fn lock(&self, alone: bool) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io(&path))?;
        let taken = if alone { file.try_lock() } else { file.try_lock_shared() };
        match taken {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                let problem = "another command works on this store: wait for it to end";
                Err(Error::io(&path)(std::io::Error::new(std::io::ErrorKind::WouldBlock, problem)))
            }
            Err(fs::TryLockError::Error(error)) => Err(Error::io(&path)(error)),
        }
    }

    /// Every backbone of the store by name; manifests that cannot be read come as errors.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be listed.
    pub fn list(&self) -> Result<Vec<Result<Manifest>>> {
        let names = self.names()?;
        Ok(names.iter().map(|name| self.manifest(name)).collect())
    }

    /// Names of every backbone, sorted.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        let names = entries(&self.backbones())?;
        let mut names: Vec<String> =
            names.iter().filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
        names.retain(|name| source::check_name(name).is_ok());
        names.sort();
        Ok(names)
    }

    /// A backbone's manifest.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Corrupt`].
    pub fn manifest(&self, name: &str) -> Result<Manifest> {
        source::check_name(name)?;
        Manifest::read(&self.backbones().join(format!("{name}.json")), name)
    }

    /// The backbone that `text` names: in full, or by a beginning that only one has.
    ///
    /// # Errors
    /// [`Error::NotFound`] with what there is and how to get more.
    pub fn named(&self, text: &str) -> Result<Manifest> {
        let names = self.names()?;
        if names.iter().any(|name| name == text) {
            return self.manifest(text);
        }
        let lower = text.to_ascii_lowercase();
        let starting: Vec<&String> = names.iter().filter(|name| name.starts_with(&lower)).collect();
        match starting[..] {
            [only] if !lower.is_empty() => self.manifest(only),
            [] => Err(self.missing(text, &names)),
            _ => Err(Error::NotFound {
                what: format!("backbone `{text}`"),
                hint: format!(
                    "several names begin so: {}",
                    joined(starting.iter().map(|name| name.as_str()))
                ),
            }),
        }
    }

    fn missing(&self, text: &str, names: &[String]) -> Error {
        let known = match names {
            [] => format!("the store at {} is empty", self.root.display()),
            names => format!("there are: {}", joined(names.iter().map(String::as_str))),
        };
        let pull = match source::alias(text) {
            Some(alias) => format!("get it with `coldframe backbone pull {}`", alias.name),
            None => {
                "`coldframe backbone pull SOURCE` gets one, or name a .gguf file or a model folder".into()
            }
        };
        Error::NotFound { what: format!("backbone `{text}`"), hint: format!("{known}; {pull}") }
    }

    /// The file or folder to open for `text`, which is a path or a backbone's name.
    ///
    /// # Errors
    /// [`Error::NotFound`] where it is neither, [`Error::Corrupt`] where files of the backbone are gone.
    pub fn resolve(&self, text: &str) -> Result<PathBuf> {
        // A name has no slash and no extension that a model file has; anything else is meant as a path.
        let path = Path::new(text);
        if text.contains('/') || text.ends_with(".gguf") {
            return match path.exists() {
                true => Ok(path.to_owned()),
                false => Err(Error::NotFound {
                    what: text.to_owned(),
                    hint: "there is no such file or folder".into(),
                }),
            };
        }
        match self.named(text) {
            Ok(manifest) => self.model_path(&manifest),
            Err(Error::NotFound { .. }) if path.exists() => Ok(path.to_owned()),
            Err(error) => Err(error),
        }
    }

    /// The file (GGUF) or folder (safetensors) of a backbone, put in place again where it is missing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where a blob is gone.
    pub fn model_path(&self, manifest: &Manifest) -> Result<PathBuf> {
        if let Some(linked) = &manifest.linked {
            return Ok(linked.clone());
        }
        let folder = self.materialise(manifest)?;
        Ok(match &manifest.files[..] {
            [only] if manifest.format == Format::Gguf => folder.join(&only.path),
            _ => folder,
        })
    }
}

fn joined<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// Names in a folder; none where there is no folder.
fn entries(folder: &Path) -> Result<Vec<String>> {
    let all = match fs::read_dir(folder) {
        Ok(all) => all,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(folder)(error)),
    };
    let mut names = Vec::new();
    for entry in all {
        names.push(entry.map_err(Error::io(folder))?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
