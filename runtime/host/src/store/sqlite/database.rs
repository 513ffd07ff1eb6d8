//! One database: made whole or not at all, opened only when it is what it should be, read by many, written by one.
//!
//! A damaged, foreign, newer or partly lost file is refused with the reason. It knows no table but `meta`.

use super::super::{OpenError, Result, StoreError};
use super::acked::{self, Acked};
use super::readers::Readers;
use super::schema::{APPLICATION_ID, Schema};
use super::writer::Writer;
use super::{seal, unsigned};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a lock of another process is waited for.
const BUSY: Duration = Duration::from_secs(5);

/// A database at work.
pub(super) struct Database {
    schema: &'static Schema,
    /// Readers.
    pub readers: Readers,
    writer: Option<Writer>,
}

impl Database {
    /// Opens or, where none was ever made, makes it.
    pub fn open(
        folder: &Path,
        schema: &'static Schema,
        fresh: bool,
        read_only: bool,
    ) -> std::result::Result<Self, OpenError> {
        let path = folder.join(schema.file);
        if !path.exists() {
            if !fresh || read_only {
                return Err(OpenError::Missing(path));
            }
            make(&path, schema)?;
        }
        if fs::metadata(&path).map_err(OpenError::io(&path))?.len() == 0 {
            return Err(OpenError::corrupt(&path, "the file is empty"));
        }
        if read_only {
            return Self::open_frozen(&path, schema);
        }
        let mut connection = connect(&path)?;
        verify(&connection, &path, schema)?;
        migrate(&mut connection, schema).map_err(at(&path))?;
        let readers = Readers::new(&path, false);
        let acked = Acked::open(&path).map_err(OpenError::io(&acked::path_of(&path)))?;
        let writer = Writer::start(connection, acked, path.clone()).map_err(OpenError::io(&path))?;
        Ok(Self { schema, readers, writer: Some(writer) })
    }

    /// On a disk that takes no writes. Without a log the file is all there is and needs no locks.
    fn open_frozen(path: &Path, schema: &'static Schema) -> std::result::Result<Self, OpenError> {
        let log = fs::metadata(log_of(path)).map_or(0, |log| log.len());
        let readers = Readers::new(path, log == 0);
        let connection = readers.connect().map_err(at(path))?;
        verify(&connection, path, schema)?;
        Ok(Self { schema, readers, writer: None })
    }

    /// The writer, where there is one.
    pub fn writer(&self) -> Result<&Writer> {
        self.writer.as_ref().ok_or_else(|| StoreError::Unavailable(READ_ONLY.to_owned()))
    }

    /// Why nothing is written, where that is so.
    pub fn broken(&self) -> Option<String> {
        self.writer.as_ref().map_or_else(|| Some(READ_ONLY.to_owned()), Writer::broken)
    }

