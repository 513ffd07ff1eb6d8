//! Records in memory.

use super::Memory;
use crate::call::Later;
use crate::store::hub::{self, Hub};
use crate::store::rules::{self, HISTORY};
use crate::store::{Change, Expect, Key, Read, Registry, Rejected, Result, Revision, StoreError, Versioned};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use tokio::sync::mpsc;

/// Records and what happened to them.
#[derive(Default)]
pub(super) struct Records {
    revision: Revision,
    records: BTreeMap<Key, Versioned>,
    history: Vec<Change>,
    done: HashMap<String, ([u8; 32], Revision)>,
    hub: Hub,
}

fn place(change: &Change) -> (&str, Revision) {
    match change {
        Change::Put(record) => (&record.key, record.revision),
        Change::Deleted { key, revision } => (key, *revision),
        Change::Lagged => ("", 0),
    }
}

/// What an idempotency key did before, where it did the same.
pub(super) fn recall(
    done: &HashMap<String, ([u8; 32], u64)>,
    idem: &str,
    fingerprint: &[u8; 32],
) -> Result<Option<u64>> {
    match done.get(idem) {
        Some((before, _)) if before != fingerprint => Err(StoreError::Rejected(Rejected::IdempotencyReused)),
        Some((_, result)) => Ok(Some(*result)),
        None => Ok(None),
    }
}

impl Records {
    pub fn let_watchers_go(&mut self) {
        self.hub = Hub::default();
    }

    fn expect(&self, key: &str, expect: Expect) -> Result<()> {
        let found = self.records.get(key).map(|record| record.revision);
        let holds = match expect {
            Expect::Absent => found.is_none(),
            Expect::At(revision) => found == Some(revision),
        };
        if holds {
            return Ok(());
        }
        Err(StoreError::Rejected(Rejected::Conflict { key: key.to_owned(), found }))
    }

    fn note(&mut self, change: Change) {
        self.hub.publish(&change);
        self.history.push(change);
    }

    fn put(&mut self, key: &str, value: Value, expect: Expect, idem: &str) -> Result<Revision> {
        let fingerprint = rules::fingerprint(&["put", key, &rules::to_text(&value)?]);
        if let Some(before) = recall(&self.done, idem, &fingerprint)? {
            return Ok(before);
        }
        self.expect(key, expect)?;
        self.revision += 1;
        let record = Versioned { key: key.to_owned(), value, revision: self.revision };
        self.records.insert(key.to_owned(), record.clone());
        self.note(Change::Put(record));
        self.done.insert(idem.to_owned(), (fingerprint, self.revision));
        Ok(self.revision)
    }

    fn delete(&mut self, key: &str, expect: Revision, idem: &str) -> Result<Revision> {
        let fingerprint = rules::fingerprint(&["delete", key]);
        if let Some(before) = recall(&self.done, idem, &fingerprint)? {
            return Ok(before);
        }
        self.expect(key, Expect::At(expect))?;
        self.revision += 1;
        self.records.remove(key);
        self.note(Change::Deleted { key: key.to_owned(), revision: self.revision });
        self.done.insert(idem.to_owned(), (fingerprint, self.revision));
        Ok(self.revision)
    }

    fn watch(&mut self, prefix: &str, from: Revision) -> mpsc::Receiver<Change> {
        if from > self.revision || from < self.revision.saturating_sub(HISTORY) {
            return hub::lagged();
        }
        let mut last: BTreeMap<&str, &Change> = BTreeMap::new();
        for change in &self.history {
            let (key, revision) = place(change);
            if revision > from && key.starts_with(prefix) {
                last.insert(key, change);
            }
        }
        let mut missed: Vec<Change> = last.into_values().cloned().collect();
        missed.sort_by_key(|change| place(change).1);
        self.hub.join(prefix, missed)
    }
}

impl Registry for Memory {
    fn get<'a>(&'a self, key: &'a str, read: Read) -> Later<'a, Result<Option<Versioned>>> {
        Box::pin(async move {
            rules::check_key(key)?;
            let inner = self.inner();
            match read {
                Read::AtLeast(wanted) if inner.registry.revision < wanted => {
                    Err(StoreError::Unavailable(format!("revision {wanted} is not here yet: try again")))
                }
                _ => Ok(inner.registry.records.get(key).cloned()),
            }
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
            let after = after.unwrap_or_default();
            let inner = self.inner();
            let wanted = |record: &&Versioned| record.key.starts_with(prefix) && record.key.as_str() > after;
            Ok(inner.registry.records.values().filter(wanted).take(limit).cloned().collect())
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
            self.inner().registry.put(key, value, expect, idem)
        })
    }

    fn delete<'a>(&'a self, key: &'a str, expect: Revision, idem: &'a str) -> Later<'a, Result<Revision>> {
        Box::pin(async move {
            rules::check_key(key)?;
            rules::check_idempotency(idem)?;
            self.inner().registry.delete(key, expect, idem)
        })
    }

    fn revision(&self) -> Later<'_, Result<Revision>> {
        Box::pin(async move { Ok(self.inner().registry.revision) })
    }

    fn watch<'a>(&'a self, prefix: &'a str, from: Revision) -> Later<'a, Result<mpsc::Receiver<Change>>> {
        Box::pin(async move {
            rules::check_prefix(prefix)?;
            Ok(self.inner().registry.watch(prefix, from))
        })
    }
}
