//! The engine against an oracle that goes one step at a time: same tokens at the same picosecond.
//!
//! The oracle follows the same rules without closed forms, heaps or running sums. Isolation is left out: its rounding
//! is per phase by design.

use coldframe_simulator::engine::{Engine, EngineLimits, Outcome, Sequence, StepCost};
use coldframe_simulator::profile::RowTimes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::{BTreeMap, VecDeque};

const COST: StepCost = StepCost {
    prefill_floor: 5_000,
    prefill_a: 4_000,
    prefill_b: 70,
    prefill_c: 1,
    decode_a: 3_000,
    decode_b: 40,
    decode_c: 3,
    decode_rows: RowTimes(Vec::new()),
    host: 500,
    adapters: 90,
    adapter_token: 7,
    serving_row: 11,
    isolation_permille: 0,
};

/// Steps of one sequence are on the line; of 2 to 6 they take more than it says, and go on with it behind.
fn cost() -> StepCost {
    StepCost { decode_rows: RowTimes(vec![[1, 3_040], [2, 3_140], [6, 3_580]]), ..COST }
}

fn decode(rows: u64) -> u64 {
    match rows {
        1 => 3_040,
        2..=6 => 3_140 + (rows - 2) * 110,
        _ => 3_580 + (rows - 6) * 40,
    }
}

/// When each request got its first and its last token, and what was preempted.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    first: BTreeMap<u32, u64>,
    done: BTreeMap<u32, u64>,
    preempted: Vec<u32>,
    tokens: BTreeMap<u32, u64>,
}

#[derive(Clone, Copy)]
struct Running {
    sequence: Sequence,
    joined: u64,
    made: u32,
}

/// Every list spelled out, every step taken.
struct Oracle {
    limits: EngineLimits,
    waiting: VecDeque<Sequence>,
    prefilling: Vec<(Sequence, u32)>,
    running: Vec<Running>,
    joined: u64,
    seen: Seen,
}

impl Oracle {
    fn kv(&self) -> u64 {
        let rows = self.running.iter().map(|r| u64::from(r.sequence.prompt) + u64::from(r.made) - 1);
        rows.sum::<u64>() + self.prefilling.iter().map(|(_, filled)| u64::from(*filled)).sum::<u64>()
    }

    fn adapters(&self) -> BTreeMap<u32, u64> {
        let running = self.running.iter().map(|r| r.sequence);
        let all = running.chain(self.prefilling.iter().map(|(s, _)| *s));
        all.filter(|s| s.adapter_read > 0).map(|s| (s.function, s.adapter_read)).collect()
    }

    fn give_up_prefill(&mut self) {
        let (sequence, _) = self.prefilling.pop().expect("one under way");
        self.seen.preempted.push(sequence.id);
        self.waiting.push_front(sequence);
    }

    fn give_up_row(&mut self) {
        let newest = (0..self.running.len()).max_by_key(|&n| self.running[n].joined).expect("rows");
        let r = self.running.remove(newest);
        let mut sequence = r.sequence;
        (sequence.prompt, sequence.output) = (sequence.prompt + r.made, sequence.output - r.made);
        self.seen.preempted.push(sequence.id);
        self.waiting.push_front(sequence);
    }

