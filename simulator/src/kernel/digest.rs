//! A running digest of the event log: equal digests mean equal runs.
//!
//! 128 bits of multiply-and-mix: not cryptographic, cheap enough for every event.

/// The digest so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    a: u64,
    b: u64,
    /// Entries so far.
    pub entries: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { a: 0x9e37_79b9_7f4a_7c15, b: 0xc2b2_ae3d_27d4_eb4f, entries: 0 }
    }
}

impl Digest {
    /// Adds one entry.
    pub fn add(&mut self, at: u64, code: u64, x: u64, y: u64) {
        self.entries += 1;
        let left = (self.a ^ at).wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(29) ^ x;
        let right = (self.b ^ code).wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(31) ^ y;
        self.a = left.wrapping_mul(0x9fb2_1c65_1e98_df25) ^ (right >> 32);
        self.b = right.wrapping_mul(0xd6e8_feb8_6659_fd93) ^ (left >> 32);
    }

    /// As hex.
    pub fn hex(&self) -> String {
        format!("{:016x}{:016x}", self.a, self.b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_every_field_matter() {
        let of = |entries: &[(u64, u64, u64, u64)]| {
            let mut d = Digest::default();
            entries.iter().for_each(|&(t, c, x, y)| d.add(t, c, x, y));
            d.hex()
        };
        let base = of(&[(1, 2, 3, 4), (5, 6, 7, 8)]);
        assert_eq!(base, of(&[(1, 2, 3, 4), (5, 6, 7, 8)]));
        for other in [
            of(&[(5, 6, 7, 8), (1, 2, 3, 4)]),
            of(&[(1, 2, 3, 4), (5, 6, 7, 9)]),
            of(&[(1, 2, 3, 4), (5, 6, 8, 8)]),
            of(&[(1, 2, 3, 4)]),
        ] {
            assert_ne!(base, other);
        }
    }
}
