//! Blobs as files named by their SHA-256: `blobs/sha256/ab/abcd…`, whole or absent, read-only.
//!
//! Bytes are hashed while they are written to a temporary file beside their place, synced, renamed, and the folder is
//! synced. Links are never followed. A failed sync makes the store read-only until it is started again: what the disk
//! holds is then not known. It knows no records; who needs which blob is told to it.

mod put;

use super::rules::{check_digest, hex, is_digest};
use super::{Blobs, LocalFile, OpenError, Rejected, Result, Source, StoreError};
use crate::call::Later;
use crate::records::Digest;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, OpenOptions, OpenOptionsExt as _};
use sha2::{Digest as _, Sha256};
use std::collections::HashSet;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

/// Start of the name of a file that is not a blob yet.
const DRAFT: &str = ".draft-";
/// Start of the name of a file that was found not to be what its name says.
const DAMAGED: &str = ".damaged-";
/// Bytes hashed or written at once.
const CHUNK: usize = 1 << 20;

/// Blobs in a folder.
#[derive(Clone)]
pub struct Files {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    dir: Dir,
    /// Held while a blob gets or loses its name, so that a collection cannot take one that was just put again.
    names: Mutex<()>,
    broken: OnceLock<String>,
}

/// Where a blob lies below the folder.
pub(super) fn place(digest: &str) -> PathBuf {
    Path::new(&digest[..2]).join(digest)
}

/// Syncs the folder a file lies in, so that its name lasts.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

/// What an error of the file system means for whoever asked.
fn translate(error: &io::Error) -> StoreError {
    StoreError::Unavailable(match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            format!("the disk is full ({error}): free space and try again; reads go on")
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            format!("the disk is read-only ({error}): make it writable and start again; reads go on")
        }
        _ => format!("the disk refuses ({error}): check it and try again"),
    })
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

impl Files {
    /// Opens the folder and removes what never became a blob.
    pub(super) fn open(folder: &Path, read_only: bool) -> std::result::Result<Self, OpenError> {
        if !read_only {
            std::fs::create_dir_all(folder).map_err(OpenError::io(folder))?;
        }
        let dir = Dir::open_ambient_dir(folder, ambient_authority()).map_err(OpenError::io(folder))?;
        let inner =
            Inner { folder: folder.to_owned(), dir, names: Mutex::default(), broken: OnceLock::new() };
        if read_only {
            let reason = "the disk is read-only: make it writable and start again; reads go on";
            let _ = inner.broken.set(reason.to_owned());
        } else {
            inner.sweep().map_err(OpenError::io(folder))?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Why nothing is written any more, where that is so.
    pub fn broken(&self) -> Option<String> {
        self.inner.broken.get().cloned()
    }

    /// All blobs.
    pub(super) fn digests(&self) -> io::Result<Vec<Digest>> {
        self.inner.digests()
    }

    /// A blob whose bytes were checked.
    pub(super) fn verified(&self, digest: &str) -> Result<LocalFile> {
        self.inner.open(digest, true)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.inner);
        let ended = |error| Err(StoreError::Unavailable(format!("the work ended early: {error}")));
        tokio::task::spawn_blocking(move || work(&inner)).await.unwrap_or_else(ended)
    }
}

impl Inner {
    fn writable(&self) -> Result<()> {
        match self.broken.get() {
            Some(reason) => Err(StoreError::Unavailable(reason.clone())),
            None => Ok(()),
        }
    }

    /// A sync failed: nothing is written from now on.
    fn sync_failed(&self, error: &io::Error) -> StoreError {
        let folder = self.folder.display();
        let reason = format!(
            "{folder}: a sync failed ({error}); what is on the disk is not known, so nothing is written until the \
             server is started again: check the disk first; reads go on"
        );
        tracing::error!(%reason, "the blobs are read-only");
        let _ = self.broken.set(reason.clone());
        StoreError::Unknown(reason)
    }

    /// Removes drafts of a process that ended, from here and from wherever else they may lie.
    fn sweep(&self) -> io::Result<()> {
        for entry in self.dir.entries()? {
            let name = entry?.file_name();
            if name.to_string_lossy().starts_with(DRAFT) {
                self.dir.remove_file(&name)?;
            }
        }
        Ok(())
    }