    /// Chunks of this step, one per prompt under way (new ones included); `None` when no prompt gets a token.
    fn chunks(&mut self) -> Option<Vec<u64>> {
        let rows = self.running.len() as u64;
        let mut budget = u64::from(self.limits.max_tokens).saturating_sub(rows);
        let mut room = self.limits.pool_tokens.saturating_sub(self.kv() + rows);
        let mut chunks = Vec::new();
        for (sequence, filled) in &self.prefilling {
            let chunk = u64::from(sequence.prompt - filled).min(budget).min(room);
            (budget, room) = (budget - chunk, room - chunk);
            chunks.push(chunk);
        }
        let margin = if self.limits.pool_tokens == u64::MAX { 0 } else { self.limits.pool_tokens / 100 };
        let mut at = 0;
        while at < self.waiting.len().min(64) && budget > 0 {
            if self.running.len() + self.prefilling.len() >= self.limits.max_sequences as usize {
                break;
            }
            let s = self.waiting[at];
            let adapters = self.adapters();
            let cap = self.limits.max_adapters as usize;
            if cap > 0 && s.adapter_read > 0 && !adapters.contains_key(&s.function) && adapters.len() >= cap {
                at += 1;
                continue;
            }
            let busy = rows > 0 || !self.prefilling.is_empty();
            if busy && room < u64::from(s.prompt) + margin {
                break;
            }
            let chunk = u64::from(s.prompt).min(budget);
            (budget, room) = (budget - chunk, room.saturating_sub(chunk));
            self.waiting.remove(at);
            self.prefilling.push((s, 0));
            chunks.push(chunk);
        }
        (chunks.iter().sum::<u64>() > 0).then_some(chunks)
    }

    /// `chunks` are the prompt tokens of this step.
    fn adapter_work(&self, chunks: &[u64]) -> u64 {
        let read: u64 = self.adapters().values().sum();
        let under = |s: &Sequence| s.adapter_read > 0;
        let rows = self.running.iter().filter(|r| under(&r.sequence)).count() as u64;
        let prompts = self.prefilling.iter().zip(chunks).filter(|((s, _), _)| under(s));
        let tokens = rows + prompts.map(|(_, chunk)| chunk).sum::<u64>();
        if read > 0 { COST.adapters + read + COST.adapter_token * tokens } else { 0 }
    }

    /// One step from `now`: its end, or `None` when there is nothing to do.
    fn step(&mut self, now: u64) -> Option<u64> {
        let mut chunks = self.chunks();
        while chunks.is_none() && self.running.is_empty() && !self.prefilling.is_empty() {
            self.give_up_prefill();
            chunks = self.chunks();
        }
        if chunks.is_none() {
            while self.limits.pool_tokens.saturating_sub(self.kv()) < self.running.len() as u64 {
                if !self.prefilling.is_empty() {
                    self.give_up_prefill();
                } else if self.running.len() > 1 {
                    self.give_up_row();
                } else {
                    break;
                }
            }
            if self.running.is_empty() {
                return None;
            }
        }
        let (rows, cached) = (self.running.len() as u64, self.kv() - self.filled());
        let work = match &chunks {
            None => decode(rows),
            Some(chunks) => {
                let tokens: u64 = chunks.iter().sum();
                let square = |n: u64| n * n;
                let starts = self.prefilling.iter().map(|(_, filled)| u64::from(*filled));
                let squares: u64 = starts.zip(chunks).map(|(from, &n)| square(from + n) - square(from)).sum();
                let linear = COST.prefill_a + COST.prefill_b * (tokens + rows) + COST.prefill_c * squares;
                COST.prefill_floor.max(linear)
            }
        };
        let end = now
            + work
            + COST.decode_c * cached
            + COST.serving_row * rows
            + COST.host
            + self.adapter_work(chunks.as_deref().unwrap_or_default());
        for r in &mut self.running {
            r.made += 1;
            *self.seen.tokens.entry(r.sequence.id).or_default() += 1;
        }
        for r in self.running.iter().filter(|r| r.made == r.sequence.output) {
            self.seen.done.insert(r.sequence.id, end);
        }
        self.running.retain(|r| r.made < r.sequence.output);
        for (n, (s, filled)) in std::mem::take(&mut self.prefilling).into_iter().enumerate() {
            let filled = filled + chunks.as_ref().map_or(0, |c| c[n] as u32);
            if filled < s.prompt {
                self.prefilling.push((s, filled));
                continue;
            }
            *self.seen.tokens.entry(s.id).or_default() += 1;
            self.seen.first.entry(s.id).or_insert(end);
            if s.output == 1 {
                self.seen.done.insert(s.id, end);
            } else {
                self.joined += 1;
                self.running.push(Running { sequence: s, joined: self.joined, made: 1 });
            }
        }
        Some(end)
    }

