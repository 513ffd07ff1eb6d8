//! What SQLite's errors mean for whoever asked: refused, unknown or unavailable, and whether the database may still be
//! written.
//!
//! After a failed sync nobody knows what is on the disk, and a second sync that succeeds proves nothing: from then on
//! the database is only read.

use super::super::{Rejected, StoreError};
use rusqlite::ErrorCode;
use rusqlite::ffi;

/// Why a piece of work did not go through.
#[derive(Debug)]
pub(super) enum Fault {
    /// The work was wrong; the database is as it was.
    Refused(StoreError),
    /// The database was.
    Broken(rusqlite::Error),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

impl From<Rejected> for Fault {
    fn from(why: Rejected) -> Self {
        Self::Refused(StoreError::Rejected(why))
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Broken(error)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(error) => error,
            Fault::Broken(error) => translate(&error),
        }
    }
}

/// Whether what the disk holds is no longer known.
pub(super) fn is_fatal(error: &rusqlite::Error) -> bool {
    let fatal = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    error.sqlite_error().is_some_and(|inner| {
        fatal.contains(&inner.extended_code) || matches!(inner.code, ErrorCode::DatabaseCorrupt)
    })
}

/// The error in the terms of a store.
pub(super) fn translate(error: &rusqlite::Error) -> StoreError {
    let Some(code) = error.sqlite_error_code() else {
        return StoreError::Unavailable(format!("{error}; if it stays, run `coldframe host check`"));
    };
    if is_fatal(error) {
        return StoreError::Unknown(format!("{error}; the store is read-only until it is started again"));
    }
    StoreError::Unavailable(match code {
        ErrorCode::DiskFull => "the disk is full: free space and try again; reads go on".to_owned(),
        ErrorCode::ReadOnly => {
            "the disk is read-only: make it writable and start again; reads go on".to_owned()
        }
        ErrorCode::SystemIoFailure => {
            format!(
                "the disk refuses to be written ({error}): free space or check it, then try again; reads go on"
            )
        }
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            "another process holds the database: end it and try again".to_owned()
        }
        _ => format!("{error}; if it stays, run `coldframe host check`"),
    })
}
