//! A bucket that refills evenly over a minute, in integers.
//!
//! What is in it is counted in parts: one token is as many parts as a minute has nanoseconds, so a nanosecond refills
//! exactly `quota` parts and nothing is ever rounded. It may owe: a call that used more than it reserved is paid for by
//! those after it.

use std::time::Duration;

/// Nanoseconds of a minute, and parts of a token.
const MINUTE_NS: i128 = 60_000_000_000;

/// What is left of a quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Parts taken and not yet refilled; below zero after a refund of more than is missing.
    missing: i128,
    refilled: Duration,
}

impl Bucket {
    fn refill(&mut self, quota: u64, now: Duration) {
        let passed = now.saturating_sub(self.refilled);
        self.refilled = self.refilled.max(now);
        let parts = i128::try_from(passed.as_nanos()).unwrap_or(i128::MAX).saturating_mul(i128::from(quota));
        self.missing = self.missing.saturating_sub(parts).max(0);
    }

    /// How long until `asked` can be taken; `None`: now. `asked` is at most `quota`.
    pub fn wait(&mut self, quota: u64, asked: u64, now: Duration) -> Option<Duration> {
        self.refill(quota, now);
        let room = i128::from(quota) * MINUTE_NS - self.missing;
        let lacking = i128::from(asked) * MINUTE_NS - room;
        if lacking <= 0 {
            return None;
        }
        let nanoseconds = (lacking + i128::from(quota) - 1) / i128::from(quota.max(1));
        Some(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)))
    }

    /// Takes; whether there is enough was asked before.
    pub fn take(&mut self, tokens: u64) {
        self.missing = self.missing.saturating_add(i128::from(tokens) * MINUTE_NS);
    }

    /// Gives back what was reserved and takes what was used.
    pub fn settle(&mut self, reserved: u64, used: u64) {
        self.missing = self.missing.saturating_add((i128::from(used) - i128::from(reserved)) * MINUTE_NS);
    }
}
