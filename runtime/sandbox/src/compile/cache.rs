//! Compiled components on disk, each under a MAC.
//!
//! Loading compiled code trusts it, so a file counts only when this folder's key signed it: HMAC-SHA256 over the component's
//! digest, the engine's configuration and the code. The key is made once and readable by the owner only; whoever can read it can
//! already run code as this user. A file that fails is counted and compiled again.

use crate::check::hex;
use crate::error::Error;
use crate::sandbox::CacheCounts;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fs::{self, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::Component;

/// Bytes of the key and of a MAC.
const KEY_BYTES: usize = 32;

/// Name of the key's file.
const KEY_FILE: &str = "key";

/// The folder of compiled components.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    configuration: String,
    written: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    forged: AtomicU64,
}

impl Cache {
    pub(crate) fn open(folder: &Path, engine: &Engine) -> Result<Self, Error> {
        let broken = |source| Error::Cache { path: folder.to_owned(), source };
        fs::create_dir_all(folder).map_err(broken)?;
        let key = key(&folder.join(KEY_FILE)).map_err(broken)?;
        Ok(Self {
            folder: folder.to_owned(),
            key,
            configuration: configuration(engine),
            written: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            forged: AtomicU64::new(0),
        })
    }

    pub(crate) fn counts(&self) -> CacheCounts {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        CacheCounts { hits: get(&self.hits), misses: get(&self.misses), forged: get(&self.forged) }
    }

    /// The compiled component of a digest, if it is there and genuine.
    pub(crate) fn read(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let Ok(file) = fs::read(self.path(digest)) else {
            self.misses.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let component = self.genuine(digest, &file).and_then(|code| super::trust(engine, code).ok());
        let count = if component.is_some() { &self.hits } else { &self.forged };
        count.fetch_add(1, Ordering::Relaxed);
        component
    }

    /// Keeps compiled code; a reader sees all of it or nothing.
    pub(crate) fn write(&self, digest: &str, code: &[u8]) -> Result<(), Error> {
        let path = self.path(digest);
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{digest}.{}.{number}.tmp", std::process::id()));
        let mac = self.mac(digest, code).finalize().into_bytes();
        let write = || {
            let mut file = private(&temporary)?;
            file.write_all(&mac)?;
            file.write_all(code)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|source| {
            let _not_there = fs::remove_file(&temporary);
            Error::Cache { path, source }
        })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}-{}.cwasm", self.configuration))
    }

    fn genuine<'a>(&self, digest: &str, file: &'a [u8]) -> Option<&'a [u8]> {
        let (mac, code) = file.split_at_checked(KEY_BYTES)?;
        self.mac(digest, code).verify_slice(mac).ok()?;
        Some(code)
    }

    fn mac(&self, digest: &str, code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a MAC takes a key of any length");
        for part in [digest.as_bytes(), self.configuration.as_bytes()] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac.update(code);
        mac
    }
}

/// The engine's version, target and settings in 16 hexadecimal digits.
fn configuration(engine: &Engine) -> String {
    struct Bytes(Sha256);
    impl Hasher for Bytes {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Bytes(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hex(&hasher.0.finalize()[..8])
}

/// A new file that only its owner may read.
fn private(path: &Path) -> io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// The key in a file, made if it is not there. Two processes that start at once end up with the same one.
fn key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    if let Some(key) = read_key(path)? {
        return Ok(key);
    }
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(io::Error::other)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = private(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    // A link, unlike a rename, never replaces the key another process has just made.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => read_key(path)?.ok_or_else(|| io::Error::other("the key vanished")),
    }
}

fn read_key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let key = bytes.try_into();
    key.map(Some).map_err(|_| io::Error::other("the key has not 32 bytes; remove the folder to start anew"))
}
