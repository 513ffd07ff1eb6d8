//! The number of the last acknowledged commit, beside its database.
//!
//! SQLite takes a lost or damaged write-ahead log for an empty one and silently forgets what was in it. This file is
//! written after each commit and before its acknowledgement, so that such a database is refused at the next start. It is
//! not synced: after a power cut it may be older than the database, never newer.

use sha2::{Digest as _, Sha256};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// The file, open for writing.
pub(super) struct Acked {
    file: File,
}

/// Where it lies.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-acked");
    name.into()
}

/// One line of fixed length: the number and a check of it, so that a torn write is known as one.
fn line(commits: u64) -> String {
    let number = format!("{commits:020}");
    let check = super::super::rules::hex(&Sha256::digest(number.as_bytes())[..8]);
    format!("{number} {check}\n")
}

/// The number that was acknowledged last; `None` where there is no file or it was torn.
pub(super) fn read(database: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path_of(database)).ok()?;
    let commits: u64 = text.get(..20)?.parse().ok()?;
    (text == line(commits)).then_some(commits)
}

impl Acked {
    /// Opens it, made where it is not there.
    pub fn open(database: &Path) -> io::Result<Self> {
        let options = OpenOptions::new().write(true).create(true).truncate(false).open(path_of(database));
        Ok(Self { file: options? })
    }

    /// Notes a commit. On a disk that takes nothing the note stays behind, which only makes the check weaker.
    pub fn note(&self, commits: u64) -> io::Result<()> {
        self.file.write_all_at(line(commits).as_bytes(), 0)
    }
}
