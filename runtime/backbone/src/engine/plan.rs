//! What goes into a step: who is admitted, whose decode rows, whose prefill chunks.

use super::sequence::Sequence;
use super::{Engine, SequenceId};
use crate::executor::PAGE_TOKENS;
use crate::kv::{Owner, Reach};
use std::collections::{BTreeMap, VecDeque};

/// A sequence's part of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) id: SequenceId,
    /// Tokens it advances by.
    pub(super) take: usize,
}

impl Engine {
    /// Lets waiting sequences run while there are seats and pages, a function at a time.
    pub(super) fn admit(&mut self) {
        loop {
            let mut admitted = false;
            for (lane, id) in self.lanes.heads() {
                match self.room_for(id) {
                    Room::Yes if self.start(id) => {
                        self.lanes.served(lane);
                        admitted = true;
                    }
                    // Beyond its share: its tenant waits for itself, others need not.
                    Room::BeyondShare => {}
                    Room::Yes | Room::No if !lane.yields && self.take_from_yielding(id) && self.start(id) => {
                        self.lanes.served(lane);
                        admitted = true;
                    }
                    // Who comes after must not take what this one waits for, or a large one would wait for ever.
                    Room::Yes | Room::No => return,
                }
            }
            if !admitted {
                return;
            }
        }
    }

    /// The batch of a step: decode rows oldest first, then prefill by turns. Those that yield have a step of their own, a short
    /// one, when no other runs, and a token of it now and then when others do.
    pub(super) fn plan(&mut self) -> Vec<Planned> {
        let yields = |id: &SequenceId| self.sequences[id].yields;
        let (yielding, usual): (Vec<_>, Vec<_>) = self.running.iter().copied().partition(yields);
        let mut plan = Vec::new();
        if usual.is_empty() {
            self.yielded = 0;
            let most = self.options.yielding_tokens.min(self.options.max_batched_tokens);
            self.plan_of(&yielding, most, &mut plan);
            return plan;
        }
        self.yielded += usize::from(!yielding.is_empty());
        let beside = usize::from(self.yielded >= self.options.yielding_steps);
        self.plan_of(&usual, self.options.max_batched_tokens - beside, &mut plan);
        if beside > 0 {
            self.plan_beside(&yielding, &mut plan);
        }
        plan
    }

    /// Plans a step of these alone.
    fn plan_of(&mut self, these: &[SequenceId], most: usize, plan: &mut Vec<Planned>) {
        for &id in these {
            // An older one may have put it aside meanwhile.
            if self.running.contains(&id) && self.sequences[&id].decoding() && self.cover(id, 1, plan) == 1 {
                plan.push(Planned { id, take: 1 });
            }
        }
        let mut budget = most.saturating_sub(plan.len());
        let mut turns = self.turns(these);
        while budget > 0 {
            let Some((owner, mut queue)) = turns.pop_front() else { break };
            let Some(id) = queue.pop_front() else { continue };
            let took = self.prefill(id, budget.min(self.options.prefill_quantum), plan);
            if took == 0 {
                continue;
            }
            self.turn = Some(owner);
            budget -= took;
            if planned(plan, id) < self.sequences[&id].pending() {
                queue.push_front(id);
            }
            turns.push_back((owner, queue));
        }
    }

    /// Plans one token for the next of those that yield.
    fn plan_beside(&mut self, yielding: &[SequenceId], plan: &mut Vec<Planned>) {
        let later = yielding.iter().find(|id| self.yielder.is_none_or(|last| **id > last));
        let Some(&id) = later.or(yielding.first()) else { return };
        (self.yielded, self.yielder) = (0, Some(id));
        if self.running.contains(&id) && self.cover(id, 1, plan) == 1 {
            plan.push(Planned { id, take: 1 });
        }
    }

    /// Plans up to `most` more tokens of a prompt; says how many.
    fn prefill(&mut self, id: SequenceId, most: usize, plan: &mut Vec<Planned>) -> usize {
        if !self.running.contains(&id) {
            return 0;
        }
        let already = planned(plan, id);
        let take = most.min(self.sequences[&id].pending() - already);
        let covered = self.cover(id, already + take, plan);
        let took = covered.saturating_sub(already);
        match plan.iter_mut().find(|planned| planned.id == id) {
            Some(planned) => planned.take += took,
            None if took > 0 => plan.push(Planned { id, take: took }),
            None => {}
        }
        took
    }