    /// A copy as of one moment; writers go on meanwhile.
    pub fn copy_to(&self, target: &Path) -> std::result::Result<(), OpenError> {
        let source = self.readers.connect().map_err(at(self.readers.path()))?;
        let mut copy = Connection::open(target).map_err(at(target))?;
        let outcome = Backup::new(&source, &mut copy).and_then(|backup| {
            loop {
                match backup.step(-1)? {
                    StepResult::Done => return Ok(()),
                    _ => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        outcome.map_err(at(target))?;
        // The copy has no log yet; as a plain file it can be hashed and moved.
        copy.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(())).map_err(at(target))?;
        drop(copy);
        File::open(target).and_then(|file| file.sync_all()).map_err(OpenError::io(target))
    }

    /// What is wrong with it, in words.
    pub fn problems(&self) -> std::result::Result<Vec<String>, OpenError> {
        let path = self.readers.path();
        let connection = self.readers.connect().map_err(at(path))?;
        let found = problem(&connection, self.schema, true).map_err(at(path))?;
        Ok(found.into_iter().map(|problem| format!("{}: {problem}", path.display())).collect())
    }
}

const READ_ONLY: &str = "the disk is read-only: make it writable and start again; reads go on";

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// An error of SQLite while opening, in terms of the file.
fn at(path: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    move |error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign(path.clone()),
        Some(ErrorCode::DatabaseCorrupt) | None => OpenError::corrupt(&path, error.to_string()),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::InUse(path.clone()),
        Some(_) => OpenError::Io { path: path.clone(), problem: error.to_string() },
    }
}

fn connect(path: &Path) -> std::result::Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(at(path))?;
    configure(&connection).map_err(at(path))?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // The writer moves the log itself, so that a failure there is not taken for a failed commit.
    connection.pragma_update(None, "wal_autocheckpoint", 0)
}

/// Makes a database under another name and gives it its own when it is whole.
fn make(path: &Path, schema: &'static Schema) -> std::result::Result<(), OpenError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = PathBuf::from(name);
    for rest in [draft.clone(), log_of(&draft), acked::path_of(path)] {
        match fs::remove_file(&rest) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(OpenError::io(&rest)(error));
            }
            _ => {}
        }
    }
    let mut connection = Connection::open(&draft).map_err(at(&draft))?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(at(&draft))?;
    migrate(&mut connection, schema).map_err(at(&draft))?;
    drop(connection);
    File::open(&draft).and_then(|file| file.sync_all()).map_err(OpenError::io(&draft))?;
    fs::rename(&draft, path).map_err(OpenError::io(path))?;
    super::super::files::sync_parent(path).map_err(OpenError::io(path))
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get(0))
}

/// Refuses a database that is not whole, not ours or not of this time.
fn verify(connection: &Connection, path: &Path, schema: &Schema) -> std::result::Result<(), OpenError> {
    if number(connection, "application_id").map_err(at(path))? != APPLICATION_ID {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    let found = number(connection, "user_version").map_err(at(path))?;
    if found > schema.version() {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: schema.version() });
    }
    let commits: i64 = connection
        .query_row("SELECT number FROM meta WHERE name = 'commits'", [], |row| row.get(0))
        .map_err(at(path))?;
    let (found, acknowledged) = (unsigned(commits), acked::read(path).unwrap_or(0));
    if found < acknowledged {
        return Err(OpenError::Behind { path: path.to_owned(), found, acknowledged });
    }
    let bytes = fs::metadata(path).map_err(OpenError::io(path))?.len();
    match problem(connection, schema, bytes <= schema.checked_bytes_max).map_err(at(path))? {
        Some(problem) => Err(OpenError::corrupt(path, problem)),
        None => Ok(()),
    }
}

/// What is wrong, in words; `whole` looks at everything, which takes a while where there is much.
fn problem(connection: &Connection, schema: &Schema, whole: bool) -> rusqlite::Result<Option<String>> {
    if whole {
        let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if verdict != "ok" {
            return Ok(Some(verdict));
        }
    }
    match schema.file {
        super::REGISTRY => seal::problem(connection),
        _ => Ok(None),
    }
}

/// Checks a database that nobody has open.
pub(super) fn check_file(path: &Path, schema: &'static Schema) -> std::result::Result<(), OpenError> {
    if !path.exists() {
        return Err(OpenError::Missing(path.to_owned()));
    }
    let connection = Readers::new(path, true).connect().map_err(at(path))?;
    verify(&connection, path, schema)?;
    match problem(&connection, schema, true).map_err(at(path))? {
        Some(problem) => Err(OpenError::corrupt(path, problem)),
        None => Ok(()),
    }
}

fn migrate(connection: &mut Connection, schema: &Schema) -> rusqlite::Result<()> {
    let found = usize::try_from(number(connection, "user_version")?).unwrap_or(0);
    if found >= schema.migrations.len() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for migration in &schema.migrations[found..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", schema.version())?;
    transaction.commit()
}
