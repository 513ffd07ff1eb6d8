//! Standing: a function whose code has broken a limit of the sandbox gives way to all others for a while.
//!
//! What it generates meanwhile runs where the engine has nothing else to do, and a little beside others. A broken limit ends
//! its call at once, but code that breaks them again and again would still have the engine compute for it in between, and
//! neighbours would wait. Which ends count is told here; what yielding means is the engine's. Kept in memory only.

use super::logs::FunctionLog;
use crate::records::Names;
use coldframe_sandbox::services::Level;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after the last broken limit. Arbitrary: long beside any call, short beside a deployment that puts it right.
const YIELDS_FOR: Duration = Duration::from_secs(10);

/// Ends that count. A deadline and a budget of tokens do not: a function on a busy server reaches them without a fault. That of
/// the token hook does, since it counts only what the hook computes.
const MISDEEDS: [&str; 15] = [
    "out_of_fuel",
    "memory",
    "table",
    "stack",
    "trap",
    "output",
    "generations",
    "host_calls",
    "http_calls",
    "state",
    "not_granted",
    "hook_deadline",
    "hook_fuel",
    "hook_stack",
    "hook_trap",
];

/// Whether an end of this code is a broken limit that the function is to blame for.
fn is_misdeed(code: &str) -> bool {
    MISDEEDS.contains(&code)
}

/// Functions that broke a limit lately, and when they last did.
#[derive(Debug, Default)]
pub struct Standings {
    broke: Mutex<BTreeMap<Names, Instant>>,
}

impl Standings {
    /// A function broke a limit; says whether it was in good standing until now.
    pub fn broke(&self, names: &Names, now: Instant) -> bool {
        let mut broke = self.broke.lock().unwrap_or_else(PoisonError::into_inner);
        broke.retain(|_, last| lasts(*last, now));
        broke.insert(names.clone(), now).is_none()
    }

    /// Whether what a function generates yields.
    pub fn yields(&self, names: &Names, now: Instant) -> bool {
        let broke = self.broke.lock().unwrap_or_else(PoisonError::into_inner);
        broke.get(names).is_some_and(|last| lasts(*last, now))
    }
}

/// Where a call's ends are judged and told.
#[derive(Clone)]
pub(super) struct Conduct {
    pub(super) standings: Arc<Standings>,
    pub(super) names: Names,
    pub(super) log: Arc<FunctionLog>,
    /// Number of the call.
    pub(super) call: String,
}

impl Conduct {
    /// The call, or a generation of it, ended with this code.
    pub(super) fn ended(&self, code: &str) {
        if is_misdeed(code) && self.standings.broke(&self.names, Instant::now()) {
            let seconds = YIELDS_FOR.as_secs();
            let what = format!(
                "`{code}`: until {seconds} s after the last such end it generates only what others leave of the engine"
            );
            self.log.write(&self.call, Level::Warn, &what);
        }
    }
}

fn lasts(broke: Instant, now: Instant) -> bool {
    now.saturating_duration_since(broke) < YIELDS_FOR
}

#[cfg(test)]
mod tests {
    use super::{Standings, YIELDS_FOR, is_misdeed};
    use crate::records::Names;
    use std::time::{Duration, Instant};

    #[test]
    fn a_broken_limit_counts_for_a_while_after_the_last_one() {
        let (standings, start) = (Standings::default(), Instant::now());
        let names = |tenant: &str| Names { tenant: tenant.to_owned(), function: "f".to_owned() };
        let (hog, other) = (names("a"), names("b"));
        assert!(!standings.yields(&hog, start));
        assert!(standings.broke(&hog, start), "the first one is news");
        let later = start + YIELDS_FOR / 2;
        assert!(standings.yields(&hog, later) && !standings.broke(&hog, later));
        assert!(!standings.yields(&other, later), "one of the same name elsewhere has done nothing");
        let over = later + YIELDS_FOR;
        assert!(standings.yields(&hog, over - Duration::from_nanos(1)) && !standings.yields(&hog, over));
        assert!(standings.broke(&hog, over), "in good standing again until now");
    }

    #[test]
    fn what_a_busy_server_causes_is_no_misdeed() {
        assert!(is_misdeed("out_of_fuel") && is_misdeed("hook_trap") && is_misdeed("hook_deadline"));
        for code in ["deadline", "tokens", "busy", "closed", "its own word"] {
            assert!(!is_misdeed(code), "{code}");
        }
    }
}
