//! Checks over all records that SQLite does not make: each record has a digest, and their sum is kept beside them.
//!
//! SQLite's own check finds broken structure, not a changed letter and not a row that is gone whole. The sum is the
//! exclusive or of the digests, so a change costs two of them and no scan.

use super::super::rules;
use rusqlite::{Connection, OptionalExtension as _};

/// A digest or a sum of digests.
pub(super) type Seal = [u8; 32];

/// The digest of a record.
pub(super) fn digest(key: &str, value: &str, revision: i64) -> Seal {
    rules::fingerprint(&[key, value, &revision.to_string()])
}

fn stored(connection: &Connection) -> rusqlite::Result<Seal> {
    connection.query_row("SELECT bytes FROM meta WHERE name = 'seal'", [], |row| row.get(0))
}

/// Takes digests out of or into the sum, which is the same thing.
pub(super) fn toggle(connection: &Connection, digests: &[Seal]) -> rusqlite::Result<()> {
    let mut sum = stored(connection)?;
    for digest in digests {
        add(&mut sum, digest);
    }
    connection.execute("UPDATE meta SET bytes = ?1 WHERE name = 'seal'", [sum.as_slice()])?;
    Ok(())
}

fn add(sum: &mut Seal, digest: &Seal) {
    for (byte, other) in sum.iter_mut().zip(digest) {
        *byte ^= other;
    }
}

/// What is wrong with the records, in words.
pub(super) fn problem(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut sum = Seal::default();
    let mut statement = connection.prepare("SELECT key, value, revision, digest FROM record")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, value, revision): (String, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let found = digest(&key, &value, revision);
        if row.get::<_, Vec<u8>>(3)? != found {
            return Ok(Some(format!("record {key} is not what was stored")));
        }
        add(&mut sum, &found);
    }
    if sum != stored(connection)? {
        return Ok(Some("records are missing, or are there that were not stored".to_owned()));
    }
    let newest: Option<Option<i64>> =
        connection.query_row("SELECT max(revision) FROM record", [], |row| row.get(0)).optional()?;
    let revision: i64 =
        connection.query_row("SELECT number FROM meta WHERE name = 'revision'", [], |row| row.get(0))?;
    let ahead = newest.flatten().is_some_and(|newest| newest > revision);
    Ok(ahead.then(|| "a record is newer than the registry".to_owned()))
}