    /// Functions of these with prompts to compute, the one after the last served first, each with its sequences by age.
    fn turns(&self, these: &[SequenceId]) -> VecDeque<(Owner, VecDeque<SequenceId>)> {
        let mut lanes: BTreeMap<Owner, VecDeque<SequenceId>> = BTreeMap::new();
        for id in these.iter().filter(|id| self.running.contains(id)) {
            let sequence = &self.sequences[id];
            if !sequence.decoding() {
                lanes.entry(sequence.owner).or_default().push_back(*id);
            }
        }
        let mut turns: VecDeque<_> = lanes.into_iter().collect();
        let first =
            turns.iter().position(|(owner, _)| self.turn.is_none_or(|last| *owner > last)).unwrap_or(0);
        turns.rotate_left(first);
        turns
    }

    /// Whether a waiting sequence may run now.
    fn room_for(&self, id: SequenceId) -> Room {
        let sequence = &self.sequences[&id];
        let seats: usize = self.running.iter().map(|id| self.sequences[id].seats()).sum();
        if seats + sequence.seats() > self.options.max_sequences {
            return Room::No;
        }
        if sequence.yields {
            let yielding = |id: &&SequenceId| self.sequences[id].yields;
            let seats: usize =
                self.running.iter().filter(yielding).map(|id| self.sequences[id].seats()).sum();
            if seats > 0 && seats + sequence.seats() > self.options.yielding_tokens {
                return Room::BeyondShare;
            }
        }
        // A page in hand for each that runs, so that a newcomer is not put aside at once.
        let needed = pages_of(sequence) + self.running.len();
        let tenant = sequence.owner.tenant;
        if needed as u64 <= u64::from(self.book.available(tenant, self.reach_of(id))) {
            return Room::Yes;
        }
        let beyond = needed as u64 <= u64::from(self.book.available(tenant, Reach::Any));
        if beyond { Room::BeyondShare } else { Room::No }
    }

    /// Puts yielding sequences aside, the newest first, until this waiting one may run. None, where that would not do.
    fn take_from_yielding(&mut self, id: SequenceId) -> bool {
        if !self.fits_without_yielding(id) {
            return false;
        }
        while !matches!(self.room_for(id), Room::Yes) {
            let Some(newest) = self.running.iter().copied().filter(|id| self.sequences[id].yields).max()
            else {
                return false;
            };
            self.preempt(newest);
        }
        true
    }

    /// Whether a waiting sequence could run if none did that yields. Pages that only taking from other tenants' cached
    /// ones would give do not count.
    fn fits_without_yielding(&self, id: SequenceId) -> bool {
        let sequence = &self.sequences[&id];
        let (yielding, usual): (Vec<_>, Vec<_>) =
            self.running.iter().map(|id| &self.sequences[id]).partition(|running| running.yields);
        let seats: usize = usual.iter().map(|running| running.seats()).sum();
        let freed =
            yielding.iter().flat_map(|running| &running.pages).filter(|page| self.book.unshared(**page));
        let available =
            self.book.available_with(sequence.owner.tenant, self.reach_of(id), freed.count() as u32);
        !yielding.is_empty()
            && seats + sequence.seats() <= self.options.max_sequences
            && (pages_of(sequence) + usual.len()) as u64 <= u64::from(available)
    }

    /// A tenant of which nothing runs may always start something.
    pub(super) fn reach_of(&self, id: SequenceId) -> Reach {
        let tenant = self.sequences[&id].owner.tenant;
        let alone =
            !self.running.iter().any(|other| *other != id && self.sequences[other].owner.tenant == tenant);
        if alone { Reach::Any } else { Reach::Fair }
    }
}

/// Answer of [`Engine::room_for`].
enum Room {
    Yes,
    BeyondShare,
    No,
}

/// Pages for all tokens a sequence has now, and one token more if the pages exist at all.
fn pages_of(sequence: &Sequence) -> usize {
    sequence.tokens.len().min(sequence.most - 1).div_ceil(PAGE_TOKENS)
}

fn planned(plan: &[Planned], id: SequenceId) -> usize {
    plan.iter().find(|planned| planned.id == id).map_or(0, |planned| planned.take)
}
