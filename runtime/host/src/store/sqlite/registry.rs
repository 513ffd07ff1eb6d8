//! Records in SQLite: compare-and-swap, idempotency, history for watchers.
//!
//! Reads go to reader connections and see every acknowledged change, so all of them are fresh.

use super::super::rules::{self, HISTORY, IDEMPOTENCY_DAYS};
use super::super::{Change, Expect, Key, Read, Registry, Rejected, Result, Revision, StoreError, Versioned};
use super::faults::Fault;
use super::writer::Session;
use super::{Sqlite, seal, signed, unsigned};
use crate::call::Later;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;
use tokio::sync::mpsc;

/// Days in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

type Outcome<T> = std::result::Result<T, Fault>;

/// A record's row, its JSON still text.
struct Stored {
    key: Key,
    text: String,
    revision: i64,
}

impl Stored {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { key: row.get("key")?, text: row.get("value")?, revision: row.get("revision")? })
    }

    fn digest(&self) -> seal::Seal {
        seal::digest(&self.key, &self.text, self.revision)
    }

    fn versioned(self) -> Outcome<Versioned> {
        let value = serde_json::from_str(&self.text).map_err(|error| {
            let problem = format!("record {} is damaged ({error}): run `coldframe host check`", self.key);
            Fault::Refused(StoreError::Unavailable(problem))
        })?;
        Ok(Versioned { key: self.key, value, revision: unsigned(self.revision) })
    }
}

fn find(connection: &Connection, key: &str) -> rusqlite::Result<Option<Stored>> {
    let sql = "SELECT key, value, revision FROM record WHERE key = ?1";
    connection.prepare_cached(sql)?.query_row([key], Stored::from_row).optional()
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<u64> {
    let sql = "SELECT number FROM meta WHERE name = ?1";
    connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).map(unsigned)
}

