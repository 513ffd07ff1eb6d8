//! Waiting sequences: a queue for each function, and a ring of functions that take turns.

use super::SequenceId;
use crate::kv::{Owner, TenantId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By age: a sequence that was put aside goes before those that never ran.
    queues: BTreeMap<Owner, BTreeSet<SequenceId>>,
    ring: VecDeque<Owner>,
    waiting: BTreeMap<TenantId, usize>,
    len: usize,
}

impl Lanes {
    /// Sequences that wait.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Sequences of a tenant that wait.
    pub(super) fn len_of(&self, tenant: TenantId) -> usize {
        self.waiting.get(&tenant).copied().unwrap_or(0)
    }

    /// A sequence waits.
    pub(super) fn put(&mut self, owner: Owner, id: SequenceId) {
        let queue = self.queues.entry(owner).or_insert_with(|| {
            self.ring.push_back(owner);
            BTreeSet::new()
        });
        if queue.insert(id) {
            self.len += 1;
            *self.waiting.entry(owner.tenant).or_default() += 1;
        }
    }

    /// A sequence waits no longer.
    pub(super) fn take(&mut self, owner: Owner, id: SequenceId) {
        let Some(queue) = self.queues.get_mut(&owner) else { return };
        if !queue.remove(&id) {
            return;
        }
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&owner);
            self.ring.retain(|other| *other != owner);
        }
        let Some(count) = self.waiting.get_mut(&owner.tenant) else { return };
        *count -= 1;
        if *count == 0 {
            self.waiting.remove(&owner.tenant);
        }
    }

    /// The oldest sequence of each function, in the order of their turns.
    pub(super) fn heads(&self) -> Vec<(Owner, SequenceId)> {
        let head = |owner: &Owner| Some((*owner, *self.queues.get(owner)?.first()?));
        self.ring.iter().filter_map(head).collect()
    }

    /// The function had its turn.
    pub(super) fn served(&mut self, owner: Owner) {
        if let Some(place) = self.ring.iter().position(|other| *other == owner) {
            self.ring.remove(place);
            self.ring.push_back(owner);
        }
    }
}
