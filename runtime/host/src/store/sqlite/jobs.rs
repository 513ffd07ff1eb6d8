//! Jobs in SQLite: leases with fencing tokens, a few attempts, then dead.
//!
//! Leases run on the clock that never goes back. Whoever held one when the process ended is gone, so at every start all
//! leases are void and all jobs due; attempts and tokens stay.

use super::super::rules::{self, ATTEMPTS_MAX};
use super::super::{Job, Jobs, Leased, Rejected, Result, StoreError};
use super::faults::Fault;
use super::registry::{recall, remember};
use super::{Sqlite, signed, unsigned};
use crate::call::Later;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use serde_json::Value;
use std::time::Duration;

type Outcome<T> = std::result::Result<T, Fault>;

/// `state` of a job that can be leased once it is due.
const READY: i64 = 0;
/// `state` of a job that someone holds until it is due.
const LEASED: i64 = 1;
/// `state` of a job that is not tried again.
const DEAD: i64 = 2;

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

fn payload(row: &Row<'_>) -> rusqlite::Result<Value> {
    let text: String = row.get("payload")?;
    serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })
}

fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let id: i64 = row.get("id")?;
    Ok(Job { id: unsigned(id), payload: payload(row)?, attempts: row.get("attempts")? })
}

fn enqueue(connection: &Connection, queue: &str, text: &str, idem: &str, now: (i64, u64)) -> Outcome<u64> {
    let (now_ns, now_ms) = now;
    let scope = format!("queue/{queue}");
    let fingerprint = rules::fingerprint(&["enqueue", queue, text]);
    if let Some(before) = recall(connection, &scope, idem, &fingerprint)? {
        return Ok(before);
    }
    let sql = "INSERT INTO queue (name, next) VALUES (?1, 2) \
               ON CONFLICT (name) DO UPDATE SET next = next + 1 RETURNING next - 1";
    let id: i64 = connection.prepare_cached(sql)?.query_row([queue], |row| row.get(0))?;
    let sql = "INSERT INTO job (queue, id, payload, attempts, token, state, due_ns) \
               VALUES (?1, ?2, ?3, 0, 0, ?4, ?5)";
    connection.prepare_cached(sql)?.execute(params![queue, id, text, READY, now_ns])?;
    remember(connection, &scope, idem, &fingerprint, unsigned(id), now_ms)?;
    Ok(unsigned(id))
}

/// Leases that ran out with the last attempt: dead.
fn bury(connection: &Connection, queue: &str, now: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE job SET state = ?1 WHERE queue = ?2 AND state = ?3 AND due_ns <= ?4 AND attempts >= ?5";
    let values = params![DEAD, queue, LEASED, now, ATTEMPTS_MAX];
    connection.prepare_cached(sql)?.execute(values).map(|_| ())
}

fn lease(connection: &Connection, queue: &str, n: usize, now: i64, until: i64) -> Outcome<Vec<Leased>> {
    bury(connection, queue, now)?;
    let sql = "UPDATE job SET state = ?1, due_ns = ?2, attempts = attempts + 1, token = token + 1 \
               WHERE queue = ?3 AND id IN (SELECT id FROM job WHERE queue = ?3 AND state IN (?4, ?1) \
               AND due_ns <= ?5 ORDER BY id LIMIT ?6) RETURNING id, payload, attempts, token";
    let mut statement = connection.prepare_cached(sql)?;
    let values = params![LEASED, until, queue, READY, now, i64::try_from(n).unwrap_or(i64::MAX)];
    let rows = statement.query_map(values, |row| {
        let token: i64 = row.get("token")?;
        Ok(Leased { job: job(row)?, queue: queue.to_owned(), token: unsigned(token) })
    })?;
    let mut leased = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    leased.sort_by_key(|leased| leased.job.id);
    Ok(leased)
}

/// Attempts of a job that is still held with this token.
fn held(connection: &Connection, leased: &Leased) -> Outcome<u32> {
    let sql = "SELECT attempts FROM job WHERE queue = ?1 AND id = ?2 AND token = ?3 AND state = ?4";
    let values = params![leased.queue, signed(leased.job.id), signed(leased.token), LEASED];
    let attempts = connection.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
    attempts.ok_or_else(|| Rejected::LeaseLost.into())
}

