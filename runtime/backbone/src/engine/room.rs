//! Pages for running sequences: growing, putting the newest aside, bringing them back.
//!
//! The oldest running sequence can always take what it needs from newer ones, so that something always ends; those that yield
//! count as newer than all others.

use super::plan::Planned;
use super::sequence::Phase;
use super::{Engine, SequenceId, What};
use crate::executor::{PAGE_TOKENS, PageId};
use crate::kv::{Effect, Owner, Reach};

impl Engine {
    /// Gets pages for the next `take` tokens of a sequence, putting newer ones aside if need be (and out of `plan`).
    ///
    /// Returns for how many of them there are pages.
    pub(super) fn cover(&mut self, id: SequenceId, take: usize, plan: &mut Vec<Planned>) -> usize {
        let (owner, computed) = (self.sequences[&id].owner, self.sequences[&id].computed);
        let tail = computed / PAGE_TOKENS;
        if let Some(shared) = self.sequences[&id].pages.get(tail).copied() {
            let own = self.obtain(id, plan, &mut |engine, reach| engine.book.writable(shared, reach));
            let Some(own) = own else { return 0 };
            self.page_list(id)[tail] = own;
        }
        while self.sequences[&id].pages.len() * PAGE_TOKENS < computed + take {
            let page = self.obtain(id, plan, &mut |engine, reach| engine.book.allocate(owner, reach));
            let Some(page) = page else { break };
            self.page_list(id).push(page);
        }
        take.min(self.sequences[&id].pages.len() * PAGE_TOKENS - computed)
    }

    /// Puts a running sequence aside: its pages go to host memory if they fit there, else they are computed again. Pages
    /// of one that yields are free at once, not cached: they must not stand in the way of whom it gives way to.
    ///
    /// Returns whether it was running.
    pub fn preempt(&mut self, id: SequenceId) -> bool {
        if !self.running.remove(&id) {
            return false;
        }
        // Pages that are about to be copied or cleared are not what they will be yet.
        self.apply_effects();
        let phase = self.swap_out(id);
        let sequence = self.sequences.get_mut(&id).expect("a running sequence lives");
        if phase == Phase::Waiting {
            sequence.computed = 0;
        }
        sequence.phase = phase;
        while let Some(page) = sequence.pages.pop() {
            if sequence.yields { self.book.discard(page) } else { self.book.release(page) }
        }
        self.lanes.put(sequence.lane(), id);
        self.stats.preempted += 1;
        true
    }

    /// Moves a waiting sequence into the batch; `false` leaves everything as it was.
    pub(super) fn start(&mut self, id: SequenceId) -> bool {
        let reach = self.reach_of(id);
        let sequence = self.sequences.get_mut(&id).expect("a waiting sequence lives");
        let (owner, lane) = (sequence.owner, sequence.lane());
        let mut pages = self.book.adopt(owner, &sequence.tokens);
        let found = pages.len();
        while pages.len() < sequence.filled() {
            let Some(page) = self.book.allocate(owner, reach) else {
                pages.into_iter().rev().for_each(|page| self.book.release(page));
                return false;
            };
            pages.push(page);
        }
        sequence.computed = sequence.computed.max(found * PAGE_TOKENS);
        sequence.pages = pages;
        let phase = std::mem::replace(&mut sequence.phase, Phase::Running);
        let told = (sequence.prompt, found * PAGE_TOKENS, sequence.cached.is_none());
        sequence.cached.get_or_insert(found * PAGE_TOKENS);
        self.lanes.take(lane, id);
        self.running.insert(id);
        if let Phase::Swapped(bytes) = phase {
            self.swap_in(id, found, &bytes);
        }
        match told {
            (prompt, cached, true) => self.tell(id, What::Started { prompt, cached }),
            _ => self.stats.resumed += 1,
        }
        true
    }

    /// Does to the executor's pages what the book decided.
    pub(super) fn apply_effects(&mut self) {
        for effect in self.book.take_effects() {
            match effect {
                Effect::Clear(page) => self.executor.clear_page(page),
                Effect::Copy { from, to } => self.executor.copy_page(from, to),
            }
        }
    }

    /// A page by `get`, putting aside whoever is newest until there is one or no one newer is left.
    fn obtain(
        &mut self,
        id: SequenceId,
        plan: &mut Vec<Planned>,
        get: &mut dyn FnMut(&mut Self, Reach) -> Option<PageId>,
    ) -> Option<PageId> {
        loop {
            if let Some(page) = get(self, Reach::Fair) {
                return Some(page);
            }
            let owner = self.sequences[&id].owner;
            let beyond_share = self.book.available(owner.tenant, Reach::Any) > 0;
            if let Some(victim) = self.newest_after(id, beyond_share.then_some(owner)) {
                self.preempt(victim);
                plan.retain(|planned| planned.id != victim);
            } else if beyond_share && self.reach_of(id) == Reach::Any {
                return get(self, Reach::Any);
            } else {
                return None;
            }
        }
    }

    /// The newest running sequence that is newer than `id`, of this owner's tenant only if one is given.
    fn newest_after(&self, id: SequenceId, of: Option<Owner>) -> Option<SequenceId> {
        let age = |id: SequenceId| (self.sequences[&id].yields, id);
        let of_tenant =
            |other: &SequenceId| of.is_none_or(|owner| self.sequences[other].owner.tenant == owner.tenant);
        let newer = self.running.iter().copied().filter(|other| age(*other) > age(id));
        newer.filter(of_tenant).max_by_key(|other| age(*other))
    }

    fn page_list(&mut self, id: SequenceId) -> &mut Vec<PageId> {
        &mut self.sequences.get_mut(&id).expect("a running sequence lives").pages
    }

    /// Copies a sequence's pages to host memory if they fit.
    fn swap_out(&mut self, id: SequenceId) -> Phase {
        let sequence = &self.sequences[&id];
        let pages = &sequence.pages[..sequence.filled()];
        let needed = pages.len() as u64 * self.executor.page_bytes();
        if pages.is_empty() || self.swapped + needed > self.options.swap_bytes {
            return Phase::Waiting;
        }
        let mut bytes = Vec::with_capacity(needed as usize);
        pages.iter().for_each(|page| self.executor.export_page(*page, &mut bytes));
        self.swapped += bytes.len() as u64;
        Phase::Swapped(bytes)
    }

    /// Fills the pages after the first `found` from host memory.
    fn swap_in(&mut self, id: SequenceId, found: usize, bytes: &[u8]) {
        self.apply_effects();
        let pages = self.sequences[&id].pages.clone();
        let saved = bytes.chunks_exact(self.executor.page_bytes() as usize);
        for (page, saved) in pages.iter().zip(saved).skip(found) {
            self.executor.import_page(*page, saved);
        }
        self.swapped -= bytes.len() as u64;
        self.index_pages(id, found);
    }
}
