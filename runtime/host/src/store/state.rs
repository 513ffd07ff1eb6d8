//! What functions keep between calls: small values by key, walled by tenant and function, within a quota.
//!
//! A value is durable when `set` returns. There is no transaction over several keys.

use super::{Rejected, Result, StoreError};
use crate::call::Later;
use crate::records::Names;

/// How much a function may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateQuota {
    /// Keys.
    pub keys: u64,
    /// Bytes of keys and values together.
    pub bytes: u64,
    /// Bytes of one value.
    pub value_bytes: u64,
}

impl Default for StateQuota {
    /// Arbitrary: room for settings and counters, not for data.
    fn default() -> Self {
        Self { keys: 4_096, bytes: 16 << 20, value_bytes: 256 << 10 }
    }
}

/// Longest key.
pub const STATE_KEY_BYTES_MAX: usize = 256;

/// Values by tenant, function and key.
pub trait StateStore: Send + Sync + 'static {
    /// A value.
    fn get<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>>>;
    /// Sets a value.
    fn set<'a>(
        &'a self,
        of: &'a Names,
        key: &'a str,
        value: Vec<u8>,
        quota: StateQuota,
    ) -> Later<'a, Result<()>>;
    /// Removes a value; it need not be there.
    fn delete<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<()>>;
    /// Keys that start with `prefix`, sorted, at most `limit`.
    fn keys<'a>(&'a self, of: &'a Names, prefix: &'a str, limit: usize) -> Later<'a, Result<Vec<String>>>;
    /// Removes all values of a function.
    fn forget<'a>(&'a self, of: &'a Names) -> Later<'a, Result<()>>;
}

/// Refuses a key or a value that is too long.
pub(super) fn check(key: &str, value: &[u8], quota: StateQuota) -> Result<()> {
    if key.is_empty() || key.len() > STATE_KEY_BYTES_MAX {
        let problem = format!("a key of a function's store has 1 to {STATE_KEY_BYTES_MAX} bytes");
        return Err(StoreError::Rejected(Rejected::Invalid(problem)));
    }
    if value.len() as u64 > quota.value_bytes {
        return Err(StoreError::Rejected(Rejected::TooLarge { limit: quota.value_bytes }));
    }
    Ok(())
}

/// Refuses what would bring a function over its quota.
pub(super) fn check_quota(keys: u64, bytes: u64, quota: StateQuota) -> Result<()> {
    if keys > quota.keys {
        let problem = format!("the function's store holds {} keys at most: delete some", quota.keys);
        return Err(StoreError::Rejected(Rejected::Invalid(problem)));
    }
    if bytes > quota.bytes {
        return Err(StoreError::Rejected(Rejected::TooLarge { limit: quota.bytes }));
    }
    Ok(())
}
