//! Changing a record: read, decide, write by compare-and-swap, and again where somebody else was first.
//!
//! With `If-Match` nothing is tried again: the caller decided on what it had read. A write whose outcome is not known is
//! repeated with its own key, so that it happens once.

use super::error::{AdminError, Kind, Result};
use super::{Admin, Terms, parsed, random_hex};
use crate::store::{Expect, Read, Rejected, Revision, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writers of one record that may be ahead of this one: arbitrary, past any honest race.
const TRIES_MAX: usize = 32;

/// Repeats of a write whose outcome is not known.
const REPEATS_MAX: usize = 3;

/// What becomes of a record.
pub enum Edit<T, R> {
    /// It stays as it is.
    Keep(R),
    /// It becomes this.
    Put(T, R),
    /// It goes.
    Delete(R),
}

/// A change carried out.
pub struct Changed<R> {
    /// What the decision gave.
    pub value: R,
    /// The record's revision now; of its removal where it went.
    pub revision: Revision,
    /// Whether anything was written.
    pub written: bool,
    /// Whether the record is new.
    pub made: bool,
}

impl Admin {
    /// Changes the record at `key`; `decide` gets what is there and may be asked more than once.
    pub(super) async fn change<T, R>(
        &self,
        key: &str,
        terms: &Terms,
        mut decide: impl FnMut(Option<T>) -> Result<Edit<T, R>>,
    ) -> Result<Changed<R>>
    where
        T: Serialize + DeserializeOwned,
    {
        for _ in 0..TRIES_MAX {
            let found = self.registry.get(key, Read::Fresh).await?;
            let before = found.as_ref().map(|found| found.revision);
            hold(terms, before)?;
            let record = found.map(|found| parsed(&found.key, found.value)).transpose()?;
            let (written, value) = match decide(record)? {
                Edit::Keep(value) => {
                    return Ok(Changed { value, revision: before.unwrap_or(0), written: false, made: false });
                }
                Edit::Put(record, value) => {
                    let record = serde_json::to_value(record)
                        .map_err(|error| AdminError::internal(format!("record {key}: {error}")))?;
                    (self.write(key, Some(record), before).await, value)
                }
                Edit::Delete(value) => (self.write(key, None, before).await, value),
            };
            match written {
                Ok(revision) => {
                    self.live.settled(revision).await;
                    return Ok(Changed { value, revision, written: true, made: before.is_none() });
                }
                Err(StoreError::Rejected(Rejected::Conflict { found, .. })) => {
                    if terms.if_match.is_some() || terms.if_none_match {
                        return Err(AdminError::precondition(terms.if_match, found));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AdminError::new(Kind::Busy, "too_many_writers", "others keep changing this: try again"))
    }

    /// One write, repeated under its own key while its outcome is not known.
    async fn write(
        &self,
        key: &str,
        record: Option<serde_json::Value>,
        before: Option<Revision>,
    ) -> Result<Revision, StoreError> {
        let idem = random_hex(16).map_err(|error| StoreError::Unavailable(error.message))?;
        let mut repeats = 0;
        loop {
            let outcome = match (&record, before) {
                (Some(record), before) => {
                    let expect = before.map_or(Expect::Absent, Expect::At);
                    self.registry.put(key, record.clone(), expect, &idem).await
                }
                (None, Some(before)) => self.registry.delete(key, before, &idem).await,
                (None, None) => Ok(0),
            };
            match outcome {
                Err(StoreError::Unknown(_)) if repeats < REPEATS_MAX => repeats += 1,
                outcome => return outcome,
            }
        }
    }
}

/// Holds a record's revision against the caller's conditions.
fn hold(terms: &Terms, found: Option<Revision>) -> Result<()> {
    if terms.if_none_match && found.is_some() {
        return Err(AdminError::precondition(None, found));
    }
    match terms.if_match {
        Some(expected) if found != Some(expected) => Err(AdminError::precondition(Some(expected), found)),
        _ => Ok(()),
    }
}
