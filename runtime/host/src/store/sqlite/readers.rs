//! Connections that only read: one for each read at work, kept for the next.
//!
//! In WAL mode they neither wait for the writer nor make it wait, and they go on when nothing can be written.

use super::super::{Result, StoreError};
use super::faults::Fault;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Connections kept for the next reads. Arbitrary: about the reads that are ever at work at once.
const KEPT: usize = 8;
/// Pages a reader keeps, KiB.
const CACHE_KIB: i64 = 4_096;

/// How a database is read.
#[derive(Debug, Clone)]
pub(super) struct Readers {
    target: String,
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => {
                text.push(char::from(*byte))
            }
            other => text.push_str(&format!("%{other:02X}")),
        }
        text
    })
}

impl Readers {
    /// Readers of a database. `frozen` says that nobody can write it, so that no lock and no log is needed.
    pub fn new(path: &Path, frozen: bool) -> Self {
        let tail = if frozen { "?immutable=1" } else { "?mode=ro" };
        let target = format!("file:{}{tail}", escaped(path));
        Self { target, path: path.to_owned(), idle: Arc::default() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A connection for one reader.
    pub fn connect(&self) -> rusqlite::Result<Connection> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = kept {
            return Ok(connection);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let connection = Connection::open_with_flags(&self.target, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        Ok(connection)
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
    }

    /// Reads off the async threads.
    pub async fn read<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> std::result::Result<T, Fault> + Send + 'static,
    {
        let readers = self.clone();
        let at_work = tokio::task::spawn_blocking(move || {
            let connection = readers.connect().map_err(Fault::from)?;
            let outcome = work(&connection);
            readers.keep(connection);
            outcome
        });
        match at_work.await {
            Ok(outcome) => outcome.map_err(StoreError::from),
            Err(ended) => Err(StoreError::Unavailable(format!("the read ended early: {ended}"))),
        }
    }
}
