//! Waiting sequences: a queue for each lane, and a ring of lanes that take turns; those that yield come after the others.

use super::SequenceId;
use crate::kv::{Owner, TenantId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Who waits together: a function's sequences, those that yield apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lane {
    pub(super) owner: Owner,
    pub(super) yields: bool,
}

/// The queues.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// By age: a sequence that was put aside goes before those that never ran.
    queues: BTreeMap<Lane, BTreeSet<SequenceId>>,
    ring: VecDeque<Lane>,
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
    pub(super) fn put(&mut self, lane: Lane, id: SequenceId) {
        let queue = self.queues.entry(lane).or_insert_with(|| {
            self.ring.push_back(lane);
            BTreeSet::new()
        });
        if queue.insert(id) {
            self.len += 1;
            *self.waiting.entry(lane.owner.tenant).or_default() += 1;
        }
    }

    /// A sequence waits no longer.
    pub(super) fn take(&mut self, lane: Lane, id: SequenceId) {
        let Some(queue) = self.queues.get_mut(&lane) else { return };
        if !queue.remove(&id) {
            return;
        }
        self.len -= 1;
        if queue.is_empty() {
            self.queues.remove(&lane);
            self.ring.retain(|other| *other != lane);
        }
        let Some(count) = self.waiting.get_mut(&lane.owner.tenant) else { return };
        *count -= 1;
        if *count == 0 {
            self.waiting.remove(&lane.owner.tenant);
        }
    }

    /// The oldest sequence of each lane, in the order of their turns.
    pub(super) fn heads(&self) -> Vec<(Lane, SequenceId)> {
        let head = |lane: &Lane| Some((*lane, *self.queues.get(lane)?.first()?));
        let mut heads: Vec<_> = self.ring.iter().filter_map(head).collect();
        heads.sort_by_key(|(lane, _)| lane.yields);
        heads
    }

    /// The lane had its turn.
    pub(super) fn served(&mut self, lane: Lane) {
        if let Some(place) = self.ring.iter().position(|other| *other == lane) {
            self.ring.remove(place);
            self.ring.push_back(lane);
        }
    }
}
