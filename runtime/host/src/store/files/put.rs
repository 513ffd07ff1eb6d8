//! How bytes become a blob: a draft that is hashed while it is written, then its name.
//!
//! A draft goes with its handle, whatever ends it; only [`Inner::publish`] makes a name of it.

use super::super::{LocalFile, Rejected, Result, Source, StoreError};
use super::{CHUNK, DRAFT, Files, Inner, hash, place, translate};
use crate::records::Digest;
use crate::store::rules::hex;
use cap_std::fs::{File, OpenOptions, OpenOptionsExt as _, Permissions, PermissionsExt as _};
use sha2::{Digest as _, Sha256};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;
use tokio::io::AsyncReadExt as _;

/// A file that may become a blob.
pub(super) struct Draft {
    inner: Arc<Inner>,
    name: String,
    file: File,
    hasher: Sha256,
    bytes: u64,
    digest: Digest,
}

impl Drop for Draft {
    fn drop(&mut self) {
        // It has another name by now, or it is to go.
        let _ = self.inner.dir.remove_file(&self.name);
    }
}

impl Draft {
    fn new(inner: Arc<Inner>) -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("{DRAFT}{}", hex(&random));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = inner.dir.open_with(&name, &options)?;
        Ok(Self { inner, name, file, hasher: Sha256::new(), bytes: 0, digest: String::new() })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// SHA-256 of what was written, once it is all.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

impl Files {
    /// Writes all of a source to a draft.
    pub(super) async fn write_draft(&self, mut source: Source, limit: u64) -> Result<Draft> {
        let inner = Arc::clone(&self.inner);
        let mut draft = blocking(move || Draft::new(inner)).await?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            let mut part = (&mut source).take(CHUNK as u64);
            let read = part.read_to_end(&mut chunk).await;
            read.map_err(|error| Rejected::Invalid(format!("the bytes broke off: {error}")))
                .map_err(StoreError::Rejected)?;
            if chunk.is_empty() {
                draft.digest = hex(&draft.hasher.clone().finalize());
                return Ok(draft);
            }
            if draft.bytes + chunk.len() as u64 > limit {
                return Err(StoreError::Rejected(Rejected::TooLarge { limit }));
            }
            draft = blocking(move || draft.write(&chunk).map(|()| draft)).await?;
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome.map_err(|error| translate(&error)),
        Err(ended) => Err(StoreError::Unavailable(format!("the write ended early: {ended}"))),
    }
}

impl Inner {
    /// Gives a draft its name. Bytes that are here already are dated anew, so that a collection leaves them.
    pub(super) fn publish(&self, draft: Draft) -> Result<LocalFile> {
        let (digest, bytes) = (draft.digest.clone(), draft.bytes);
        let file = LocalFile { path: self.folder.join(place(&digest)), bytes, digest: digest.clone() };
        if self.is_here(&digest) {
            return Ok(file);
        }
        let read_only = Permissions::from_mode(0o400);
        draft.file.set_permissions(read_only).map_err(|error| translate(&error))?;
        draft.file.sync_all().map_err(|error| self.sync_failed(&error))?;
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_shelf(&digest)?;
        self.dir.rename(&draft.name, &self.dir, place(&digest)).map_err(|error| translate(&error))?;
        self.sync_folder(Path::new(&digest[..2]))?;
        Ok(file)
    }

    /// Whether a sound blob has the name; its date is then today's.
    fn is_here(&self, digest: &str) -> bool {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let Ok(mut file) = self.file(digest) else { return false };
        let sound = hash(&mut file).is_ok_and(|found| found == digest);
        sound && file.into_std().set_modified(SystemTime::now()).is_ok()
    }

    fn make_shelf(&self, digest: &str) -> Result<()> {
        match self.dir.create_dir(&digest[..2]) {
            Ok(()) => self.sync_folder(Path::new(".")),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(translate(&error)),
        }
    }

    fn sync_folder(&self, below: &Path) -> Result<()> {
        let folder: PathBuf = self.folder.join(below);
        let outcome = std::fs::File::open(&folder).and_then(|folder| folder.sync_all());
        outcome.map_err(|error| self.sync_failed(&error))
    }
}
