//! The embedded back end: two SQLite databases in WAL mode with full sync, one writer thread for each.
//!
//! `registry.db` holds records, idempotency keys and jobs and is checked whole at every start; `journal.db` holds the
//! books and the functions' state, which grow. Writes that come within two milliseconds share a commit. This folder is
//! the only place that knows SQLite; it knows no blobs and no records' meaning.

mod acked;
mod database;
mod faults;
mod jobs;
mod journal;
mod readers;
mod registry;
mod schema;
mod seal;
mod state;
mod writer;

use super::OpenError;
use super::clock::Clock;
use database::Database;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// File of records, idempotency keys and jobs.
pub(super) const REGISTRY: &str = "registry.db";
/// File of the books and the functions' state.
pub(super) const JOURNAL: &str = "journal.db";

/// Records, jobs, books and state in a folder.
pub struct Sqlite {
    registry: Database,
    journal: Database,
    clock: Arc<dyn Clock>,
    /// Keeps other processes out. Last, so that it goes after the databases are closed.
    _lock: Option<File>,
}

impl Sqlite {
    /// Opens what is there, read-only without the folder's lock; makes databases where `fresh` says that none were ever
    /// made.
    pub(super) fn open(
        folder: &Path,
        fresh: bool,
        lock: Option<File>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let open = |schema| Database::open(folder, schema, fresh, lock.is_none());
        let journal = open(&schema::JOURNAL)?;
        let registry = open(&schema::REGISTRY)?;
        Ok(Self { registry, journal, clock, _lock: lock })
    }

    /// Why nothing is written any more, where that is so.
    pub(super) fn broken(&self) -> Option<String> {
        self.registry.broken().or_else(|| self.journal.broken())
    }

    /// Copies both databases, each as it stands at one moment, into a folder.
    pub(super) fn copy_to(&self, folder: &Path) -> Result<(), OpenError> {
        self.registry.copy_to(&folder.join(REGISTRY))?;
        self.journal.copy_to(&folder.join(JOURNAL))
    }

    /// Checks both databases whole; what is wrong, in words.
    pub(super) fn check(&self) -> Result<Vec<String>, OpenError> {
        let mut problems = self.registry.problems()?;
        problems.extend(self.journal.problems()?);
        Ok(problems)
    }
}

/// Checks the databases of a folder that nobody has open, such as a backup.
pub(super) fn check_folder(folder: &Path) -> Result<(), OpenError> {
    for schema in [&schema::REGISTRY, &schema::JOURNAL] {
        database::check_file(&folder.join(schema.file), schema)?;
    }
    Ok(())
}

/// A number for a column; SQLite's integers have a sign.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number from a column that holds none below zero.
fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
