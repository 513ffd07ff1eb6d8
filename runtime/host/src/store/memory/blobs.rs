//! Blobs that last as long as the process: files all the same, since whoever opens one wants a file, in a folder that
//! goes with the store.

use crate::call::Later;
use crate::records::Digest;
use crate::store::rules::{check_digest, hex};
use crate::store::{Blobs, LocalFile, Rejected, Result, Source, StoreError};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

use crate::store::clock::Clock;

struct Kept {
    bytes: u64,
    at: Duration,
}

/// Blobs of one process.
pub struct MemoryBlobs {
    folder: tempfile::TempDir,
    clock: Arc<dyn Clock>,
    kept: Mutex<BTreeMap<Digest, Kept>>,
}

fn failed(error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

impl MemoryBlobs {
    /// No blobs yet.
    ///
    /// # Errors
    /// The machine has no place for temporary files.
    pub fn new(clock: Arc<dyn Clock>) -> std::io::Result<Self> {
        Ok(Self { folder: tempfile::tempdir()?, clock, kept: Mutex::default() })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.path().join(digest)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, digest: &str) -> Result<LocalFile> {
        let kept = self.kept();
        let found = kept.get(digest).ok_or_else(|| Rejected::Absent(format!("blob {digest}")));
        let bytes = found.map_err(StoreError::Rejected)?.bytes;
        Ok(LocalFile { path: self.path(digest), bytes, digest: digest.to_owned() })
    }
}

impl Blobs for MemoryBlobs {
    fn put<'a>(
        &'a self,
        source: Source,
        limit: u64,
        wanted: Option<&'a str>,
    ) -> Later<'a, Result<LocalFile>> {
        Box::pin(async move {
            let mut content = Vec::new();
            let one_more = limit.saturating_add(1);
            source.take(one_more).read_to_end(&mut content).await.map_err(|error| failed(&error))?;
            if content.len() as u64 > limit {
                return Err(StoreError::Rejected(Rejected::TooLarge { limit }));
            }
            let digest = hex(&Sha256::digest(&content));
            if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
                let wrong = Rejected::WrongDigest { wanted: wanted.to_owned(), found: digest };
                return Err(StoreError::Rejected(wrong));
            }
            std::fs::write(self.path(&digest), &content).map_err(|error| failed(&error))?;
            let kept = Kept { bytes: content.len() as u64, at: self.clock.monotonic() };
            self.kept().insert(digest.clone(), kept);
            self.file(&digest)
        })
    }

    fn open<'a>(&'a self, digest: &'a str, _verify: bool) -> Later<'a, Result<LocalFile>> {
        Box::pin(async move {
            check_digest(digest)?;
            self.file(digest)
        })
    }

    fn delete_unreferenced<'a>(
        &'a self,
        keep: &'a [Digest],
        age: Duration,
    ) -> Later<'a, Result<Vec<Digest>>> {
        Box::pin(async move {
            let now = self.clock.monotonic();
            let mut gone = Vec::new();
            self.kept().retain(|digest, kept| {
                let stays = keep.contains(digest) || now.saturating_sub(kept.at) < age;
                if !stays {
                    gone.push(digest.clone());
                }
                stays
            });
            for digest in &gone {
                std::fs::remove_file(self.path(digest)).map_err(|error| failed(&error))?;
            }
            Ok(gone)
        })
    }

    fn usage(&self) -> Later<'_, Result<(u64, u64)>> {
        Box::pin(async move {
            let kept = self.kept();
            Ok((kept.values().map(|kept| kept.bytes).sum(), kept.len() as u64))
        })
    }
}