    fn filled(&self) -> u64 {
        self.prefilling.iter().map(|(_, filled)| u64::from(*filled)).sum()
    }
}

fn by_oracle(limits: EngineLimits, arrivals: &[(u64, Sequence)]) -> Seen {
    let mut o = Oracle {
        limits,
        waiting: VecDeque::new(),
        prefilling: Vec::new(),
        running: Vec::new(),
        joined: 0,
        seen: Seen::default(),
    };
    let (mut now, mut next) = (0, 0);
    loop {
        while next < arrivals.len() && arrivals[next].0 <= now {
            o.waiting.push_back(arrivals[next].1);
            next += 1;
        }
        match o.step(now) {
            Some(end) => now = end,
            None if next < arrivals.len() => now = arrivals[next].0,
            None => return o.seen,
        }
    }
}

fn by_engine(limits: EngineLimits, arrivals: &[(u64, Sequence)]) -> Result<Seen, TestCaseError> {
    let mut engine = Engine::new(cost(), limits);
    let mut seen = Seen::default();
    let outputs: BTreeMap<u32, u64> = arrivals.iter().map(|(_, s)| (s.id, u64::from(s.output))).collect();
    let (mut out, mut end, mut next) = (Vec::new(), None::<u64>, 0);
    loop {
        let arrival = arrivals.get(next).map(|a| a.0);
        let now = match (arrival, end) {
            (Some(at), e) if e.is_none_or(|e| at <= e) => {
                engine.push(arrivals[next].1);
                next += 1;
                if arrivals.get(next).is_some_and(|a| a.0 == at) {
                    continue;
                }
                if engine.idle() {
                    end = engine.begin(at, &mut out);
                } else if let Some(cut) = engine.cut(at) {
                    prop_assert!(cut >= at, "a cut at {at} ends before, at {cut}");
                    end = Some(cut);
                }
                at
            }
            (_, Some(e)) => {
                engine.complete(&mut out);
                end = None;
                prop_assert!(engine.kv_tokens() <= limits.pool_tokens, "more KV than the pool has");
                e
            }
            (_, None) => break,
        };
        let completed = end.is_none();
        for outcome in out.drain(..) {
            match outcome {
                Outcome::First(id) => drop(seen.first.entry(id).or_insert(now)),
                Outcome::Done(id) => drop(seen.done.insert(id, now)),
                Outcome::Preempted(id) => seen.preempted.push(id),
                Outcome::Scheduled(_) => {}
            }
        }
        if completed && engine.idle() {
            end = engine.begin(now, &mut out);
        }
    }
    for outcome in out {
        prop_assert!(matches!(outcome, Outcome::Scheduled(_)), "{outcome:?} after the end");
    }
    prop_assert_eq!((engine.kv_tokens(), engine.sequences()), (0, 0), "something is left");
    prop_assert_eq!(engine.preemptions, seen.preempted.len() as u64);
    seen.tokens = outputs;
    Ok(seen)
}

fn limits() -> impl Strategy<Value = EngineLimits> {
    let sequences = prop_oneof![Just(1u32), Just(2), Just(4), Just(64)];
    let tokens = prop_oneof![Just(1u32), Just(3), Just(40), Just(500)];
    let pool = prop_oneof![Just(160u64), Just(400), Just(2_000), Just(u64::MAX)];
    (sequences, tokens, 0u32..4, pool).prop_map(|(max_sequences, max_tokens, max_adapters, pool_tokens)| {
        EngineLimits { max_sequences, max_tokens, max_adapters, prefill_quantum: 0, pool_tokens }
    })
}

fn arrivals() -> impl Strategy<Value = Vec<(u64, Sequence)>> {
    let gap = prop_oneof![3 => Just(0u64), 3 => 1u64..9_000, 1 => 100_000u64..900_000];
    let output = prop_oneof![2 => Just(1u32), 3 => 2u32..20, 1 => 40u32..80];
    prop::collection::vec((gap, 0u32..5, 1u32..80, output), 1..40).prop_map(|rows| {
        let mut at = 0;
        let one = |(n, (gap, function, prompt, output)): (usize, (u64, u32, u32, u32))| {
            at += gap;
            let adapter_read = u64::from(function) * 11; // function 0 has none
            (at, Sequence { id: n as u32, function, adapter_read, prompt, output })
        };
        rows.into_iter().enumerate().map(one).collect()
    })
}

