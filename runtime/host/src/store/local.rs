//! A store on one machine: a folder with two databases and blobs, held by one process at a time.
//!
//! ```text
//! store.json       format and date, written last: its presence says that the rest must be there
//! lock             held by the process that has the store open
//! registry.db      records, idempotency keys, jobs      (+ -wal, -shm, -acked)
//! journal.db       ledger, audit, logs, functions' state (+ -wal, -shm, -acked)
//! blobs/sha256/    bytes by digest
//! ```
//!
//! Backup, restore and collection see all parts at once and so live here. It knows no record's meaning but that a
//! SHA-256 in one keeps the blob.

use super::clock::Clock;
use super::files::{Files, place, sync_parent};
use super::sqlite::{self, Sqlite};
use super::{Blobs, Digest, Jobs, Journal, OpenError, Registry, Result, StateStore, StoreError, rules};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const MARK: &str = "store.json";
const BACKUP: &str = "backup.json";
const LOCK: &str = "lock";
const BLOBS: &str = "blobs/sha256";
/// The folder's layout.
const FORMAT: u32 = 1;
/// Records read at once by a collection.
const PAGE: usize = 500;

/// What `store.json` and `backup.json` say.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    format: u32,
    made_ms: u64,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// What is wrong, in words; empty is good.
    pub problems: Vec<String>,
    /// Blobs looked at.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
}

/// What a collection removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Blobs that no record names.
    pub removed: Vec<Digest>,
    /// Blobs that stay.
    pub kept: u64,
}

/// A store on this machine.
pub struct Store {
    folder: PathBuf,
    sqlite: Arc<Sqlite>,
    files: Arc<Files>,
    clock: Arc<dyn Clock>,
}

impl Store {
    /// Opens the store in a folder, or makes one where the folder is empty or absent.
    ///
    /// # Errors
    /// Something is damaged, missing, newer than this version, or in use; nothing is changed then.
    pub async fn open(folder: &Path, clock: Arc<dyn Clock>) -> std::result::Result<Self, OpenError> {
        let (path, for_open) = (folder.to_owned(), Arc::clone(&clock));
        let opened = tokio::task::spawn_blocking(move || Self::open_blocking(&path, for_open)).await;
        let store = opened.map_err(|ended| OpenError::io(folder)(io::Error::other(ended)))??;
        match store.sqlite.void_leases().await {
            Err(error) if store.broken().is_none() => Err(OpenError::io(folder)(io::Error::other(error))),
            _ => Ok(store),
        }
    }

    fn open_blocking(folder: &Path, clock: Arc<dyn Clock>) -> std::result::Result<Self, OpenError> {
        let _ = fs::create_dir_all(folder);
        let read_only = is_read_only(folder)?;
        let lock = lock(folder, read_only)?;
        let marked = read_mark(&folder.join(MARK))?.is_some();
        let fresh = !marked && is_unused(folder)?;
        let files = Files::open(&folder.join(BLOBS), read_only)?;
        let sqlite = Sqlite::open(folder, fresh, lock, Arc::clone(&clock))?;
        if !marked && !read_only {
            write_mark(&folder.join(MARK), clock.wall_ms())?;
        }
        let (sqlite, files) = (Arc::new(sqlite), Arc::new(files));
        Ok(Self { folder: folder.to_owned(), sqlite, files, clock })
    }

