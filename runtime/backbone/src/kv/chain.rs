//! Keys of full pages: a keyed hash over the owner, the key of the page before, and the page's token ids.
//!
//! The secret is drawn once per process, so that no one outside can make two pages collide; and a hit is believed only
//! after the token ids are compared ([`super::Book`] does), so that even a collision shares nothing.

use super::Owner;
use sha2::{Digest, Sha256};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// Key of a full page: 128 bits of SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u128);

/// Makes keys.
#[derive(Debug, Clone)]
pub struct Chain {
    secret: [u8; 32],
    bits: u32,
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// A chain with a secret of its own, from the system's randomness.
    pub fn new() -> Self {
        let mut secret = [0; 32];
        for (index, part) in secret.chunks_exact_mut(8).enumerate() {
            // The standard library seeds each `RandomState` from the system: 128 bits that no one outside knows.
            part.copy_from_slice(&RandomState::new().hash_one(index).to_le_bytes());
        }
        Self { secret, bits: 128 }
    }

    /// Keeps only the lowest `bits` bits of each key: a way to force the collisions that 128 bits never show.
    pub fn shortened(self, bits: u32) -> Self {
        Self { bits: bits.min(128), ..self }
    }

    /// The key of a page of `tokens` that follows the page `parent`.
    pub fn key(&self, owner: &Owner, parent: Option<Key>, tokens: &[u32]) -> Key {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(owner.tenant.0.to_le_bytes());
        hash.update([u8::from(owner.generation.is_some())]);
        hash.update(owner.generation.map_or([0; 32], |generation| generation.0));
        hash.update([u8::from(parent.is_some())]);
        hash.update(parent.map_or(0, |key| key.0).to_le_bytes());
        for token in tokens {
            hash.update(token.to_le_bytes());
        }
        let digest = hash.finalize();
        let mut low = [0; 16];
        low.copy_from_slice(&digest[..16]);
        let all = u128::from_le_bytes(low);
        Key(if self.bits >= 128 { all } else { all & ((1 << self.bits) - 1) })
    }
}