fn set(connection: &Connection, leased: &Leased, state: i64, due: i64) -> Outcome<()> {
    let sql = "UPDATE job SET state = ?1, due_ns = ?2 WHERE queue = ?3 AND id = ?4";
    let values = params![state, due, leased.queue, signed(leased.job.id)];
    connection.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

fn ack(connection: &Connection, leased: &Leased) -> Outcome<()> {
    held(connection, leased)?;
    let sql = "DELETE FROM job WHERE queue = ?1 AND id = ?2";
    connection.prepare_cached(sql)?.execute(params![leased.queue, signed(leased.job.id)])?;
    Ok(())
}

fn nack(connection: &Connection, leased: &Leased, due: i64) -> Outcome<()> {
    let state = if held(connection, leased)? >= ATTEMPTS_MAX { DEAD } else { READY };
    set(connection, leased, state, due)
}

fn dead(connection: &Connection, queue: &str, now: i64) -> Outcome<Vec<Job>> {
    bury(connection, queue, now)?;
    let sql = "SELECT id, payload, attempts FROM job WHERE queue = ?1 AND state = ?2 ORDER BY id";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![queue, DEAD], job)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

impl Sqlite {
    /// Voids the leases of the process before this one.
    pub(in super::super) async fn void_leases(&self) -> Result<()> {
        let sql = "UPDATE job SET due_ns = 0, state = ?1 WHERE state <> ?2 AND (state = ?3 OR due_ns <> 0)";
        let work = move |connection: &Connection| -> Outcome<()> {
            connection.execute(
                "UPDATE job SET state = ?1 WHERE state = ?2 AND attempts >= ?3",
                params![DEAD, LEASED, ATTEMPTS_MAX],
            )?;
            connection.execute(sql, params![READY, DEAD, LEASED])?;
            Ok(())
        };
        self.registry.writer()?.write(move |session| work(session.connection)).await
    }

    fn now(&self) -> i64 {
        nanoseconds(self.clock.monotonic())
    }

    fn in_(&self, later: Duration) -> i64 {
        self.now().saturating_add(nanoseconds(later))
    }
}

impl Jobs for Sqlite {
    fn enqueue<'a>(&'a self, queue: &'a str, payload: Value, idem: &'a str) -> Later<'a, Result<u64>> {
        Box::pin(async move {
            rules::check_queue(queue)?;
            rules::check_idempotency(idem)?;
            let (queue, text, idem) = (queue.to_owned(), rules::to_text(&payload)?, idem.to_owned());
            let now = (self.now(), self.clock.wall_ms());
            let work = move |connection: &Connection| enqueue(connection, &queue, &text, &idem, now);
            self.registry.writer()?.write(move |session| work(session.connection)).await
        })
    }

    fn lease<'a>(&'a self, queue: &'a str, n: usize, ttl: Duration) -> Later<'a, Result<Vec<Leased>>> {
        Box::pin(async move {
            rules::check_queue(queue)?;
            let (queue, now, until) = (queue.to_owned(), self.now(), self.in_(ttl));
            let work = move |connection: &Connection| lease(connection, &queue, n, now, until);
            self.registry.writer()?.write(move |session| work(session.connection)).await
        })
    }

    fn extend<'a>(&'a self, leased: &'a Leased, ttl: Duration) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let (leased, until) = (leased.clone(), self.in_(ttl));
            let work = move |connection: &Connection| {
                held(connection, &leased)?;
                set(connection, &leased, LEASED, until)
            };
            self.registry.writer()?.write(move |session| work(session.connection)).await
        })
    }

    fn ack<'a>(&'a self, leased: &'a Leased) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let leased = leased.clone();
            self.registry.writer()?.write(move |session| ack(session.connection, &leased)).await
        })
    }

    fn nack<'a>(&'a self, leased: &'a Leased, after: Duration) -> Later<'a, Result<()>> {
        Box::pin(async move {
            let (leased, due) = (leased.clone(), self.in_(after));
            self.registry.writer()?.write(move |session| nack(session.connection, &leased, due)).await
        })
    }

    fn dead<'a>(&'a self, queue: &'a str) -> Later<'a, Result<Vec<Job>>> {
        Box::pin(async move {
            rules::check_queue(queue)?;
            let (queue, now) = (queue.to_owned(), self.now());
            match self.registry.writer() {
                Ok(writer) => writer.write(move |session| dead(session.connection, &queue, now)).await,
                Err(error) => Err::<Vec<Job>, StoreError>(error),
            }
        })
    }
}
