//! The page book: free, used (counted) and cached pages, prefix reuse, copy-on-write, eviction.
//!
//! A page's keys and values depend on every position before it, so that an indexed page is the child of exactly one
//! other: the index is a tree whose nodes are named by serial numbers that are never used twice.

use super::chain::{Chain, Key};
use super::shelf::Shelf;
use super::{Effect, Owner, TenantId};
use crate::adapter::Generation;
use crate::executor::{PAGE_TOKENS, PageId};
use std::collections::HashMap;

/// Settings of a book.
#[derive(Debug, Clone)]
pub struct BookOptions {
    /// Whether full pages are kept and found again.
    pub prefix_reuse: bool,
    /// Share of all pages up to which a tenant may evict other tenants' cached pages, 0 to 1. Beyond it, it gets free
    /// pages and evicts its own. One half is arbitrary.
    pub tenant_share: f64,
    /// Makes the index's keys.
    pub chain: Chain,
}

impl Default for BookOptions {
    fn default() -> Self {
        Self { prefix_reuse: true, tenant_share: 0.5, chain: Chain::new() }
    }
}

/// How far an allocation may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Within the tenant's share: see [`BookOptions::tenant_share`].
    Fair,
    /// Any cached page: for a sequence that could never end otherwise.
    Any,
}

/// Counts of a book.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BookStats {
    /// Pages in no one's hands.
    pub free: u32,
    /// Pages that sequences use.
    pub used: u32,
    /// Pages kept for their contents.
    pub cached: u32,
    /// Bytes of the used pages.
    pub used_bytes: u64,
    /// Bytes of the cached pages.
    pub cached_bytes: u64,
    /// Prompt tokens that were looked up, since the start.
    pub queried_tokens: u64,
    /// Of these, found.
    pub hit_tokens: u64,
    /// Cached pages given up for others, since the start.
    pub evictions: u64,
    /// Shared pages copied before a write, since the start.
    pub copies: u64,
}

/// A full page in the index.
#[derive(Debug)]
struct Entry {
    key: Key,
    serial: u64,
    parent: Option<(PageId, u64)>,
    tokens: [u32; PAGE_TOKENS],
    children: u32,
    tick: u64,
}

/// A page is used while `refs > 0`, cached while it has an entry and no reference, free otherwise.
#[derive(Debug, Default)]
struct Page {
    /// Whose positions are in it; remembered after it is freed.
    owner: Option<Owner>,
    /// Its contents may harm even its own owner (numbers that are not numbers).
    tainted: bool,
    refs: u32,
    entry: Option<Entry>,
}

/// Who owns which page, and what is in it.
#[derive(Debug)]
pub struct Book {
    options: BookOptions,
    page_bytes: u64,
    pages: Vec<Page>,
    free: Vec<PageId>,
    index: HashMap<Key, PageId>,
    shelf: Shelf,
    effects: Vec<Effect>,
    clock: u64,
    stats: BookStats,
}

impl Book {
    /// A book of `pages` free pages of `page_bytes`.
    pub fn new(pages: u32, page_bytes: u64, options: BookOptions) -> Self {
        Self {
            options,
            page_bytes,
            pages: (0..pages).map(|_| Page::default()).collect(),
            free: (0..pages).rev().map(PageId).collect(),
            index: HashMap::new(),
            shelf: Shelf::default(),
            effects: Vec::new(),
            clock: 0,
            stats: BookStats { free: pages, ..BookStats::default() },
        }
    }