    /// Records.
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.sqlite) as _
    }

    /// Queues.
    pub fn jobs(&self) -> Arc<dyn Jobs> {
        Arc::clone(&self.sqlite) as _
    }

    /// Books.
    pub fn journal(&self) -> Arc<dyn Journal> {
        Arc::clone(&self.sqlite) as _
    }

    /// Functions' state.
    pub fn state(&self) -> Arc<dyn StateStore> {
        Arc::clone(&self.sqlite) as _
    }

    /// Bytes.
    pub fn blobs(&self) -> Arc<dyn Blobs> {
        Arc::clone(&self.files) as _
    }

    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Why nothing is written any more, where that is so: for health.
    pub fn broken(&self) -> Option<String> {
        self.sqlite.broken().or_else(|| self.files.broken())
    }

    /// Removes blobs that no record names and that were stored longer ago than `age`. `age` must be longer than any
    /// deployment takes between its last blob and its record.
    ///
    /// # Errors
    /// As of the registry and the blobs.
    pub async fn collect(&self, age: Duration) -> Result<Collected> {
        let keep: Vec<Digest> = self.referenced().await?.into_iter().collect();
        let removed = self.files.delete_unreferenced(&keep, age).await?;
        let (_, kept) = self.files.usage().await?;
        Ok(Collected { removed, kept })
    }

    /// Every SHA-256 that a record names, whatever for.
    async fn referenced(&self) -> Result<BTreeSet<Digest>> {
        let (mut found, mut after) = (BTreeSet::new(), None::<String>);
        loop {
            let page = self.sqlite.list("", after.as_deref(), PAGE).await?;
            page.iter().for_each(|record| digests_in(&record.value, &mut found));
            match page.last() {
                Some(last) => after = Some(last.key.clone()),
                None => return Ok(found),
            }
        }
    }

    /// Checks everything: both databases and the bytes of every blob, those that records name and that are not there
    /// included. A damaged blob loses its name.
    ///
    /// # Errors
    /// The store could not be read at all.
    pub async fn check(&self) -> std::result::Result<Checked, OpenError> {
        let unread = |error: StoreError| OpenError::io(&self.folder)(io::Error::other(error));
        let functions = self.functions_blobs().await.map_err(unread)?;
        let (sqlite, files, folder) =
            (Arc::clone(&self.sqlite), Arc::clone(&self.files), self.folder.clone());
        let checked = tokio::task::spawn_blocking(move || check(&sqlite, &files, &folder, &functions)).await;
        checked.map_err(|ended| OpenError::io(&self.folder)(io::Error::other(ended)))?
    }

    /// Blobs that functions cannot do without.
    async fn functions_blobs(&self) -> Result<BTreeSet<Digest>> {
        let (mut found, mut after) = (BTreeSet::new(), None::<String>);
        loop {
            let page = self.sqlite.list("function/", after.as_deref(), PAGE).await?;
            for record in &page {
                // What does not read as a function is the catalog's business.
                let function = serde_json::from_value::<crate::records::Function>(record.value.clone());
                for generation in function.into_iter().flat_map(|function| function.generations) {
                    found.extend(
                        generation.adapters.into_iter().flat_map(|adapter| adapter.files.into_values()),
                    );
                    found.extend(generation.module.map(|module| module.digest));
                }
            }
            match page.last() {
                Some(last) => after = Some(last.key.clone()),
                None => return Ok(found),
            }
        }
    }

    /// Copies the store into a new folder while it is at work: each database as of one moment, then every blob, checked
    /// on the way. Blobs are stored before records name them, so none is missing.
    ///
    /// # Errors
    /// The folder is not empty, the disk refuses, a blob is damaged.
    pub async fn backup(&self, target: &Path) -> std::result::Result<(), OpenError> {
        let (sqlite, files) = (Arc::clone(&self.sqlite), Arc::clone(&self.files));
        let (target, made_ms) = (target.to_owned(), self.clock.wall_ms());
        let at = target.clone();
        let copied = tokio::task::spawn_blocking(move || backup(&sqlite, &files, &target, made_ms)).await;
        copied.map_err(|ended| OpenError::io(&at)(io::Error::other(ended)))?
    }

    /// Makes a store of a backup, in a new folder. Everything is checked first.
    ///
    /// # Errors
    /// The backup is incomplete or damaged, the folder is not empty, the disk refuses.
    pub fn restore(backup: &Path, target: &Path) -> std::result::Result<(), OpenError> {
        let no_backup = |problem: String| OpenError::NoBackup { path: backup.to_owned(), problem };
        let mark = read_mark(&backup.join(BACKUP))?;
        let mark = mark.ok_or_else(|| no_backup(format!("{BACKUP} is missing")))?;
        sqlite::check_folder(backup)?;
        let draft = draft_of(target)?;
        for file in [sqlite::REGISTRY, sqlite::JOURNAL] {
            copy(&backup.join(file), &draft.join(file))?;
        }
        let source = Files::open(&backup.join(BLOBS), true)?;
        copy_blobs(&source, &backup.join(BLOBS), &draft.join(BLOBS))?;
        write_mark(&draft.join(MARK), mark.made_ms)?;
        finish(&draft, target)
    }
}

/// Every SHA-256 in a record.
fn digests_in(value: &Value, found: &mut BTreeSet<Digest>) {
    match value {
        Value::String(text) if rules::is_digest(text) => {
            found.insert(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| digests_in(value, found)),
        Value::Object(values) => values.values().for_each(|value| digests_in(value, found)),
        _ => {}
    }
}

fn is_read_only(folder: &Path) -> std::result::Result<bool, OpenError> {
    match tempfile::tempfile_in(folder) {
        Ok(_) => Ok(false),
        Err(error) => match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Ok(true),
            // A full disk takes no new file, yet what is there can be written once there is room.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(false),
            _ => Err(OpenError::io(folder)(error)),
        },
    }
}

