//! Records by name, as types.
//!
//! A record that does not read as what its name says is left out and remembered as unreadable.

use super::{CatalogChange, keys};
use crate::records::{ApiKey, Function, Generation, Names, Tenant};
use crate::store::{Change, Revision, Versioned};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// A function with its generations by id.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub function: Arc<Function>,
    pub generations: BTreeMap<String, Arc<Generation>>,
    revision: Revision,
}

/// All records that the host knows.
#[derive(Debug, Default)]
pub(super) struct Tables {
    tenants: BTreeMap<String, (Arc<Tenant>, Revision)>,
    keys: BTreeMap<String, (Arc<ApiKey>, Revision)>,
    functions: BTreeMap<Names, Entry>,
    unreadable: BTreeSet<String>,
}

/// What a record's name says it is.
enum Kind<'a> {
    Tenant(&'a str),
    ApiKey(&'a str),
    Function(Names),
    Other,
}

fn kind(key: &str) -> Kind<'_> {
    if let Some(name) = key.strip_prefix(keys::TENANTS) {
        return Kind::Tenant(name);
    }
    if let Some(id) = key.strip_prefix(keys::API_KEYS) {
        return Kind::ApiKey(id);
    }
    match key.strip_prefix(keys::FUNCTIONS).and_then(|rest| rest.split_once('/')) {
        Some((tenant, function)) => {
            Kind::Function(Names { tenant: tenant.to_owned(), function: function.to_owned() })
        }
        None => Kind::Other,
    }
}

fn entry(function: Function, revision: Revision) -> Entry {
    let by_id = |generation: &Generation| (generation.id.clone(), Arc::new(generation.clone()));
    let generations = function.generations.iter().map(by_id).collect();
    Entry { generations, function: Arc::new(function), revision }
}

impl Tables {
    /// All of a registry, in place of what was here before. What became of functions.
    pub fn replace(&mut self, records: Vec<Versioned>) -> Vec<CatalogChange> {
        let before = std::mem::take(self);
        for record in records {
            self.put(record);
        }
        let gone = before.functions.keys().filter(|names| !self.functions.contains_key(*names));
        let mut changes: Vec<_> = gone.cloned().map(CatalogChange::Removed).collect();
        let is_new = |(names, entry): &(&Names, &Entry)| {
            before.functions.get(*names).is_none_or(|before| before.revision != entry.revision)
        };
        let new = self.functions.iter().filter(is_new);
        changes.extend(new.map(|(_, entry)| CatalogChange::Put(Arc::clone(&entry.function))));
        changes
    }

    /// One change; what became of a function.
    pub fn apply(&mut self, change: Change) -> Option<CatalogChange> {
        match change {
            Change::Put(record) if self.revision_of(&record.key) < Some(record.revision) => self.put(record),
            Change::Deleted { key, revision } if self.revision_of(&key) < Some(revision) => self.remove(&key),
            _ => None,
        }
    }

    fn revision_of(&self, key: &str) -> Option<Revision> {
        match kind(key) {
            Kind::Tenant(name) => self.tenants.get(name).map(|(_, revision)| *revision),
            Kind::ApiKey(id) => self.keys.get(id).map(|(_, revision)| *revision),
            Kind::Function(names) => self.functions.get(&names).map(|entry| entry.revision),
            Kind::Other => None,
        }
    }

    fn read<T: DeserializeOwned>(&mut self, record: Versioned) -> Option<T> {
        match serde_json::from_value(record.value) {
            Ok(value) => {
                self.unreadable.remove(&record.key);
                Some(value)
            }
            Err(problem) => {
                tracing::error!(record = record.key, %problem, "a record cannot be read and is left out");
                self.unreadable.insert(record.key);
                None
            }
        }
    }

    fn put(&mut self, record: Versioned) -> Option<CatalogChange> {
        let (key, revision) = (record.key.clone(), record.revision);
        match kind(&key) {
            Kind::Tenant(name) => {
                if let Some(tenant) = self.read(record) {
                    self.tenants.insert(name.to_owned(), (Arc::new(tenant), revision));
                }
                None
            }
            Kind::ApiKey(id) => {
                match self.read(record) {
                    Some(api_key) => drop(self.keys.insert(id.to_owned(), (Arc::new(api_key), revision))),
                    // A key that cannot be read any more must not go on as it was.
                    None => drop(self.keys.remove(id)),
                }
                None
            }
            Kind::Function(names) => {
                let entry = entry(self.read(record)?, revision);
                let function = Arc::clone(&entry.function);
                self.functions.insert(names, entry);
                Some(CatalogChange::Put(function))
            }
            Kind::Other => None,
        }
    }

    fn remove(&mut self, key: &str) -> Option<CatalogChange> {
        self.unreadable.remove(key);
        match kind(key) {
            Kind::Tenant(name) => drop(self.tenants.remove(name)),
            Kind::ApiKey(id) => drop(self.keys.remove(id)),
            Kind::Function(names) => {
                return self.functions.remove(&names).map(|_| CatalogChange::Removed(names));
            }
            Kind::Other => {}
        }
        None
    }

    pub fn key(&self, id: &str) -> Option<Arc<ApiKey>> {
        self.keys.get(id).map(|(key, _)| Arc::clone(key))
    }

    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    pub fn keys(&self, tenant: Option<&str>) -> Vec<Arc<ApiKey>> {
        let wanted = |key: &&Arc<ApiKey>| tenant.is_none_or(|tenant| key.tenant == tenant);
        self.keys.values().map(|(key, _)| key).filter(wanted).cloned().collect()
    }

    pub fn function(&self, tenant: &str, function: &str) -> Option<Entry> {
        let names = Names { tenant: tenant.to_owned(), function: function.to_owned() };
        self.functions.get(&names).cloned()
    }

    pub fn functions(&self, tenant: Option<&str>, after: Option<&Names>, limit: usize) -> Vec<Arc<Function>> {
        let first = tenant.map(first_of);
        let from = match (after, &first) {
            (Some(after), Some(first)) if after < first => Bound::Included(first),
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let range = self.functions.range::<Names, _>((from, Bound::Unbounded));
        let same = |(names, _): &(&Names, &Entry)| tenant.is_none_or(|tenant| names.tenant == tenant);
        range.take_while(same).take(limit).map(|(_, entry)| Arc::clone(&entry.function)).collect()
    }

    pub fn count(&self, tenant: &str) -> usize {
        let range = self.functions.range(first_of(tenant)..);
        range.take_while(|(names, _)| names.tenant == tenant).count()
    }

    pub fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        self.tenants.get(name).map(|(tenant, _)| Arc::clone(tenant))
    }

    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.tenants.values().map(|(tenant, _)| Arc::clone(tenant)).collect()
    }

    pub fn unreadable(&self) -> Vec<String> {
        self.unreadable.iter().cloned().collect()
    }
}

fn first_of(tenant: &str) -> Names {
    Names { tenant: tenant.to_owned(), function: String::new() }
}
