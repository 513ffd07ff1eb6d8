//! Processor sharing in virtual time: a resource whose users slow each other down equally.
//!
//! Each user asks for an amount of work (picoseconds it would take alone). Virtual time runs at the speed one user gets,
//! so a user's finish never moves in virtual time, and one real event per resource is enough. A GPU has one slot
//! (`speed = 1/n`); a link has `bandwidth / cap per transfer` slots (`speed = min(1, slots/n)`).

/// A shared resource.
#[derive(Clone, Debug)]
pub struct Sharing {
    slots_milli: u64,
    now_ns: u64,
    virtual_ps: u64,
    users: Vec<(u64, u32)>,
    /// Counts changes, so that an event set before the last change can be told stale.
    pub generation: u64,
}

impl Sharing {
    /// A resource with this many thousandths of a slot (at least one).
    pub fn new(slots_milli: u64) -> Self {
        Self { slots_milli: slots_milli.max(1), now_ns: 0, virtual_ps: 0, users: Vec::new(), generation: 0 }
    }

    /// Users at work.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// Virtual time, ps, after moving the clock.
    pub fn advance(&mut self, now_ns: u64) -> u64 {
        let dt = now_ns - self.now_ns;
        self.now_ns = now_ns;
        match self.users.len() as u64 {
            0 => {}
            1 if self.slots_milli >= 1000 => self.virtual_ps += dt * 1000,
            n => {
                let (top, bottom) = self.speed(n);
                self.virtual_ps += (u128::from(dt) * 1000 * u128::from(top) / u128::from(bottom)) as u64;
            }
        }
        self.virtual_ps
    }

    fn speed(&self, n: u64) -> (u64, u64) {
        (self.slots_milli.min(1000 * n), 1000 * n)
    }

    /// Virtual time as of the last advance, ps.
    pub fn virtual_ps(&self) -> u64 {
        self.virtual_ps
    }

    /// A user starts work that would take `work_ps` alone; advance first.
    pub fn start(&mut self, user: u32, work_ps: u64) {
        self.generation += 1;
        self.users.push((self.virtual_ps.saturating_add(work_ps), user));
    }

    /// Moves a user's finish to a virtual time.
    pub fn retarget(&mut self, user: u32, target_ps: u64) {
        self.generation += 1;
        if let Some(slot) = self.users.iter_mut().find(|(_, u)| *u == user) {
            slot.0 = target_ps;
        }
    }

    /// A user's finish in virtual time.
    pub fn target(&self, user: u32) -> Option<u64> {
        self.users.iter().find(|(_, u)| *u == user).map(|&(t, _)| t)
    }

    /// Takes a user whose work is complete, smallest (finish, number) first; advance first.
    pub fn take_done(&mut self) -> Option<u32> {
        let next = self.users.iter().enumerate().min_by_key(|(_, u)| **u)?;
        let (at, &(target, user)) = next;
        if target > self.virtual_ps {
            return None;
        }
        self.generation += 1;
        self.users.swap_remove(at);
        Some(user)
    }

    /// Removes a user, done or not.
    pub fn remove(&mut self, user: u32) {
        self.generation += 1;
        self.users.retain(|&(_, u)| u != user);
    }

    /// Real time of the next completion, ns.
    pub fn next_done_at(&self) -> Option<u64> {
        let target = self.users.iter().min()?.0;
        let left = target.saturating_sub(self.virtual_ps);
        let n = self.users.len() as u64;
        if n == 1 && self.slots_milli >= 1000 {
            return Some(self.now_ns.saturating_add(left.div_ceil(1000)));
        }
        let (top, bottom) = self.speed(n);
        let wait = (u128::from(left) * u128::from(bottom)).div_ceil(u128::from(top) * 1000);
        Some(self.now_ns.saturating_add(u64::try_from(wait).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts (ns, work ns) and expects completions (ns, user) in order.
    fn check(slots_milli: u64, starts: &[(u64, u64)], done: &[(u64, u32)]) {
        let mut s = Sharing::new(slots_milli);
        let mut todo: Vec<(u64, u32, u64)> =
            starts.iter().enumerate().map(|(n, &(t, w))| (t, n as u32, w)).collect();
        let mut got = Vec::new();
        loop {
            let start = todo.first().map(|t| t.0);
            let end = s.next_done_at();
            match (start, end) {
                (None, None) => break,
                (Some(t), e) if e.is_none_or(|e| t < e) => {
                    let (t, user, work) = todo.remove(0);
                    s.advance(t);
                    s.start(user, work * 1000);
                }
                (_, e) => {
                    let e = e.expect("an end");
                    s.advance(e);
                    while let Some(user) = s.take_done() {
                        got.push((e, user));
                    }
                }
            }
        }
        assert_eq!(got, done);
    }

    #[test]
    fn one_user_takes_its_own_time() {
        check(1000, &[(5, 10)], &[(15, 0)]);
    }

    #[test]
    fn two_users_slow_each_other_down() {
        check(1000, &[(0, 10), (0, 10)], &[(20, 0), (20, 1)]);
        check(1000, &[(0, 10), (5, 10)], &[(15, 0), (20, 1)]);
    }

    #[test]
    fn a_wide_link_carries_several_at_full_speed() {
        check(2000, &[(0, 10), (0, 10)], &[(10, 0), (10, 1)]);
        check(2000, &[(0, 10), (0, 10), (0, 10), (0, 10)], &[(20, 0), (20, 1), (20, 2), (20, 3)]);
    }
}