/// Holds the folder for this process; nobody needs to hold what nobody can write.
fn lock(folder: &Path, read_only: bool) -> std::result::Result<Option<File>, OpenError> {
    if read_only {
        return Ok(None);
    }
    let path = folder.join(LOCK);
    let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(OpenError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::InUse(folder.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(OpenError::io(&path)(error)),
    }
}

/// Whether a store may be made here: nothing of one is there, or only what a first start left that did not finish.
fn is_unused(folder: &Path) -> std::result::Result<bool, OpenError> {
    if folder.join(sqlite::REGISTRY).exists() {
        return Ok(false);
    }
    let blobs = folder.join(BLOBS);
    match fs::read_dir(&blobs) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(OpenError::io(&blobs)(error)),
    }
}

fn read_mark(path: &Path) -> std::result::Result<Option<Mark>, OpenError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.map_err(OpenError::io(path))?,
    };
    let mark: Mark =
        serde_json::from_str(&text).map_err(|error| OpenError::corrupt(path, error.to_string()))?;
    if mark.format > FORMAT {
        let (found, known) = (mark.format.into(), FORMAT.into());
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    Ok(Some(mark))
}

/// Writes a mark whole or not at all.
fn write_mark(path: &Path, made_ms: u64) -> std::result::Result<(), OpenError> {
    let text = serde_json::to_string_pretty(&Mark { format: FORMAT, made_ms }).expect("numbers are JSON");
    let draft = path.with_extension("new");
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_parent(path)
    };
    write().map_err(OpenError::io(path))
}

fn check(
    sqlite: &Sqlite,
    files: &Files,
    folder: &Path,
    functions: &BTreeSet<Digest>,
) -> std::result::Result<Checked, OpenError> {
    let mut problems = sqlite.check()?;
    let (mut blobs, mut blob_bytes) = (0, 0);
    let there: BTreeSet<Digest> = files.digests().map_err(OpenError::io(folder))?.into_iter().collect();
    for digest in &there {
        match files.verified(digest) {
            Ok(file) => {
                blobs += 1;
                blob_bytes += file.bytes;
            }
            Err(error) => problems.push(format!("blob {digest}: {error}")),
        }
    }
    let missing = functions.difference(&there);
    problems.extend(missing.map(|digest| format!("blob {digest} is missing though a function needs it")));
    Ok(Checked { problems, blobs, blob_bytes })
}

/// A folder beside `target` that becomes it once it is whole.
fn draft_of(target: &Path) -> std::result::Result<PathBuf, OpenError> {
    match fs::remove_dir(target) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            return Err(OpenError::NotEmpty(target.to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(OpenError::io(target)(error)),
    }
    let mut name = target.as_os_str().to_owned();
    name.push(".partial");
    let draft = PathBuf::from(name);
    if draft.exists() {
        fs::remove_dir_all(&draft).map_err(OpenError::io(&draft))?;
    }
    fs::create_dir_all(draft.join(BLOBS)).map_err(OpenError::io(&draft))?;
    Ok(draft)
}

fn finish(draft: &Path, target: &Path) -> std::result::Result<(), OpenError> {
    fs::rename(draft, target).and_then(|()| sync_parent(target)).map_err(OpenError::io(target))
}

fn copy(from: &Path, to: &Path) -> std::result::Result<(), OpenError> {
    let copied = fs::copy(from, to).and_then(|_| File::open(to)).and_then(|file| file.sync_all());
    copied.map_err(OpenError::io(to))
}

fn backup(sqlite: &Sqlite, files: &Files, target: &Path, made_ms: u64) -> std::result::Result<(), OpenError> {
    let draft = draft_of(target)?;
    sqlite.copy_to(&draft)?;
    copy_blobs(files, &draft, &draft.join(BLOBS))?;
    write_mark(&draft.join(BACKUP), made_ms)?;
    finish(&draft, target)
}

/// Copies all blobs, each checked before it is copied. `shown` is where an error belongs.
fn copy_blobs(files: &Files, shown: &Path, target: &Path) -> std::result::Result<(), OpenError> {
    for digest in files.digests().map_err(OpenError::io(shown))? {
        let file = match files.verified(&digest) {
            Ok(file) => file,
            // Collected meanwhile: no record named it.
            Err(StoreError::Rejected(super::Rejected::Absent(_))) => continue,
            Err(error) => return Err(OpenError::corrupt(shown, format!("blob {digest}: {error}"))),
        };
        let to = target.join(place(&digest));
        let shelf = to.parent().expect("a blob lies on a shelf");
        fs::create_dir_all(shelf).map_err(OpenError::io(shelf))?;
        copy(&file.path, &to)?;
        sync_parent(&to).map_err(OpenError::io(&to))?;
    }
    Ok(())
}
