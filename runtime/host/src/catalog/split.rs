//! Which of several weighted targets answers a request.
//!
//! By a hash of function and request, so that a repeated request meets the same generation and no state is kept.

use crate::records::{Names, Target};
use sha2::{Digest as _, Sha256};

/// The generation that answers; `None` without targets.
pub fn pick<'a>(targets: &'a [Target], names: &Names, request: &str) -> Option<&'a str> {
    let total: u64 = targets.iter().map(|target| u64::from(target.weight)).sum();
    let mut point = scaled(draw(names, request), total);
    for target in targets {
        match point.checked_sub(u64::from(target.weight)) {
            Some(rest) => point = rest,
            None => return Some(&target.generation),
        }
    }
    None
}

fn draw(names: &Names, request: &str) -> u64 {
    let mut hasher = Sha256::new();
    for part in [&names.tenant, &names.function, request] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hash = hasher.finalize();
    u64::from_le_bytes(hash[..8].try_into().expect("a hash has more than eight bytes"))
}

/// A draw in all of u64 as one below `total`, evenly.
fn scaled(draw: u64, total: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(total)) >> 64).expect("below total")
}
