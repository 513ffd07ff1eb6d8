//! Looking after a store: verify what is in it, remove what nobody needs.

use super::blobs::hash_file;
use super::{Manifest, Store, Watch, entries};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::pack::Pack;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Age at which a download that was not resumed is swept: arbitrary.
const PARTIAL_AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Damage {
    /// It is not there.
    Missing,
    /// Its bytes are not those that its digest names.
    Changed,
}

/// A file that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Its name in the model.
    pub file: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size as the manifest has it.
    pub bytes: u64,
    /// What is wrong, if something is.
    pub damage: Option<Damage>,
}

/// What a removal took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Files.
    pub files: u64,
    /// Bytes that no other backbone needs.
    pub bytes: u64,
}

/// What lies in a store beside its backbones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Backbones.
    pub backbones: usize,
    /// Manifests that cannot be read, with the reason.
    pub unreadable: Vec<String>,
    /// Blobs that a manifest names and that are gone or cut short.
    pub missing: Vec<String>,
    /// Blobs that no manifest names, and their bytes.
    pub orphans: Removed,
    /// Downloads that are not done, and their bytes.
    pub partials: Removed,
    /// Files of packs, and their bytes.
    pub packs: Removed,
}

impl Store {
    /// Hashes a backbone's files again, and its pack if one was made. A pack whose header is broken is made again.
    ///
    /// # Errors
    /// [`Error::Io`] where one cannot be read, [`Error::Interrupted`].
    pub fn verify(&self, manifest: &Manifest, watch: &Watch<'_>) -> Result<Vec<Verified>> {
        let check = |file: &super::FileEntry| {
            let path = self.file_path(manifest, file);
            let damage = match hash_file(&path, &file.path, watch) {
                Ok((sha256, bytes)) if sha256 == file.sha256 && bytes == file.bytes => None,
                Ok(_) => Some(Damage::Changed),
                Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                    Some(Damage::Missing)
                }
                Err(error) => return Err(error),
            };
            Ok(Verified { file: file.path.clone(), path, bytes: file.bytes, damage })
        };
        let mut files: Vec<Verified> = manifest.files.iter().map(check).collect::<Result<_>>()?;
        if files.iter().all(|file| file.damage.is_none()) {
            files.extend(self.verify_pack(manifest)?);
        }
        Ok(files)
    }

    /// Hashes a backbone's pack again, where one was made.
    fn verify_pack(&self, manifest: &Manifest) -> Result<Option<Verified>> {
        // A model that does not open is whole all the same; it just never had a pack.
        let Ok(checkpoint) = Checkpoint::open(&self.model_path(manifest)?) else { return Ok(None) };
        let path = Pack::path_for(&checkpoint, &self.packs());
        let Ok(found) = fs::metadata(&path) else { return Ok(None) };
        let damage = match Pack::open(&checkpoint, &self.packs())?.verify() {
            Ok(()) => None,
            Err(Error::Digest { .. }) => Some(Damage::Changed),
            Err(error) => return Err(error),
        };
        Ok(Some(Verified { file: "pack".to_owned(), path, bytes: found.len(), damage }))
    }

    /// Where the bytes of a backbone's file lie.
    fn file_path(&self, manifest: &Manifest, file: &super::FileEntry) -> PathBuf {
        match &manifest.linked {
            Some(linked) if linked.is_dir() => linked.join(&file.path),
            Some(linked) => linked.clone(),
            None => self.blob(&file.sha256),
        }
    }

    /// Takes a backbone's name away, and every file that no other backbone needs. Processes that have them mapped keep
    /// their pages until they let go.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Io`] while another command works on the store.
    pub fn remove(&self, name: &str) -> Result<Removed> {
        let path = self.backbones().join(format!("{name}.json"));
        super::source::check_name(name)?;
        if !path.exists() {
            return Err(self.missing(name, &self.names()?));
        }
        let _lock = self.lock(true)?;
        let pack = self.own_pack(name);
        fs::remove_file(&path).map_err(Error::io(&path))?;
        let mut removed = self.collect()?;
        if let Some(pack) = pack.filter(|pack| pack.is_file()) {
            removed.add(&pack);
            fs::remove_file(&pack).map_err(Error::io(&pack))?;
            // The lock is an empty file that the next maker makes again.
            let _ = fs::remove_file(pack.with_extension("lock"));
        }
        Ok(removed)
    }

    /// Where the pack of a backbone lies that no other name shares; `None` where its files no longer open.
    fn own_pack(&self, name: &str) -> Option<PathBuf> {
        let manifest = self.named(name).ok()?;
        let shared = |other: &Manifest| other.name != manifest.name && other.digest() == manifest.digest();
        if self.list().ok()?.iter().flatten().any(shared) {
            return None;
        }
        let checkpoint = Checkpoint::open(&self.model_path(&manifest).ok()?).ok()?;
        Some(Pack::path_for(&checkpoint, &self.packs()))
    }

    /// Removes blobs, model folders and old downloads that nothing names.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] where a manifest cannot be read, since what it needs is not known then.
    pub fn clean(&self) -> Result<Removed> {
        self.prepare()?;
        let _lock = self.lock(true)?;
        self.collect()
    }

    fn collect(&self) -> Result<Removed> {
        let manifests = self.list()?.into_iter().collect::<Result<Vec<_>>>()?;
        let folders: BTreeSet<String> = manifests.iter().map(Manifest::digest).collect();
        for name in entries(&self.models())?.iter().filter(|name| !folders.contains(*name)) {
            let folder = self.models().join(name);
            fs::remove_dir_all(&folder).map_err(Error::io(&folder))?;
        }
        self.sweep();
        let mut removed = Removed::default();
        for name in self.orphans(&manifests)? {
            let path = self.blob(&name);
            removed.add(&path);
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        Ok(removed)
    }

    /// Names of blobs that no manifest names.
    fn orphans(&self, manifests: &[Manifest]) -> Result<Vec<String>> {
        let files = manifests.iter().filter(|manifest| manifest.linked.is_none()).flat_map(|m| &m.files);
        let needed: BTreeSet<&str> = files.map(|file| file.sha256.as_str()).collect();
        let mut names = entries(&self.blobs())?;
        names.retain(|name| !needed.contains(name.as_str()));
        Ok(names)
    }

    /// Removes downloads that were given up long ago. Best effort: one that is locked is being worked on.
    pub(super) fn sweep(&self) {
        for name in entries(&self.partial()).unwrap_or_default() {
            let path = self.partial().join(name);
            let age = fs::metadata(&path)
                .and_then(|what| what.modified())
                .ok()
                .and_then(|time| time.elapsed().ok());
            let free = || fs::File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if age.is_some_and(|age| age > PARTIAL_AGE_MAX) && free() {
                let _ = fs::remove_file(&path);
            }
        }
    }

    /// Bytes free where the store lies or would lie.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn free_bytes(&self) -> Result<u64> {
        let root = std::path::absolute(self.root()).map_err(Error::io(self.root()))?;
        let there = root.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        super::blobs::free_bytes(there)
    }

    /// Bytes of the largest backbone; 0 without one.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder cannot be listed.
    pub fn largest(&self) -> Result<u64> {
        Ok(self.list()?.into_iter().flatten().map(|manifest| manifest.bytes()).max().unwrap_or(0))
    }

    /// What lies in the store.
    ///
    /// # Errors
    /// [`Error::Io`] where a folder cannot be listed.
    pub fn health(&self) -> Result<Health> {
        let mut health = Health::default();
        let mut manifests = Vec::new();
        for manifest in self.list()? {
            match manifest {
                Ok(manifest) => manifests.push(manifest),
                Err(error) => health.unreadable.push(error.to_string()),
            }
        }
        health.backbones = manifests.len();
        for manifest in manifests.iter().filter(|manifest| manifest.linked.is_none()) {
            let gone = manifest.files.iter().filter(|file| self.blob_bytes(&file.sha256) != Some(file.bytes));
            health.missing.extend(gone.map(|file| format!("{} of {}", file.path, manifest.name)));
        }
        for name in self.orphans(&manifests)? {
            health.orphans.add(&self.blob(&name));
        }
        for (folder, count) in [(self.partial(), &mut health.partials), (self.packs(), &mut health.packs)] {
            for name in entries(&folder)?.iter().filter(|name| !name.ends_with(".json")) {
                count.add(&folder.join(name));
            }
        }
        Ok(health)
    }
}

impl Removed {
    fn add(&mut self, path: &Path) {
        self.files += 1;
        self.bytes += fs::metadata(path).map_or(0, |what| what.len());
    }
}
