//! Labelled random streams: one seed, one independent stream per source of chance.
//!
//! A new source takes a new label, so that it disturbs no other. Draws are integers; nothing here touches the operating
//! system's randomness.

use sha2::{Digest as _, Sha256};

/// One stream (SplitMix64 over a labelled start).
#[derive(Clone, Debug)]
pub struct Stream {
    state: u64,
}

impl Stream {
    /// The stream of a label under a seed.
    pub fn new(seed: u64, label: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(label.as_bytes());
        let bytes: [u8; 32] = hash.finalize().into();
        Self { state: u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..n`; 0 for `n = 0`.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// A duration with uniform jitter of up to `permille` either way.
    pub fn jitter(&mut self, ns: u64, permille: u32) -> u64 {
        let span = u128::from(ns) * u128::from(permille) / 1000;
        if span == 0 {
            return ns;
        }
        let offset = self.below(u64::try_from(2 * span + 1).unwrap_or(u64::MAX));
        (u128::from(ns) - span + u128::from(offset)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_independent_and_repeatable() {
        let draw = |seed, label| Stream::new(seed, label).next_u64();
        assert_eq!(draw(1, "loads"), draw(1, "loads"));
        assert_ne!(draw(1, "loads"), draw(1, "other"));
        assert_ne!(draw(1, "loads"), draw(2, "loads"));
    }

    #[test]
    fn jitter_stays_in_bounds() {
        let mut s = Stream::new(1, "x");
        assert!((0..1000).all(|_| (900..=1100).contains(&s.jitter(1000, 100))));
        assert_eq!(s.jitter(5, 0), 5);
    }
}