    /// Pages in all.
    pub fn len(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Whether it has no pages at all.
    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// Counts.
    pub fn stats(&self) -> BookStats {
        let bytes = |pages: u32| u64::from(pages) * self.page_bytes;
        let (used_bytes, cached_bytes) = (bytes(self.stats.used), bytes(self.stats.cached));
        BookStats { used_bytes, cached_bytes, ..self.stats }
    }

    /// Pages a tenant holds, used or cached.
    pub fn held(&self, tenant: TenantId) -> u32 {
        self.shelf.held(tenant)
    }

    /// Pages a tenant could get now.
    pub fn available(&self, tenant: TenantId, reach: Reach) -> u32 {
        let (own, others) = self.shelf.cached(tenant);
        let others = match reach {
            Reach::Any => others,
            // Free pages are taken first, and count.
            Reach::Fair => others.min(self.share().saturating_sub(self.held(tenant) + self.stats.free)),
        };
        self.stats.free + own + others
    }

    /// Pages a tenant could get for certain once `freed` used ones were free, whosever they are.
    pub fn available_with(&self, tenant: TenantId, reach: Reach, freed: u32) -> u32 {
        self.available(tenant, reach).max(self.stats.free + self.shelf.cached(tenant).0 + freed)
    }

    /// Whether a used page has one user, so that it is free when that one discards it.
    pub fn unshared(&self, id: PageId) -> bool {
        self.pages[id.0 as usize].refs == 1
    }

    /// What the executor must do before the pages handed out are used.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The full pages that hold the start of `tokens` for this owner, taken into use. Never all of `tokens`: the last
    /// one must be computed to get logits.
    pub fn adopt(&mut self, owner: Owner, tokens: &[u32]) -> Vec<PageId> {
        let mut found: Vec<PageId> = Vec::new();
        if !self.options.prefix_reuse {
            return found;
        }
        let most = tokens.len().saturating_sub(1) / PAGE_TOKENS;
        for block in tokens.chunks_exact(PAGE_TOKENS).take(most) {
            let key = self.key(&owner, found.last().copied(), block);
            let Some(page) = self.find(key, &owner, found.last().copied(), block) else { break };
            self.retain(page);
            found.push(page);
        }
        self.stats.queried_tokens += tokens.len() as u64;
        self.stats.hit_tokens += (found.len() * PAGE_TOKENS) as u64;
        found
    }

    /// A page for new positions of this owner, evicting a cached one if need be.
    pub fn allocate(&mut self, owner: Owner, reach: Reach) -> Option<PageId> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => self.evict(owner.tenant, reach)?,
        };
        let page = &mut self.pages[id.0 as usize];
        if page.tainted || page.owner.is_some_and(|before| before != owner) {
            self.effects.push(Effect::Clear(id));
        }
        (page.owner, page.tainted, page.refs) = (Some(owner), false, 1);
        self.stats.free -= 1;
        self.stats.used += 1;
        self.shelf.take(owner.tenant);
        Some(id)
    }

    /// One more sequence uses a page.
    pub fn retain(&mut self, id: PageId) {
        let page = &mut self.pages[id.0 as usize];
        page.refs += 1;
        if page.refs == 1 {
            let (tenant, entry) = page.cached();
            let (leaf, tick) = (entry.children == 0, entry.tick);
            if leaf {
                self.shelf.pull(tenant, tick);
            }
            self.shelf.wake(tenant);
            self.stats.cached -= 1;
            self.stats.used += 1;
        }
    }

    /// A sequence is done with a page: the last one leaves it cached if it is indexed, else free.
    ///
    /// Release a sequence's pages from the last to the first: a chain's end is the first to go.
    pub fn release(&mut self, id: PageId) {
        let tick = self.tick();
        let page = &mut self.pages[id.0 as usize];
        page.refs -= 1;
        if page.refs > 0 {
            return;
        }
        self.stats.used -= 1;
        let tenant = page.tenant();
        if let Some(entry) = &mut page.entry {
            entry.tick = tick;
            self.stats.cached += 1;
            self.shelf.idle(tenant);
            if entry.children == 0 {
                self.shelf.put(tenant, tick, id);
            }
        } else {
            self.free(id, tenant);
        }
    }

    /// As [`Book::release`], for a page whose contents no one may see again, its own owner included.
    pub fn discard(&mut self, id: PageId) {
        if self.pages[id.0 as usize].refs == 1 {
            self.unindex(id);
            self.pages[id.0 as usize].tainted = true;
        }
        self.release(id);
    }

    /// The page to write to in place of `id`: itself if no one shares it, else a copy of its own.
    pub fn writable(&mut self, id: PageId, reach: Reach) -> Option<PageId> {
        if self.pages[id.0 as usize].refs == 1 {
            // What is written now is not what was indexed.
            self.unindex(id);
            return Some(id);
        }
        let owner = self.pages[id.0 as usize].owner.expect("a used page has an owner");
        let to = self.allocate(owner, reach)?;
        self.effects.push(Effect::Copy { from: id, to });
        self.stats.copies += 1;
        self.release(id);
        Some(to)
    }

    /// Enters a page whose positions are all written. Where the same tokens are indexed already, that page takes the
    /// place of this one, which is released: their contents are equal, since a row's numbers depend on nothing else.
    ///
    /// Returns the page to use from now on.
    pub fn register(&mut self, id: PageId, parent: Option<PageId>, tokens: &[u32]) -> PageId {
        let owner = self.pages[id.0 as usize].owner.expect("a used page has an owner");
        let Ok(full) = <[u32; PAGE_TOKENS]>::try_from(tokens) else { return id };
        let orphan = parent.is_some_and(|parent| self.entry(parent).is_none());
        if !self.options.prefix_reuse || orphan || self.entry(id).is_some() {
            return id;
        }
        let key = self.key(&owner, parent, tokens);
        if let Some(twin) = self.find(key, &owner, parent, tokens) {
            self.retain(twin);
            self.release(id);
            return twin;
        }
        if !self.index.contains_key(&key) {
            self.enter(id, key, parent, full);
        }
        id
    }

    /// Drops the cached pages of a generation, when it is unloaded.
    pub fn forget(&mut self, generation: Generation) -> u32 {
        let of = |page: &Page| page.owner.and_then(|owner| owner.generation) == Some(generation);
        let goes = |page: &Page| page.refs == 0 && page.entry.is_some() && of(page);
        let gone: Vec<_> =
            (0..self.len()).map(PageId).filter(|id| goes(&self.pages[id.0 as usize])).collect();
        gone.iter().for_each(|id| self.drop_cached(*id));
        gone.len() as u32
    }

    /// Checks that the counts agree with the pages; says what does not.
    ///
    /// # Errors
    /// The first disagreement, in words.
    pub fn audit(&self) -> Result<(), String> {
        let count = |what: &dyn Fn(&Page) -> bool| self.pages.iter().filter(|page| what(page)).count() as u32;
        let used = count(&|page| page.refs > 0);
        let cached = count(&|page| page.refs == 0 && page.entry.is_some());
        let found = (self.free.len() as u32, used, cached);
        let told = (self.stats.free, self.stats.used, self.stats.cached);
        if found != told || found.0 + found.1 + found.2 != self.len() {
            return Err(format!("free, used, cached: {told:?} told, {found:?} found, {} in all", self.len()));
        }
        for (key, id) in &self.index {
            if self.entry(*id).map(|entry| entry.key) != Some(*key) {
                return Err(format!("the index names page {} by a key it does not have", id.0));
            }
        }
        let indexed = count(&|page| page.entry.is_some());
        if indexed as usize == self.index.len() {
            return Ok(());
        }
        Err(format!("{indexed} pages have an entry, {} are in the index", self.index.len()))
    }

    fn share(&self) -> u32 {
        (f64::from(self.len()) * self.options.tenant_share.clamp(0.0, 1.0)) as u32
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn entry(&self, id: PageId) -> Option<&Entry> {
        self.pages[id.0 as usize].entry.as_ref()
    }

    fn key(&self, owner: &Owner, parent: Option<PageId>, tokens: &[u32]) -> Key {
        let parent = parent.and_then(|id| self.entry(id)).map(|entry| entry.key);
        self.options.chain.key(owner, parent, tokens)
    }

    /// The page under `key`, if it is what the key says: a hash alone is not believed.
    fn find(&self, key: Key, owner: &Owner, parent: Option<PageId>, tokens: &[u32]) -> Option<PageId> {
        let id = *self.index.get(&key)?;
        let entry = self.entry(id)?;
        let same_parent = entry.parent == parent.and_then(|id| Some((id, self.entry(id)?.serial)));
        let same_owner = self.pages[id.0 as usize].owner.as_ref() == Some(owner);
        (same_parent && same_owner && entry.tokens == tokens).then_some(id)
    }

    fn enter(&mut self, id: PageId, key: Key, parent: Option<PageId>, tokens: [u32; PAGE_TOKENS]) {
        let serial = self.tick();
        let parent = parent.and_then(|id| {
            let entry = self.pages[id.0 as usize].entry.as_mut()?;
            entry.children += 1;
            Some((id, entry.serial))
        });
        self.pages[id.0 as usize].entry = Some(Entry { key, serial, parent, tokens, children: 0, tick: 0 });
        self.index.insert(key, id);
    }

    /// Takes a page's entry out of the index; its parent may become evictable.
    fn unindex(&mut self, id: PageId) {
        let Some(entry) = self.pages[id.0 as usize].entry.take() else { return };
        self.index.remove(&entry.key);
        let Some((parent, serial)) = entry.parent else { return };
        let page = &mut self.pages[parent.0 as usize];
        let Some(above) = page.entry.as_mut().filter(|above| above.serial == serial) else { return };
        above.children -= 1;
        if above.children == 0 && page.refs == 0 {
            let (tick, tenant) = (above.tick, page.tenant());
            self.shelf.put(tenant, tick, parent);
        }
    }

    fn evict(&mut self, tenant: TenantId, reach: Reach) -> Option<PageId> {
        let own = reach == Reach::Fair && self.held(tenant) >= self.share();
        let id = if own { self.shelf.oldest_of(tenant) } else { self.shelf.oldest_of_largest() }?;
        self.drop_cached(id);
        self.stats.evictions += 1;
        self.free.pop()
    }

    /// From cached to free.
    fn drop_cached(&mut self, id: PageId) {
        let (tenant, entry) = self.pages[id.0 as usize].cached();
        let (leaf, tick) = (entry.children == 0, entry.tick);
        if leaf {
            self.shelf.pull(tenant, tick);
        }
        self.shelf.wake(tenant);
        self.stats.cached -= 1;
        self.unindex(id);
        self.free(id, tenant);
    }

    fn free(&mut self, id: PageId, tenant: TenantId) {
        self.shelf.give(tenant);
        self.stats.free += 1;
        self.free.push(id);
    }
}

impl Page {
    fn tenant(&self) -> TenantId {
        self.owner.expect("a page that is not free has an owner").tenant
    }

    fn cached(&self) -> (TenantId, &Entry) {
        (self.tenant(), self.entry.as_ref().expect("a page without references is cached if it is not free"))
    }
}
