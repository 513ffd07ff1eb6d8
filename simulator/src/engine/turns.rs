//! Prompts in turns: each function gets a quantum of prompt tokens before it is the next one's, as this project's engine
//! does it. Inside a function, first come, first served.
//!
//! The other way, one prompt after the other until the step is full, is [`super`]'s.

use super::{Engine, Outcome, grown};
use std::collections::{BTreeMap, VecDeque};

/// What a step still has room for, and what it has taken.
pub(super) struct Step {
    /// Tokens.
    pub(super) budget: u64,
    /// KV tokens.
    pub(super) room: u64,
    /// Prompt tokens taken.
    pub(super) tokens: u64,
    /// Growth of the squares of their contexts.
    pub(super) squares: u128,
}

impl Step {
    /// Takes a chunk that follows `before` tokens of the same prompt.
    pub(super) fn take(&mut self, before: u64, chunk: u64) {
        self.budget -= chunk;
        self.room = self.room.saturating_sub(chunk);
        self.tokens += chunk;
        self.squares += grown(before, chunk);
    }
}

impl Engine {
    /// Admits every waiting prompt that has a place, then hands out the step's tokens by turns.
    pub(super) fn by_turns(&mut self, step: &mut Step, out: &mut Vec<Outcome>) {
        let mut free = step.room;
        while self.sequences_in_step() < self.limits.max_sequences as usize {
            let busy = self.sequences_in_step() > 0;
            let Some(&sequence) = self.waiting.front().filter(|s| self.adapter_fits(s)) else { break };
            if busy && free < u64::from(sequence.prompt) {
                break;
            }
            free = free.saturating_sub(u64::from(sequence.prompt));
            self.waiting.pop_front();
            self.adapter_joins(&sequence);
            out.push(Outcome::Scheduled(sequence.id));
            self.prefilling.push((sequence, 0));
        }
        self.chunks = vec![0; self.prefilling.len()];
        let quantum = u64::from(self.limits.prefill_quantum);
        let mut turns = self.turns();
        while let Some((function, mut queue)) = turns.pop_front() {
            let Some(&place) = queue.front() else { continue };
            let (sequence, filled) = self.prefilling[place];
            let before = u64::from(filled + self.chunks[place]);
            let left = u64::from(sequence.prompt) - before;
            let chunk = left.min(quantum).min(step.budget).min(step.room);
            if chunk == left {
                queue.pop_front();
            }
            if chunk == 0 && left > 0 {
                continue;
            }
            self.turn = Some(function);
            step.take(before, chunk);
            self.chunks[place] += chunk as u32;
            turns.push_back((function, queue));
        }
    }

    /// Functions with prompts to compute, the one after the last served first, each with its prompts by age.
    fn turns(&self) -> VecDeque<(u32, VecDeque<usize>)> {
        let mut lanes: BTreeMap<u32, VecDeque<usize>> = BTreeMap::new();
        for (place, (sequence, _)) in self.prefilling.iter().enumerate() {
            lanes.entry(sequence.function).or_default().push_back(place);
        }
        let mut turns: VecDeque<_> = lanes.into_iter().collect();
        let next = |function: u32| self.turn.is_none_or(|last| function > last);
        let first = turns.iter().position(|(function, _)| next(*function)).unwrap_or(0);
        turns.rotate_left(first);
        turns
    }
}