/// What this idempotency key did before, where it did the same.
pub(super) fn recall(
    connection: &Connection,
    scope: &str,
    idem: &str,
    fingerprint: &[u8; 32],
) -> Outcome<Option<u64>> {
    let sql = "SELECT fingerprint, result FROM done WHERE scope = ?1 AND idem = ?2";
    let found: Option<(Vec<u8>, i64)> = connection
        .prepare_cached(sql)?
        .query_row([scope, idem], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match found {
        Some((before, _)) if before != fingerprint => Err(Rejected::IdempotencyReused.into()),
        Some((_, result)) => Ok(Some(unsigned(result))),
        None => Ok(None),
    }
}

/// Remembers what an idempotency key did, and forgets what is long past.
pub(super) fn remember(
    connection: &Connection,
    scope: &str,
    idem: &str,
    fingerprint: &[u8; 32],
    result: u64,
    now_ms: u64,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO done (scope, idem, fingerprint, result, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
    let values = params![scope, idem, fingerprint.as_slice(), signed(result), signed(now_ms)];
    connection.prepare_cached(sql)?.execute(values)?;
    let past = signed(now_ms.saturating_sub(IDEMPOTENCY_DAYS * DAY_MS));
    // A few for each new one, so that no commit pays for many.
    let sql = "DELETE FROM done WHERE (scope, idem) IN \
               (SELECT scope, idem FROM done WHERE at_ms < ?1 ORDER BY at_ms LIMIT 4)";
    connection.prepare_cached(sql)?.execute([past]).map(|_| ())
}

/// The next revision, noted in the history; the oldest of which goes.
fn advance(connection: &Connection, key: &str, deleted: bool) -> rusqlite::Result<u64> {
    let sql = "UPDATE meta SET number = number + 1 WHERE name = 'revision' RETURNING number";
    let revision: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    let sql = "INSERT INTO change (revision, key, deleted) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![revision, key, deleted])?;
    let floor = revision - signed(HISTORY);
    if floor > 0 {
        connection.prepare_cached("DELETE FROM change WHERE revision <= ?1")?.execute([floor])?;
        connection.prepare_cached("UPDATE meta SET number = ?1 WHERE name = 'floor'")?.execute([floor])?;
    }
    Ok(unsigned(revision))
}

fn check_expected(key: &str, found: Option<&Stored>, expect: Expect) -> Outcome<()> {
    let found = found.map(|stored| unsigned(stored.revision));
    let holds = match expect {
        Expect::Absent => found.is_none(),
        Expect::At(revision) => found == Some(revision),
    };
    if holds {
        return Ok(());
    }
    Err(Rejected::Conflict { key: key.to_owned(), found }.into())
}

/// A change to make.
struct Put {
    key: Key,
    value: Value,
    text: String,
    expect: Expect,
    idem: String,
    now_ms: u64,
}

impl Put {
    fn run(self, session: &mut Session<'_>) -> Outcome<Revision> {
        let connection = session.connection;
        let fingerprint = rules::fingerprint(&["put", &self.key, &self.text]);
        if let Some(before) = recall(connection, "record", &self.idem, &fingerprint)? {
            return Ok(before);
        }
        let found = find(connection, &self.key)?;
        check_expected(&self.key, found.as_ref(), self.expect)?;
        let revision = advance(connection, &self.key, false)?;
        let new = Stored { key: self.key, text: self.text, revision: signed(revision) };
        let digests: Vec<_> = found.iter().chain([&new]).map(Stored::digest).collect();
        let sql = "INSERT INTO record (key, value, revision, digest) VALUES (?1, ?2, ?3, ?4) \
                   ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3, digest = ?4";
        let digest = new.digest();
        let values = params![new.key, new.text, new.revision, digest.as_slice()];
        connection.prepare_cached(sql)?.execute(values)?;
        seal::toggle(connection, &digests)?;
        remember(connection, "record", &self.idem, &fingerprint, revision, self.now_ms)?;
        session.bytes += new.text.len() as u64;
        session.changes.push(Change::Put(Versioned { key: new.key, value: self.value, revision }));
        Ok(revision)
    }
}

struct Delete {
    key: Key,
    expect: Revision,
    idem: String,
    now_ms: u64,
}

impl Delete {
    fn run(self, session: &mut Session<'_>) -> Outcome<Revision> {
        let connection = session.connection;
        let fingerprint = rules::fingerprint(&["delete", &self.key]);
        if let Some(before) = recall(connection, "record", &self.idem, &fingerprint)? {
            return Ok(before);
        }
        let found = find(connection, &self.key)?;
        check_expected(&self.key, found.as_ref(), Expect::At(self.expect))?;
        let revision = advance(connection, &self.key, true)?;
        connection.prepare_cached("DELETE FROM record WHERE key = ?1")?.execute([&self.key])?;
        seal::toggle(connection, &found.iter().map(Stored::digest).collect::<Vec<_>>())?;
        remember(connection, "record", &self.idem, &fingerprint, revision, self.now_ms)?;
        session.changes.push(Change::Deleted { key: self.key, revision });
        Ok(revision)
    }
}

/// Changes after `from` for a watcher that joins; of several of one record the last. `None`: it must list again.
fn backlog(connection: &Connection, prefix: &str, from: u64) -> rusqlite::Result<Option<Vec<Change>>> {
    if from < meta(connection, "floor")? || from > meta(connection, "revision")? {
        return Ok(None);
    }
    let sql = "SELECT c.revision AS revision, c.key AS key, c.deleted AS deleted, r.value AS value \
               FROM change c LEFT JOIN record r ON r.key = c.key AND r.revision = c.revision \
               WHERE c.revision > ?1 AND c.key >= ?2 AND c.key < ?3 \
                 AND (c.deleted OR r.key IS NOT NULL) ORDER BY c.revision";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![signed(from), prefix, rules::after_prefix(prefix)])?;
    let mut changes = Vec::new();
    while let Some(row) = rows.next()? {
        let (key, revision): (Key, i64) = (row.get("key")?, row.get("revision")?);
        let revision = unsigned(revision);
        if row.get("deleted")? {
            changes.push(Change::Deleted { key, revision });
            continue;
        }
        match serde_json::from_str(&row.get::<_, String>("value")?) {
            Ok(value) => changes.push(Change::Put(Versioned { key, value, revision })),
            // Damaged: whoever watches lists again and meets the error there.
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(changes))
}

impl Registry for Sqlite {
    fn get<'a>(&'a self, key: &'a str, read: Read) -> Later<'a, Result<Option<Versioned>>> {
        Box::pin(async move {
            rules::check_key(key)?;
            let key = key.to_owned();
            let work = move |connection: &Connection| {
                let record = find(connection, &key)?.map(Stored::versioned).transpose()?;
                match read {
                    Read::AtLeast(wanted) if meta(connection, "revision")? < wanted => {
                        let problem = format!("revision {wanted} is not here yet: try again");
                        Err(StoreError::Unavailable(problem).into())
                    }
                    _ => Ok(record),
                }
            };
            self.registry.readers.read(work).await
        })
    }

    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Later<'a, Result<Vec<Versioned>>> {
        Box::pin(async move {
            rules::check_prefix(prefix)?;
            let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
            let work = move |connection: &Connection| {
                let sql = "SELECT key, value, revision FROM record \
                           WHERE key >= ?1 AND key < ?2 AND key > ?3 ORDER BY key LIMIT ?4";
                let mut statement = connection.prepare_cached(sql)?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let values = params![prefix, rules::after_prefix(&prefix), after, limit];
                let rows = statement.query_map(values, Stored::from_row)?;
                rows.map(|row| row.map_err(Fault::from).and_then(Stored::versioned)).collect()
            };
            self.registry.readers.read(work).await
        })
    }

    fn put<'a>(
        &'a self,
        key: &'a str,
        value: Value,
        expect: Expect,
        idem: &'a str,
    ) -> Later<'a, Result<Revision>> {
        Box::pin(async move {
            rules::check_key(key)?;
            rules::check_idempotency(idem)?;
            let (text, now_ms) = (rules::to_text(&value)?, self.clock.wall_ms());
            let put = Put { key: key.to_owned(), value, text, expect, idem: idem.to_owned(), now_ms };
            self.registry.writer()?.write(move |session| put.run(session)).await
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Revision, idem: &'a str) -> Later<'a, Result<Revision>> {
        Box::pin(async move {
            rules::check_key(key)?;
            rules::check_idempotency(idem)?;
            let now_ms = self.clock.wall_ms();
            let delete = Delete { key: key.to_owned(), expect, idem: idem.to_owned(), now_ms };
            self.registry.writer()?.write(move |session| delete.run(session)).await
        })
    }

    fn revision(&self) -> Later<'_, Result<Revision>> {
        Box::pin(self.registry.readers.read(|connection| Ok(meta(connection, "revision")?)))
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Later<'a, Result<mpsc::Receiver<Change>>> {
        Box::pin(async move {
            rules::check_prefix(prefix)?;
            match self.registry.writer() {
                Ok(writer) => writer.watch(prefix.to_owned(), from, backlog).await,
                // Nothing changes on a read-only disk: what is there is all there will be.
                Err(_) => {
                    let prefix = prefix.to_owned();
                    let work = move |connection: &Connection| Ok(backlog(connection, &prefix, from)?);
                    self.registry.readers.read(work).await.map(still)
                }
            }
        })
    }
}

/// A watch that brings a backlog and then nothing, without ending.
fn still(missed: Option<Vec<Change>>) -> mpsc::Receiver<Change> {
    let Some(missed) = missed else { return super::super::hub::lagged() };
    let (sender, receiver) = mpsc::channel(missed.len() + 1);
    for change in missed {
        sender.try_send(change).expect("the queue was made for the backlog");
    }
    tokio::spawn(async move { sender.closed().await });
    receiver
}
