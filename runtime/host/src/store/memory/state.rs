//! What functions keep, in memory.

use super::Memory;
use crate::call::Later;
use crate::records::Names;
use crate::store::Result;
use crate::store::state::{StateQuota, StateStore, check, check_quota};
use std::collections::BTreeMap;

/// Values by function and key.
pub(super) type Values = BTreeMap<Names, BTreeMap<String, Vec<u8>>>;

impl StateStore for Memory {
    fn get<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<Option<Vec<u8>>>> {
        Box::pin(async move { Ok(self.inner().state.get(of).and_then(|values| values.get(key)).cloned()) })
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
            let mut inner = self.inner();
            let values = inner.state.entry(of.clone()).or_default();
            let others = values.iter().filter(|(other, _)| *other != key);
            let (keys, bytes) = others.fold((1, key.len() + value.len()), |(keys, bytes), (key, value)| {
                (keys + 1, bytes + key.len() + value.len())
            });
            check_quota(keys, bytes as u64, quota)?;
            values.insert(key.to_owned(), value);
            Ok(())
        })
    }

    fn delete<'a>(&'a self, of: &'a Names, key: &'a str) -> Later<'a, Result<()>> {
        Box::pin(async move {
            if let Some(values) = self.inner().state.get_mut(of) {
                values.remove(key);
            }
            Ok(())
        })
    }

    fn keys<'a>(&'a self, of: &'a Names, prefix: &'a str, limit: usize) -> Later<'a, Result<Vec<String>>> {
        Box::pin(async move {
            let inner = self.inner();
            let keys = inner.state.get(of).into_iter().flat_map(BTreeMap::keys);
            Ok(keys.filter(|key| key.starts_with(prefix)).take(limit).cloned().collect())
        })
    }

    fn forget<'a>(&'a self, of: &'a Names) -> Later<'a, Result<()>> {
        Box::pin(async move {
            self.inner().state.remove(of);
            Ok(())
        })
    }
}
