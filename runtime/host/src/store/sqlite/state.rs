//! What functions keep, in SQLite. The size of each function's store is kept beside it, so that the quota costs no scan.

use super::super::Result;
use super::super::state::{StateQuota, StateStore, check, check_quota};
use super::faults::Fault;
use super::writer::Session;
use super::{Sqlite, signed, unsigned};
use crate::call::Later;
use crate::records::Names;
use rusqlite::{Connection, OptionalExtension as _, params};

type Outcome<T> = std::result::Result<T, Fault>;

fn size(connection: &Connection, of: &Names) -> rusqlite::Result<(u64, u64)> {
    let sql = "SELECT keys, bytes FROM state_size WHERE tenant = ?1 AND function = ?2";
    let read = |row: &rusqlite::Row<'_>| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?)));
    let found = connection.prepare_cached(sql)?.query_row([&of.tenant, &of.function], read).optional()?;
    Ok(found.unwrap_or_default())
}

fn set_size(connection: &Connection, of: &Names, keys: u64, bytes: u64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO state_size (tenant, function, keys, bytes) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (tenant, function) DO UPDATE SET keys = ?3, bytes = ?4";
    let values = params![of.tenant, of.function, signed(keys), signed(bytes)];
    connection.prepare_cached(sql)?.execute(values).map(|_| ())
}

/// Bytes that a key and its value count; `None` where it is absent.
fn weight(connection: &Connection, of: &Names, key: &str) -> rusqlite::Result<Option<u64>> {
    let sql = "SELECT length(value) FROM state WHERE tenant = ?1 AND function = ?2 AND key = ?3";
    let length: Option<i64> = connection
        .prepare_cached(sql)?
        .query_row([&of.tenant, &of.function, key], |row| row.get(0))
        .optional()?;
    Ok(length.map(|length| unsigned(length) + key.len() as u64))
}

fn set(session: &mut Session<'_>, of: &Names, key: &str, value: &[u8], quota: StateQuota) -> Outcome<()> {
    let connection = session.connection;
    let ((keys, bytes), before) = (size(connection, of)?, weight(connection, of, key)?);
    let keys = keys + u64::from(before.is_none());
    let bytes = bytes.saturating_sub(before.unwrap_or(0)) + (key.len() + value.len()) as u64;
    check_quota(keys, bytes, quota)?;
    let sql = "INSERT INTO state (tenant, function, key, value) VALUES (?1, ?2, ?3, ?4) \
               ON CONFLICT (tenant, function, key) DO UPDATE SET value = ?4";
    connection.prepare_cached(sql)?.execute(params![of.tenant, of.function, key, value])?;
    session.bytes += value.len() as u64;
    Ok(set_size(connection, of, keys, bytes)?)
}

fn delete(connection: &Connection, of: &Names, key: &str) -> Outcome<()> {
    let Some(weight) = weight(connection, of, key)? else { return Ok(()) };
    let (keys, bytes) = size(connection, of)?;
    let sql = "DELETE FROM state WHERE tenant = ?1 AND function = ?2 AND key = ?3";
    connection.prepare_cached(sql)?.execute([&of.tenant, &of.function, key])?;
    Ok(set_size(connection, of, keys.saturating_sub(1), bytes.saturating_sub(weight))?)
}

fn forget(connection: &Connection, of: &Names) -> Outcome<()> {
    for table in ["state", "state_size"] {
        let sql = format!("DELETE FROM {table} WHERE tenant = ?1 AND function = ?2");
        connection.prepare_cached(&sql)?.execute([&of.tenant, &of.function])?;
    }
    Ok(())
}

impl StateStore for Sqlite {
    fn get<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>>> {
        let (of, key) = (of.clone(), key.to_owned());
        Box::pin(self.journal.readers.read(move |connection| {
            let sql = "SELECT value FROM state WHERE tenant = ?1 AND function = ?2 AND key = ?3";
            let mut statement = connection.prepare_cached(sql)?;
            let found = statement.query_row([&of.tenant, &of.function, &key], |row| row.get(0));
            Ok(found.optional()?)
        }))
    }

    fn set<'a>(
        &'a self,
        of: &'a Names,
        key: &'a str,
        value: Vec<u8>,
        quota: StateQuota,
    ) -> Later<'a, Result<()>> {
        Box::pin(async move {
            check(key, &value, quota)?;
            let (of, key) = (of.clone(), key.to_owned());
            let work = move |session: &mut Session<'_>| set(session, &of, &key, &value, quota);
            self.journal.writer()?.write(work).await
        })
    }

    fn delete<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let (of, key) = (of.clone(), key.to_owned());
            self.journal.writer()?.write(move |session| delete(session.connection, &of, &key)).await
        })
    }

    fn keys<'a>(&'a self, of: &'a Names, prefix: &'a str, limit: usize) -> Later<'a, Result<Vec<String>>> {
        let (of, prefix) = (of.clone(), prefix.to_owned());
        Box::pin(self.journal.readers.read(move |connection| {
            let sql = "SELECT key FROM state WHERE tenant = ?1 AND function = ?2 AND key >= ?3 \
                       AND substr(key, 1, length(?3)) = ?3 ORDER BY key LIMIT ?4";
            let mut statement = connection.prepare_cached(sql)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let rows =
                statement.query_map(params![of.tenant, of.function, prefix, limit], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        }))
    }

    fn forget<'a>(&'a self, of: &'a Names) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let of = of.clone();
            self.journal.writer()?.write(move |session| forget(session.connection, &of)).await
        })
    }
}
