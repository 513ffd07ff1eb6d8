//! Slows whoever guesses keys: each peer has a few wrong tries, which come back slowly.
//!
//! Pure: the time is given. Peers are addresses; a whole IPv6 /64 is one peer, since one customer has as many addresses
//! in it as they like. The table is bounded, so that an attack from everywhere costs a fixed amount of memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Wrong tries at once.
const TRIES: u32 = 10;
/// Time in which one try comes back.
const RECOVERY: Duration = Duration::from_secs(6);
/// Peers remembered.
const PEERS_MAX: usize = 16_384;

/// Wrong tries of all peers.
#[derive(Debug, Default)]
pub struct Limiter {
    /// When a peer will have all its tries again.
    settled: HashMap<IpAddr, Duration>,
}

fn peer_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(network.into())
        }
        other => other,
    }
}

impl Limiter {
    /// Whether a peer may try now; otherwise when it may.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn check(&self, peer: IpAddr, now: Duration) -> Result<(), Duration> {
        let settled = self.settled.get(&peer_of(peer)).copied().unwrap_or_default();
        let debt = settled.saturating_sub(now);
        match debt.checked_sub(RECOVERY * (TRIES - 1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// A peer's key was wrong.
    pub fn failed(&mut self, peer: IpAddr, now: Duration) {
        if self.settled.len() >= PEERS_MAX {
            self.forget(now);
        }
        let settled = self.settled.entry(peer_of(peer)).or_insert(now);
        *settled = (*settled).max(now).saturating_add(RECOVERY).min(now + RECOVERY * TRIES);
    }

    /// Makes room: peers that owe nothing go, and if that is not enough those that owe least.
    fn forget(&mut self, now: Duration) {
        self.settled.retain(|_, settled| *settled > now);
        if self.settled.len() >= PEERS_MAX {
            let mut debts: Vec<Duration> = self.settled.values().copied().collect();
            let (_, median, _) = debts.select_nth_unstable(PEERS_MAX / 2);
            let median = *median;
            self.settled.retain(|_, settled| *settled > median);
        }
    }

    /// Peers remembered now.
    pub fn peers(&self) -> usize {
        self.settled.len()
    }
}
