//! Two lists of decisions: how much they have in common, and where they first part.
//!
//! Times and the executors' own numbers differ between worlds, so a decision is what was done for which function. In
//! order, common decisions are a longest common subsequence; by request, what became of a function's n-th call is
//! compared: calls of two functions at one moment may change places without meaning anything.

use coldframe_policy::artifact::{Class, Tier};
use coldframe_policy::event::Refused;
use std::collections::BTreeMap;

/// Most differences that are searched for: beyond, the lists have too little in common for their order to tell anything.
const DIFFERENCES_MAX: usize = 20_000;

/// What was decided. Functions are named, since worlds number them as they come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// A request goes to an instance.
    Route(String),
    /// A request goes to the engine.
    Admit(String),
    /// An artifact comes nearer.
    Load(Class, Tier, String),
    /// Memory is freed.
    Evict(Class, Tier),
    /// An instance begins.
    Start(String),
    /// An instance ends.
    Stop,
    /// A request is turned away.
    Refuse(Refused, String),
}

/// When what was decided.
pub type Dated = (u64, Decision);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Admitted after waiting for these classes, as a set of bits by [`Class`].
    Admitted(u8),
    /// Turned away.
    Refused(Refused),
    /// Neither, by the end of the log.
    Open,
}

/// What became of each call, by function and in order of arrival.
pub type Fates = BTreeMap<String, Vec<Fate>>;

/// How far two lists of decisions agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// Decisions of each list: live, simulated.
    pub counts: [usize; 2],
    /// Share of both lists that is common, in order; `None` where they differ too much to tell.
    pub in_order: Option<f64>,
    /// Share of arrivals with the same fate; see [`same_fate`].
    pub by_request: f64,
    /// By kind of decision: how many live, how many simulated.
    pub kinds: BTreeMap<&'static str, [u64; 2]>,
    /// The first place where the lists differ, and what each decided there.
    pub parted: Option<Parted>,
}

/// Share of calls with the same fate, over pairs of runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SameFate {
    /// Mean of the pairs.
    pub mean: f64,
    /// Of the pair that agrees least.
    pub least: f64,
}

impl SameFate {
    /// Of each pair's share; `None` without one.
    pub fn of(shares: &[f64]) -> Option<Self> {
        let least = shares.iter().copied().reduce(f64::min)?;
        Some(Self { mean: shares.iter().sum::<f64>() / shares.len() as f64, least })
    }
}

/// Where two lists part.
#[derive(Clone, Debug, PartialEq)]
pub struct Parted {
    /// Which decision, from 0.
    pub place: usize,
    /// Live: when and what; `None` at the list's end.
    pub live: Option<Dated>,
    /// Simulated.
    pub simulated: Option<Dated>,
    /// The decision before, which both took.
    pub before: Option<Decision>,
}

impl Decision {
    /// Its kind in words.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Route(_) => "route",
            Self::Admit(_) => "admit",
            Self::Load(..) => "load",
            Self::Evict(..) => "evict",
            Self::Start(_) => "start",
            Self::Stop => "stop",
            Self::Refuse(..) => "refuse",
        }
    }
}

/// Compares live decisions with simulated ones; fates are by arrival.
pub fn agreement(live: &[Dated], simulated: &[Dated], fates: [&Fates; 2]) -> Agreement {
    let bare = |list: &[Dated]| list.iter().map(|(_, what)| what.clone()).collect::<Vec<_>>();
    let (a, b) = (bare(live), bare(simulated));
    let mut kinds: BTreeMap<&'static str, [u64; 2]> = BTreeMap::new();
    a.iter().for_each(|d| kinds.entry(d.kind()).or_default()[0] += 1);
    b.iter().for_each(|d| kinds.entry(d.kind()).or_default()[1] += 1);
    let all = a.len() + b.len();
    let common = |differences: usize| if all == 0 { 1.0 } else { 1.0 - differences as f64 / all as f64 };
    Agreement {
        counts: [a.len(), b.len()],
        in_order: differences(&a, &b, DIFFERENCES_MAX).map(common),
        by_request: same_fate(fates[0], fates[1]),
        kinds,
        parted: parted(live, simulated),
    }
}

/// Share of calls with the same fate in both; a call that one of them lacks differs. 1 where there are none.
pub fn same_fate(a: &Fates, b: &Fates) -> f64 {
    let none = Vec::new();
    let (mut same, mut all) = (0, 0);
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    for name in names {
        let (a, b) = (a.get(name).unwrap_or(&none), b.get(name).unwrap_or(&none));
        same += a.iter().zip(b).filter(|(a, b)| a == b).count();
        all += a.len().max(b.len());
    }
    if all == 0 { 1.0 } else { same as f64 / all as f64 }
}

fn parted(live: &[Dated], simulated: &[Dated]) -> Option<Parted> {
    let same = live.iter().zip(simulated).take_while(|(a, b)| a.1 == b.1).count();
    if same == live.len() && same == simulated.len() {
        return None;
    }
    Some(Parted {
        place: same,
        live: live.get(same).cloned(),
        simulated: simulated.get(same).cloned(),
        before: same.checked_sub(1).map(|n| live[n].1.clone()),
    })
}

/// Items that must go from one list or come from the other to make them equal (Myers's greedy search); `None` past
/// `most`.
pub fn differences<T: PartialEq>(a: &[T], b: &[T], most: usize) -> Option<usize> {
    let (n, m) = (a.len() as i64, b.len() as i64);
    let most = (most as i64).min(n + m);
    let at = |k: i64| (k + most + 1) as usize;
    // The farthest place on each diagonal after d differences.
    let mut far = vec![0i64; 2 * most as usize + 3];
    for d in 0..=most {
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && far[at(k - 1)] < far[at(k + 1)]);
            let mut x = if down { far[at(k + 1)] } else { far[at(k - 1)] + 1 };
            while x < n && x - k < m && x - k >= 0 && a[x as usize] == b[(x - k) as usize] {
                x += 1;
            }
            far[at(k)] = x;
            if x >= n && x - k >= m {
                return Some(d as usize);
            }
        }
    }
    None
}
