//! Why a store could not be opened: every text says what was found and what to do, and nothing is ever started empty
//! in its place.

use std::path::{Path, PathBuf};

/// Why a store could not be opened, copied or restored.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Made by a later version.
    #[error(
        "{} has schema {found}; this version of Coldframe knows schemas up to {known}: start the version that wrote \
         it, or restore a backup made before the upgrade", path.display()
    )]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest this version knows.
        known: i64,
    },
    /// Damaged.
    #[error(
        "{} is damaged: {problem}; nothing was changed: restore a backup with `coldframe host restore`, or copy what \
         can be read with `sqlite3 {} .recover`", path.display(), path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Not ours.
    #[error("{} is not a Coldframe database: point the data folder elsewhere, or restore a backup", .0.display())]
    Foreign(PathBuf),
    /// Part of the store is gone.
    #[error(
        "{} is missing while other parts of the store are there: put it back or restore a backup; a new store is \
         made only in an empty folder", .0.display()
    )]
    Missing(PathBuf),
    /// What was acknowledged is not there.
    #[error(
        "{} is at commit {found}, but commit {acknowledged} was acknowledged: its write-ahead log ({}-wal) was lost or \
         damaged. Put the log back or restore a backup; if an older copy was put in place on purpose, remove \
         {}-acked", path.display(), path.display(), path.display()
    )]
    Behind {
        /// The database.
        path: PathBuf,
        /// What it holds.
        found: u64,
        /// What was promised.
        acknowledged: u64,
    },
    /// Another process has it.
    #[error("{} is in use by another process: stop it first, or choose another data folder", .0.display())]
    InUse(PathBuf),
    /// A folder that should be empty is not.
    #[error("{} is not empty: choose a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// A backup that is none.
    #[error("{} is no complete backup: {problem}", path.display())]
    NoBackup {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file system refused.
    #[error("{}: {problem}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Why it failed.
        problem: String,
    },
}

impl OpenError {
    /// A failure of the file system at `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, problem: error.to_string() }
    }

    pub(super) fn corrupt(path: &Path, problem: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), problem: problem.into() }
    }
}