    fn digests(&self) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        for shelf in self.dir.entries()? {
            let shelf = shelf?;
            if !shelf.file_type()?.is_dir() {
                continue;
            }
            for entry in shelf.open_dir()?.entries()? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if is_digest(&name) {
                    found.push(name);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// A regular file with this name, opened without following links.
    fn file(&self, digest: &str) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NOFOLLOW);
        let absent = || StoreError::Rejected(Rejected::Absent(format!("blob {digest}")));
        let file = self.dir.open_with(place(digest), &options).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => absent(),
            _ if error.raw_os_error() == Some(libc::ELOOP) => StoreError::Unavailable(format!(
                "blob {digest} is a link, which this store never made: remove it and store the bytes again"
            )),
            _ => translate(&error),
        })?;
        let is_file = file.metadata().map_err(|error| translate(&error))?.is_file();
        is_file.then_some(file).ok_or_else(absent)
    }

    fn open(&self, digest: &str, verify: bool) -> Result<LocalFile> {
        check_digest(digest)?;
        let mut file = self.file(digest)?;
        let bytes = file.metadata().map_err(|error| translate(&error))?.len();
        if verify {
            let found = hash(&mut file).map_err(|error| translate(&error))?;
            if found != digest {
                self.set_aside(digest);
                let wrong = Rejected::WrongDigest { wanted: digest.to_owned(), found };
                return Err(StoreError::Rejected(wrong));
            }
        }
        Ok(LocalFile { path: self.folder.join(place(digest)), bytes, digest: digest.to_owned() })
    }

    /// Takes the name from a file that does not deserve it; the bytes stay for whoever looks into it.
    fn set_aside(&self, digest: &str) {
        if self.broken.get().is_some() {
            return;
        }
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let aside = format!("{DAMAGED}{digest}");
        let outcome = self.dir.rename(place(digest), &self.dir, &aside);
        tracing::error!(blob = digest, moved = outcome.is_ok(), "a blob is damaged: store its bytes again");
    }

    fn delete_unreferenced(&self, keep: &HashSet<Digest>, age: Duration) -> Result<Vec<Digest>> {
        self.writable()?;
        let mut gone = Vec::new();
        for digest in self.digests().map_err(|error| translate(&error))? {
            if !keep.contains(&digest) && self.delete_old(&digest, age).map_err(|error| translate(&error))? {
                gone.push(digest);
            }
        }
        Ok(gone)
    }

    /// Removes a blob unless it is young. A calendar set back makes blobs look young, which keeps them.
    fn delete_old(&self, digest: &str, age: Duration) -> io::Result<bool> {
        let _names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let place = place(digest);
        let stored = self.dir.symlink_metadata(&place)?.modified()?.into_std();
        if SystemTime::now().duration_since(stored).unwrap_or_default() < age {
            return Ok(false);
        }
        self.dir.remove_file(&place)?;
        Ok(true)
    }

    fn usage(&self) -> io::Result<(u64, u64)> {
        let (mut bytes, mut count) = (0, 0);
        for digest in self.digests()? {
            if let Ok(found) = self.dir.symlink_metadata(place(&digest)) {
                bytes += found.len();
                count += 1;
            }
        }
        Ok((bytes, count))
    }
}

impl Blobs for Files {
    fn put<'a>(
        &'a self,
        source: Source,
        limit: u64,
        wanted: Option<&'a str>,
    ) -> Later<'a, Result<LocalFile>> {
        Box::pin(async move {
            wanted.map_or(Ok(()), check_digest)?;
            self.inner.writable()?;
            let draft = self.write_draft(source, limit).await?;
            if let Some(wanted) = wanted.filter(|wanted| *wanted != draft.digest()) {
                let wrong =
                    Rejected::WrongDigest { wanted: wanted.to_owned(), found: draft.digest().to_owned() };
                return Err(StoreError::Rejected(wrong));
            }
            self.blocking(move |inner| inner.publish(draft)).await
        })
    }

    fn open<'a>(&'a self, digest: &'a str, verify: bool) -> Later<'a, Result<LocalFile>> {
        let digest = digest.to_owned();
        Box::pin(self.blocking(move |inner| inner.open(&digest, verify)))
    }

    fn delete_unreferenced<'a>(
        &'a self,
        keep: &'a [Digest],
        age: Duration,
    ) -> Later<'a, Result<Vec<Digest>>> {
        let keep: HashSet<Digest> = keep.iter().cloned().collect();
        Box::pin(self.blocking(move |inner| inner.delete_unreferenced(&keep, age)))
    }

    fn usage(&self) -> Later<'_, Result<(u64, u64)>> {
        Box::pin(self.blocking(|inner| inner.usage().map_err(|error| translate(&error))))
    }
}
