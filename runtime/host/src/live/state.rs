//! A function's own small store between calls: the seam, and one in memory for runs without a registry.

use crate::call::Later;
use crate::records::Names;
use coldframe_sandbox::services::Failure;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Values by function and key. What a function may store in all is the implementation's to bound, with `quota`.
pub trait StateStore: Send + Sync + 'static {
    /// A value.
    fn get<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>>;
    /// Sets a value; it is kept when this returns.
    fn set<'a>(&'a self, of: &'a Names, key: &'a str, value: Vec<u8>) -> Later<'a, Result<(), Failure>>;
    /// Removes a value.
    fn delete<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<(), Failure>>;
    /// Keys that start with `prefix`, sorted.
    fn keys<'a>(&'a self, of: &'a Names, prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>>;
}

/// Bytes that one function may keep in memory, keys included. Arbitrary.
pub const STATE_BYTES_MAX: usize = 16 << 20;

/// Values in memory, gone with the process.
#[derive(Debug, Default)]
pub struct MemoryState {
    functions: Mutex<BTreeMap<Names, BTreeMap<String, Vec<u8>>>>,
}

impl MemoryState {
    fn with<T>(&self, of: &Names, work: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        work(functions.entry(of.clone()).or_default())
    }
}

fn put(values: &mut BTreeMap<String, Vec<u8>>, key: &str, value: Vec<u8>) -> Result<(), Failure> {
    let others = values.iter().filter(|(name, _)| *name != key);
    let kept: usize = others.map(|(name, value)| name.len() + value.len()).sum();
    let bytes = kept + key.len() + value.len();
    if bytes > STATE_BYTES_MAX {
        let message = format!("{bytes} bytes; a function keeps at most {STATE_BYTES_MAX}");
        return Err(Failure::new("quota", message));
    }
    values.insert(key.to_owned(), value);
    Ok(())
}

impl StateStore for MemoryState {
    fn get<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>, Failure>> {
        Box::pin(async move { Ok(self.with(of, |values| values.get(key).cloned())) })
    }

    fn set<'a>(&'a self, of: &'a Names, key: &'a str, value: Vec<u8>) -> Later<'a, Result<(), Failure>> {
        Box::pin(async move { self.with(of, |values| put(values, key, value)) })
    }

    fn delete<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<(), Failure>> {
        Box::pin(async move {
            self.with(of, |values| values.remove(key));
            Ok(())
        })
    }

    fn keys<'a>(&'a self, of: &'a Names, prefix: &'a str) -> Later<'a, Result<Vec<String>, Failure>> {
        Box::pin(async move {
            let starting = |values: &mut BTreeMap<String, Vec<u8>>| {
                values.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
            };
            Ok(self.with(of, starting))
        })
    }
}
