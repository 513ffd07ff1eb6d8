//! The books in SQLite.

use super::super::Result;
use super::super::journal::{Amounts, Book, Entry, Filter, Journal, Page, Row, Sum};
use super::super::rules;
use super::faults::Fault;
use super::writer::Session;
use super::{Sqlite, signed, unsigned};
use crate::call::Later;
use rusqlite::types::Value as Column;
use rusqlite::{Connection, params, params_from_iter};

type Outcome<T> = std::result::Result<T, Fault>;

fn number_of(book: Book) -> i64 {
    match book {
        Book::Ledger => 0,
        Book::Audit => 1,
        Book::Log => 2,
    }
}

fn append(session: &mut Session<'_>, book: Book, rows: &[(Row, String)]) -> Outcome<()> {
    let sql = "INSERT INTO entry (book, name, at_ms, tenant, function, kind, prompt_tokens, completion_tokens, \
               device_ns, nanodollars, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) \
               ON CONFLICT (book, name) DO NOTHING";
    let mut statement = session.connection.prepare_cached(sql)?;
    for (row, payload) in rows {
        let Amounts { prompt_tokens, completion_tokens, device_ns, nanodollars } = row.amounts;
        statement.execute(params![
            number_of(book),
            row.name,
            signed(row.at_ms),
            row.tenant,
            row.function,
            row.kind,
            signed(prompt_tokens),
            signed(completion_tokens),
            signed(device_ns),
            signed(nanodollars),
            payload,
        ])?;
        // Index entries and column values beside the payload, about.
        session.bytes += payload.len() as u64 + 512;
    }
    Ok(())
}

/// Conditions and their values, for `WHERE`.
struct Conditions {
    sql: String,
    values: Vec<Column>,
}

impl Conditions {
    fn new(book: Book, filter: Filter) -> Self {
        let mut all = Self { sql: String::new(), values: Vec::new() };
        all.add("book =", number_of(book).into());
        for (condition, text) in
            [("tenant =", filter.tenant), ("function =", filter.function), ("kind =", filter.kind)]
        {
            if let Some(text) = text {
                all.add(condition, text.into());
            }
        }
        for (condition, time) in [("at_ms >=", filter.from_ms), ("at_ms <", filter.until_ms)] {
            if let Some(time) = time {
                all.add(condition, signed(time).into());
            }
        }
        all
    }

    fn add(&mut self, condition: &str, value: Column) {
        self.values.push(value);
        let and = if self.sql.is_empty() { "" } else { " AND " };
        self.sql.push_str(&format!("{and}{condition} ?{}", self.values.len()));
    }
}

fn amounts(row: &rusqlite::Row<'_>) -> rusqlite::Result<Amounts> {
    let column = |name| row.get::<_, i64>(name).map(unsigned);
    Ok(Amounts {
        prompt_tokens: column("prompt_tokens")?,
        completion_tokens: column("completion_tokens")?,
        device_ns: column("device_ns")?,
        nanodollars: column("nanodollars")?,
    })
}

fn entry(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    let text: String = row.get("payload")?;
    let payload = serde_json::from_str(&text).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
    })?;
    let (number, at_ms): (i64, i64) = (row.get("number")?, row.get("at_ms")?);
    let row = Row {
        name: row.get("name")?,
        at_ms: unsigned(at_ms),
        tenant: row.get("tenant")?,
        function: row.get("function")?,
        kind: row.get("kind")?,
        amounts: amounts(row)?,
        payload,
    };
    Ok(Entry { number: unsigned(number), row })
}

fn query(connection: &Connection, mut all: Conditions, page: Page, limit: usize) -> Outcome<Vec<Entry>> {
    let order = match page {
        Page::After(number) => {
            all.add("number >", signed(number).into());
            "ASC"
        }
        Page::Before(number) => {
            all.add("number <", signed(number).into());
            "DESC"
        }
    };
    all.values.push(i64::try_from(limit).unwrap_or(i64::MAX).into());
    let sql =
        format!("SELECT * FROM entry WHERE {} ORDER BY number {order} LIMIT ?{}", all.sql, all.values.len());
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(all.values), entry)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn sums(connection: &Connection, all: &Conditions) -> Outcome<Vec<Sum>> {
    let sql = format!(
        "SELECT tenant, function, count(*) AS rows, sum(prompt_tokens) AS prompt_tokens, \
         sum(completion_tokens) AS completion_tokens, sum(device_ns) AS device_ns, \
         sum(nanodollars) AS nanodollars FROM entry WHERE {} GROUP BY tenant, function ORDER BY tenant, function",
        all.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params_from_iter(all.values.iter()), |row| {
        let rows: i64 = row.get("rows")?;
        Ok(Sum {
            tenant: row.get("tenant")?,
            function: row.get("function")?,
            rows: unsigned(rows),
            amounts: amounts(row)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

impl Journal for Sqlite {
    fn append(&self, book: Book, rows: Vec<Row>) -> Later<'_, Result<()>> {
        Box::pin(async move {
            let text = |row: Row| rules::to_text(&row.payload).map(|text| (row, text));
            let rows = rows.into_iter().map(text).collect::<Result<Vec<_>>>()?;
            self.journal.writer()?.write(move |session| append(session, book, &rows)).await
        })
    }

    fn query(&self, book: Book, filter: Filter, page: Page, limit: usize) -> Later<'_, Result<Vec<Entry>>> {
        let all = Conditions::new(book, filter);
        Box::pin(self.journal.readers.read(move |connection| query(connection, all, page, limit)))
    }

    fn sums(&self, book: Book, filter: Filter) -> Later<'_, Result<Vec<Sum>>> {
        let all = Conditions::new(book, filter);
        Box::pin(self.journal.readers.read(move |connection| sums(connection, &all)))
    }

    fn trim(&self, book: Book, before_ms: u64) -> Later<'_, Result<u64>> {
        Box::pin(async move {
            let work = move |session: &mut Session<'_>| -> Outcome<u64> {
                let sql = "DELETE FROM entry WHERE book = ?1 AND at_ms < ?2";
                let gone = session.connection.execute(sql, params![number_of(book), signed(before_ms)])?;
                session.bytes += gone as u64 * 512;
                Ok(gone as u64)
            };
            self.journal.writer()?.write(work).await
        })
    }
}
