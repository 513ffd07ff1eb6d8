//! Blobs: files named by their SHA-256, read-only, and the names under which a model's files appear.

use super::manifest::{hex, sync_folder};
use super::{Manifest, Store, Watch};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Bytes hashed between two looks at the stop flag.
const CHUNK: usize = 1 << 20;

impl Store {
    /// Where the blob of that digest lies or would lie.
    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.blobs().join(sha256)
    }

    /// Size of a blob that is there.
    pub(super) fn blob_bytes(&self, sha256: &str) -> Option<u64> {
        fs::symlink_metadata(self.blob(sha256)).ok().filter(fs::Metadata::is_file).map(|what| what.len())
    }

    /// Whether a blob is there and still is what its name says; one that is not is removed, so that pulling repairs.
    pub(super) fn sound(&self, sha256: &str, bytes: u64, watch: &Watch<'_>) -> Result<bool> {
        if self.blob_bytes(sha256).is_none() {
            return Ok(false);
        }
        let path = self.blob(sha256);
        if hash_file(&path, "checking what is here", watch)? == (sha256.to_owned(), bytes) {
            return Ok(true);
        }
        fs::remove_file(&path).map_err(Error::io(&path))?;
        Ok(false)
    }

    /// Makes a finished file of the same file system the blob of its digest.
    pub(super) fn adopt(&self, path: &Path, sha256: &str) -> Result<()> {
        let file = File::open(path).map_err(Error::io(path))?;
        file.set_permissions(Permissions::from_mode(0o444))
            .and_then(|()| file.sync_all())
            .map_err(Error::io(path))?;
        let blob = self.blob(sha256);
        fs::rename(path, &blob).map_err(Error::io(&blob))?;
        sync_folder(&self.blobs())
    }

    /// Puts a backbone's files under their own names into one folder; does nothing where they are there.
    pub(super) fn materialise(&self, manifest: &Manifest) -> Result<PathBuf> {
        let folder = self.models().join(manifest.digest());
        for file in &manifest.files {
            let (blob, named) = (self.blob(&file.sha256), folder.join(&file.path));
            if same_file(&blob, &named) {
                continue;
            }
            if self.blob_bytes(&file.sha256) != Some(file.bytes) {
                let problem = "is missing or cut short; pull the backbone again";
                return Err(Error::corrupt(&blob, &file.path, problem));
            }
            fs::create_dir_all(&folder).map_err(Error::io(&folder))?;
            link(&blob, &named)?;
        }
        Ok(folder)
    }
}

fn same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| fs::symlink_metadata(path).ok().map(|what| (what.dev(), what.ino()));
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// A hard link, or a copy where the file system has none.
fn link(blob: &Path, named: &Path) -> Result<()> {
    match fs::remove_file(named) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io(named)(error)),
        _ => {}
    }
    match fs::hard_link(blob, named) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && same_file(blob, named) => Ok(()),
        Err(_) => fs::copy(blob, named).map(drop).map_err(Error::io(named)),
    }
}

/// SHA-256 and size of a file, read once.
pub fn hash_file(path: &Path, label: &str, watch: &Watch<'_>) -> Result<(String, u64)> {
    let file = File::open(path).map_err(Error::io(path))?;
    let total = file.metadata().map_err(Error::io(path))?.len();
    let mut hash = Sha256::new();
    let bytes = pour(file, path, |bytes, done| {
        hash.update(bytes);
        (watch.progress)(label, done, Some(total));
        watch.check()
    })?;
    Ok((hex(&hash.finalize()), bytes))
}

/// Hands a reader's bytes on piece by piece, with the count so far; the count in the end.
pub fn pour(mut from: impl Read, path: &Path, mut each: impl FnMut(&[u8], u64) -> Result<()>) -> Result<u64> {
    let (mut buffer, mut done) = (vec![0; CHUNK], 0);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(done),
            Ok(count) => {
                done += count as u64;
                each(&buffer[..count], done)?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io(path)(error)),
        }
    }
}

/// Bytes a folder's file system has left for this user.
///
/// # Errors
/// [`Error::Io`].
#[expect(unsafe_code, reason = "the standard library has no statvfs")]
pub fn free_bytes(folder: &Path) -> Result<u64> {
    let name = std::ffi::CString::new(folder.as_os_str().as_bytes())
        .map_err(|_| Error::corrupt(folder, "path", "holds a zero byte"))?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends in a zero byte and `stat` is writable; both outlive the call.
    let status = unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) };
    if status != 0 {
        return Err(Error::io(folder)(std::io::Error::last_os_error()));
    }
    // SAFETY: a call that returned 0 filled the whole structure.
    let stat = unsafe { stat.assume_init() };
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Fails where a file of `bytes` would not fit beside `folder`'s other files.
pub fn check_room(folder: &Path, what: &str, bytes: u64) -> Result<()> {
    let free = free_bytes(folder)?;
    if bytes > free {
        return Err(Error::NoRoom { what: format!("{what} in {}", folder.display()), needed: bytes, free });
    }
    Ok(())
}