#[test]
fn every_token_at_the_oracles_picosecond() {
    let config = Config { cases: 3000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let result = TestRunner::new_with_rng(config, rng).run(&(limits(), arrivals()), |(limits, arrivals)| {
        prop_assert_eq!(by_engine(limits, &arrivals)?, by_oracle(limits, &arrivals));
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// The same under turns: nothing is lost, left or done twice, whatever the quantum.
#[test]
fn turns_lose_nothing() {
    let config = Config { cases: 1000, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let quantum = prop_oneof![Just(1u32), Just(7), Just(128)];
    let all = (limits(), quantum, arrivals());
    let result = TestRunner::new_with_rng(config, rng).run(&all, |(limits, prefill_quantum, arrivals)| {
        let limits = EngineLimits { prefill_quantum, max_tokens: limits.max_tokens.max(64), ..limits };
        by_engine(limits, &arrivals)?;
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// Two long prompts of one function and a short one of another: the short one does not wait for both.
#[test]
fn functions_take_turns_with_their_prompts() {
    let first_tokens = |prefill_quantum| {
        let limits = EngineLimits {
            max_sequences: 8,
            max_tokens: 100,
            max_adapters: 0,
            prefill_quantum,
            pool_tokens: u64::MAX,
        };
        let mut engine = Engine::new(cost(), limits);
        for (id, function, prompt) in [(0, 1, 150), (1, 1, 150), (2, 2, 40)] {
            engine.push(Sequence { id, function, adapter_read: 0, prompt, output: 1 });
        }
        let (mut out, mut now, mut steps) = (Vec::new(), 0, Vec::<Vec<u32>>::new());
        while let Some(end) = engine.begin(now, &mut out) {
            out.clear();
            now = end;
            engine.complete(&mut out);
            steps.push(
                out.iter()
                    .filter_map(|o| if let Outcome::First(id) = o { Some(*id) } else { None })
                    .collect(),
            );
            out.clear();
        }
        steps
    };
    assert_eq!(first_tokens(0), [vec![], vec![0], vec![1], vec![2]]);
    assert_eq!(first_tokens(32), [vec![], vec![0, 2], vec![], vec![1]]);
}

/// One sequence decodes; cutting at any time ends the run at the first step border not before it.
#[test]
fn a_cut_ends_at_the_first_border() {
    let limits = EngineLimits {
        max_sequences: 4,
        max_tokens: 100,
        max_adapters: 0,
        prefill_quantum: 0,
        pool_tokens: u64::MAX,
    };
    let sequence = Sequence { id: 0, function: 0, adapter_read: 0, prompt: 10, output: 200 };
    let decoding = || {
        let mut engine = Engine::new(cost(), limits);
        let mut out = Vec::new();
        engine.push(sequence);
        let start = engine.begin(0, &mut out).expect("a prompt");
        engine.complete(&mut out);
        let end = engine.begin(start, &mut out).expect("a run");
        (engine, start, end)
    };
    let (_, start, end) = decoding();
    let borders: Vec<u64> = (1..=199u64)
        .map(|n| {
            start
                + n * (COST.decode_a + COST.decode_b + COST.decode_c * 10 + COST.serving_row + COST.host)
                + COST.decode_c * n * (n - 1) / 2
        })
        .collect();
    assert_eq!(borders.last(), Some(&end));
    for at in
        borders.iter().flat_map(|&b| [b - 1, b, b + 1]).filter(|&at| at <= end).chain([start, start + 1])
    {
        let first = borders.iter().copied().find(|&b| b >= at).expect("a border");
        let (mut engine, ..) = decoding();
        assert_eq!(engine.cut(at), Some(first), "cut at {at}");
        assert_eq!(engine.cut(at), Some(first), "cut twice at {at}");
    }
}
