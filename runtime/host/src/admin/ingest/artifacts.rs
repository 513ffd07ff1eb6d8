//! Blobs under the names that loaders expect: a folder for each adapter, made once, whole or not at all.
//!
//! `adapters/GENERATION/` holds hard links to blobs (copies where the file system has no links), so it costs no bytes,
//! survives the collector, and can be made again at any time. Loaders follow no symbolic links; none are made.

use super::files;
use crate::admin::error::{AdminError, Kind, Result};
use crate::records::{AdapterRecord, Digest, ModuleRecord};
use crate::store::Blobs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Beginning of the names of folders under construction.
const PARTIAL: &str = ".partial-";

/// Where adapters lie for loading.
pub struct Artifacts {
    blobs: Arc<dyn Blobs>,
    folder: PathBuf,
}

impl Artifacts {
    /// Over a blob store, with folders below `folder`, best on the store's own file system. What a crash left half made
    /// is removed.
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn open(blobs: Arc<dyn Blobs>, folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(Self { blobs, folder })
    }

    /// What to give to the loader of an adapter: its folder, or its GGUF file. It is made where it is missing.
    ///
    /// # Errors
    /// Where a blob is gone or the disk refuses.
    pub async fn adapter(&self, record: &AdapterRecord) -> Result<PathBuf> {
        let place = self.folder.join(&record.generation);
        if !place.is_dir() {
            let draft = self.draft(&record.files).await?;
            draft.keep(&record.generation)?;
        }
        Ok(inner(&place, record.files.keys()))
    }

    /// The path of a component.
    ///
    /// # Errors
    /// Where the blob is gone.
    pub async fn module(&self, record: &ModuleRecord) -> Result<PathBuf> {
        Ok(self.blobs.open(&record.digest, false).await?.path)
    }

    /// A folder that is not an adapter's yet: files to be checked.
    ///
    /// # Errors
    /// As [`Artifacts::adapter`].
    pub async fn draft(&self, wanted: &BTreeMap<String, Digest>) -> Result<Draft> {
        let mut sources = Vec::new();
        for (name, digest) in wanted {
            sources.push((name.clone(), self.blobs.open(digest, false).await?.path));
        }
        let home = self.folder.clone();
        let made = tokio::task::spawn_blocking(move || Draft::make(&home, &sources)).await;
        made.map_err(|error| AdminError::internal(format!("making a folder: {error}")))?.map_err(disk)
    }

    /// Removes folders of adapters that nothing refers to. Returns how many.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn clean(&self, keep: &BTreeSet<Digest>) -> io::Result<usize> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') && !keep.contains(&name) {
                fs::remove_dir_all(entry.path())?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A folder under construction: gone when dropped.
#[derive(Debug)]
pub struct Draft {
    home: PathBuf,
    place: tempfile::TempDir,
    names: Vec<String>,
}

impl Draft {
    fn make(home: &Path, sources: &[(String, PathBuf)]) -> io::Result<Self> {
        let place = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(home)?;
        for (name, source) in sources {
            let target = place.path().join(name);
            // Another file system, or one without links: the bytes then come twice.
            if fs::hard_link(source, &target).is_err() {
                fs::copy(source, &target)?;
                fs::File::open(&target)?.sync_all()?;
            }
        }
        let names = sources.iter().map(|(name, _)| name.clone()).collect();
        Ok(Self { home: home.to_owned(), place, names })
    }

    /// What to give to the loader.
    pub fn path(&self) -> PathBuf {
        inner(self.place.path(), self.names.iter())
    }

    /// Makes it the folder of an adapter; where there is one already, that one stays.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn keep(self, generation: &str) -> Result<()> {
        let target = self.home.join(generation);
        if target.is_dir() {
            return Ok(());
        }
        let place = self.place.keep();
        match fs::rename(&place, &target) {
            Ok(()) => fs::File::open(&self.home).and_then(|home| home.sync_all()).map_err(disk),
            // Another request was first.
            Err(_) if target.is_dir() => fs::remove_dir_all(&place).map_err(disk),
            Err(error) => {
                let _ = fs::remove_dir_all(&place);
                Err(disk(error))
            }
        }
    }
}

/// A GGUF adapter is its file, any other its folder.
fn inner<'a>(folder: &Path, mut names: impl Iterator<Item = &'a String>) -> PathBuf {
    if names.any(|name| name == files::GGUF) { folder.join(files::GGUF) } else { folder.to_owned() }
}

fn disk(error: io::Error) -> AdminError {
    let problem = format!("the folder of adapters cannot be written: {error}");
    AdminError::new(Kind::Storage, "lora_storage_unavailable", problem)
}
