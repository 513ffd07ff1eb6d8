//! Cached pages that may be evicted: per tenant, least recently used first.
//!
//! A page is on the shelf when no sequence uses it and no cached page continues it, so that a chain is evicted from its
//! end and never broken in the middle.

use super::TenantId;
use crate::executor::PageId;
use std::collections::BTreeMap;

/// One tenant's pages.
#[derive(Debug, Default)]
struct Row {
    /// Pages it holds, used or cached.
    held: u32,
    /// Of these, cached ones. All can be had, one after the other: what continues a cached page is cached as well.
    cached: u32,
    /// Evictable pages by the time they were last used.
    idle: BTreeMap<u64, PageId>,
}

/// All tenants' pages.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    rows: BTreeMap<TenantId, Row>,
}

impl Shelf {
    /// A page comes to a tenant.
    pub(super) fn take(&mut self, tenant: TenantId) {
        self.rows.entry(tenant).or_default().held += 1;
    }

    /// A page leaves a tenant.
    pub(super) fn give(&mut self, tenant: TenantId) {
        if let Some(row) = self.rows.get_mut(&tenant) {
            row.held -= 1;
            if row.held == 0 {
                self.rows.remove(&tenant);
            }
        }
    }

    /// A page of a tenant falls idle: from used to cached.
    pub(super) fn idle(&mut self, tenant: TenantId) {
        self.rows.entry(tenant).or_default().cached += 1;
    }

    /// A cached page of a tenant is used again, or goes.
    pub(super) fn wake(&mut self, tenant: TenantId) {
        if let Some(row) = self.rows.get_mut(&tenant) {
            row.cached -= 1;
        }
    }

    /// Cached pages of a tenant, and of all others.
    pub(super) fn cached(&self, tenant: TenantId) -> (u32, u32) {
        let all = self.rows.values().map(|row| row.cached).sum::<u32>();
        let own = self.rows.get(&tenant).map_or(0, |row| row.cached);
        (own, all - own)
    }

    /// Pages a tenant holds.
    pub(super) fn held(&self, tenant: TenantId) -> u32 {
        self.rows.get(&tenant).map_or(0, |row| row.held)
    }

    /// A page may be evicted from now on. `tick` is the time of its last use, unique to the page.
    pub(super) fn put(&mut self, tenant: TenantId, tick: u64, page: PageId) {
        self.rows.entry(tenant).or_default().idle.insert(tick, page);
    }

    /// A page may no longer be evicted.
    pub(super) fn pull(&mut self, tenant: TenantId, tick: u64) {
        if let Some(row) = self.rows.get_mut(&tenant) {
            row.idle.remove(&tick);
        }
    }

    /// The least recently used evictable page of a tenant.
    pub(super) fn oldest_of(&self, tenant: TenantId) -> Option<PageId> {
        self.rows.get(&tenant)?.idle.first_key_value().map(|(_, page)| *page)
    }

    /// The least recently used evictable page of the tenant that holds most, among those that have one.
    ///
    /// A tenant that floods the cache is its largest holder, so that it evicts itself.
    pub(super) fn oldest_of_largest(&self) -> Option<PageId> {
        let candidates =
            self.rows.values().filter_map(|row| row.idle.first_key_value().map(|idle| (row, idle)));
        candidates.max_by_key(|(row, (tick, _))| (row.held, u64::MAX - **tick)).map(|(_, (_, page))| *page)
    }
}
