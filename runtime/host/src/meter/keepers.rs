//! Who kept a shared backbone alive: the Shapley value of the residency game, in closed form.
//!
//! The game: a group of functions alone would have kept the backbone for the time in which at least one of them needed
//! it. Each instant is a unanimity-like game of those who need it then, so its value is shared equally among them, and
//! the Shapley value, being additive, is `φ_i = ∫ [i ∈ S(t)] / |S(t)| dt`: one pass over time instead of n! orders.
//! While nobody needs it, whoever needed it last keeps it: their keep-alive is what holds it.

use std::collections::BTreeMap;

/// Parts of a nanosecond in a weight: a share of an instant is seldom whole.
pub const SHARE_UNIT: u64 = 1 << 16;

/// Weights as they grow. `K` names a function.
#[derive(Debug, Clone, Default)]
pub struct Keepers<K: Ord + Clone> {
    since: u64,
    now: Vec<K>,
    weights: BTreeMap<K, u64>,
}

impl<K: Ord + Clone> Keepers<K> {
    /// From `at` (ns) on these need it; an empty set leaves it to those before.
    pub fn set(&mut self, at: u64, mut needing: Vec<K>) {
        self.advance(at);
        needing.sort();
        needing.dedup();
        if !needing.is_empty() {
            self.now = needing;
        }
    }

    /// Weights until `at`, in 1/[`SHARE_UNIT`] of a nanosecond; they start again from nothing.
    pub fn take(&mut self, at: u64) -> BTreeMap<K, u64> {
        self.advance(at);
        std::mem::take(&mut self.weights)
    }

    /// It is gone: who needed it no longer counts.
    pub fn clear(&mut self) {
        self.now.clear();
    }

    fn advance(&mut self, at: u64) {
        let passed = at.saturating_sub(self.since);
        self.since = self.since.max(at);
        if passed == 0 || self.now.is_empty() {
            return;
        }
        let all = u128::from(passed) * u128::from(SHARE_UNIT);
        let share = u64::try_from(all / self.now.len() as u128).unwrap_or(u64::MAX);
        for keeper in &self.now {
            let weight = self.weights.entry(keeper.clone()).or_default();
            *weight = weight.saturating_add(share);
        }
    }
}
