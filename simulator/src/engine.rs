//! One engine: continuous batching with chunked prefill over a KV pool, in steps of picoseconds.
//!
//! A run of decode steps in which nothing changes is one phase, its length in closed form. The engine knows step times
//! and tokens; it knows no clock (its phases are timed by the device it shares) and decides nothing about loading.
//! Fused step: dense time of all tokens, attention of both kinds, host constant, grouped adapter kernels. Source:
//! the check in the calibration tables, which reproduces real vLLM runs with it.

mod turns;

use crate::profile::RowTimes;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use turns::Step;

/// Waiting requests looked at behind ones whose adapter has no place: arbitrary, bounds the work of a step.
const LOOK_BEHIND: usize = 64;

/// Step times of one backbone on one device, picoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepCost {
    /// Shortest prefill.
    pub prefill_floor: u64,
    /// Constant of a prefill step.
    pub prefill_a: u64,
    /// Per prompt token.
    pub prefill_b: u64,
    /// Per prompt token squared.
    pub prefill_c: u64,
    /// Constant of a decode step.
    pub decode_a: u64,
    /// Per sequence.
    pub decode_b: u64,
    /// Per cached token.
    pub decode_c: u64,
    /// By sequences, in place of the first two.
    pub decode_rows: RowTimes,
    /// Host constant per step.
    pub host: u64,
    /// Grouped adapter kernels of all layers, when any adapter is in the step.
    pub adapters: u64,
    /// Per token that runs under an adapter.
    pub adapter_token: u64,
    /// Per sequence that gets a token, in any step.
    pub serving_row: u64,
    /// Thousandths added for process isolation.
    pub isolation_permille: u64,
}

impl StepCost {
    /// One prompt alone, host time included, ps.
    pub fn prefill_alone(&self, tokens: u64) -> u64 {
        let device = self.prefill(tokens, 0, u128::from(tokens) * u128::from(tokens));
        device + self.host + self.adapters + self.adapter_token * tokens
    }

    fn prefill(&self, tokens: u64, rows: u64, squares: u128) -> u64 {
        let attention = (u128::from(self.prefill_c) * squares) as u64;
        self.prefill_floor.max(self.prefill_a + self.prefill_b * (tokens + rows) + attention)
    }

    fn isolated(&self, ps: u64) -> u64 {
        match self.isolation_permille {
            0 => ps,
            more => ps + (u128::from(ps) * u128::from(more) / 1000) as u64,
        }
    }
}

/// Limits of one engine.
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Most sequences in a step.
    pub max_sequences: u32,
    /// Most tokens in a step.
    pub max_tokens: u32,
    /// Most distinct adapters in a step; 0 is no cap.
    pub max_adapters: u32,
    /// Prompt tokens that a function gets before it is the next one's turn; 0 takes prompts first come, first served.
    pub prefill_quantum: u32,
    /// KV pool, tokens; `u64::MAX` when memory is reserved per request.
    pub pool_tokens: u64,
}

/// A request as the engine sees it.
#[derive(Clone, Copy, Debug)]
pub struct Sequence {
    /// The executor's number.
    pub id: u32,
    /// Its function, for adapter counting.
    pub function: u32,
    /// Time to read its adapter's weights once, ps; 0 without adapter.
    pub adapter_read: u64,
    /// Prompt tokens (and, after a preemption, tokens generated so far).
    pub prompt: u32,
    /// Tokens still to generate.
    pub output: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Decode { steps: u64 },
    Mixed,
}

/// What a phase's end brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// First chunk scheduled when the phase that just began started.
    Scheduled(u32),
    /// First token.
    First(u32),
    /// Last token.
    Done(u32),
    /// Out of KV memory: recomputed later.
    Preempted(u32),
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    cost: StepCost,
    limits: EngineLimits,
    waiting: VecDeque<Sequence>,
    prefilling: Vec<(Sequence, u32)>,
    chunks: Vec<u32>,
    running: BinaryHeap<Reverse<(u64, u64, u32)>>,
    rows: Vec<Option<Sequence>>,
    free_rows: Vec<u32>,
    joined: u64,
    step: u64,
    cached: u64,
    filled: u64,
    phase: Phase,
    started: u64,
    adapters: Vec<(u32, u32, u64)>,
    adapter_read: u64,
    /// Running sequences under an adapter.
    adapter_rows: u64,
    gaps: VecDeque<(u64, u64)>,
    /// The function whose turn was last.
    turn: Option<u32>,
    /// Preemptions so far.
    pub preemptions: u64,
}

impl Engine {
    /// An idle engine.
    pub fn new(cost: StepCost, limits: EngineLimits) -> Self {
        Self {
            cost,
            limits,
            waiting: VecDeque::new(),
            prefilling: Vec::new(),
            chunks: Vec::new(),
            running: BinaryHeap::new(),
            rows: Vec::new(),
            free_rows: Vec::new(),
            joined: 0,
            step: 0,
            cached: 0,
            filled: 0,
            phase: Phase::Idle,
            started: 0,
            adapters: Vec::new(),
            adapter_read: 0,
            adapter_rows: 0,
            gaps: VecDeque::new(),
            turn: None,
            preemptions: 0,
        }
    }

    /// Whether no phase is under way.
    pub fn idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Tokens in KV memory now.
    pub fn kv_tokens(&self) -> u64 {
        self.cached + self.filled
    }

    /// Tokens in KV memory on average over the phase under way.
    pub fn kv_tokens_mid(&self) -> u64 {
        match self.phase {
            Phase::Decode { steps } => self.kv_tokens() + steps * self.rows_running() / 2,
            _ => self.kv_tokens(),
        }
    }

    /// Sequences in the engine.
    pub fn sequences(&self) -> usize {
        self.waiting.len() + self.prefilling.len() + self.running.len()
    }

    /// Takes a request. During a decode run the caller must then [`Engine::cut`].
    pub fn push(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    /// Ends a decode run at the first step border at or after `now` (virtual ps): the run's new end.
    pub fn cut(&mut self, now: u64) -> Option<u64> {
        let Phase::Decode { steps } = self.phase else { return None };
        let elapsed = now.saturating_sub(self.started);
        let mut k = self.steps_in(elapsed, steps);
        while k > 1 && self.run_work(k - 1) >= elapsed {
            k -= 1;
        }
        while k < steps && self.run_work(k) < elapsed {
            k += 1;
        }
        let k = k.clamp(1, steps);
        self.phase = Phase::Decode { steps: k };
        Some(self.started + self.run_work(k))
    }

    /// A first guess for the steps done after `elapsed`; the caller makes it exact.
    fn steps_in(&self, elapsed: u64, most: u64) -> u64 {
        let (one, growth) = (self.step_work() as f64, (self.cost.decode_c * self.rows_running()) as f64);
        let (half, target) = (growth / 2.0, elapsed as f64);
        let guess = if half < 1.0 {
            target / one
        } else {
            let b = one - half;
            ((b * b + 4.0 * half * target).sqrt() - b) / (2.0 * half)
        };
        (guess.ceil() as u64).clamp(1, most)
    }

    fn rows_running(&self) -> u64 {
        self.running.len() as u64
    }

    /// The next decode step, ps, isolation not counted.
    fn step_work(&self) -> u64 {
        let c = &self.cost;
        c.decode_rows.at(self.rows_running(), [c.decode_a, c.decode_b])
            + c.serving_row * self.rows_running()
            + c.decode_c * self.cached
            + c.host
            + self.adapter_work(0)
    }

    /// What adapters add to a step with this many prompt tokens under one.
    fn adapter_work(&self, prompt: u64) -> u64 {
        let tokens = self.cost.adapter_token * (prompt + self.adapter_rows);
        if self.adapter_read > 0 { self.cost.adapters + self.adapter_read + tokens } else { 0 }
    }

    /// `n` decode steps from the current state: each reads one more token per sequence than the last.
    fn run_work(&self, n: u64) -> u64 {
        let growth = u128::from(self.cost.decode_c) * u128::from(self.rows_running());
        let ramp = growth * u128::from(n) * u128::from(n.saturating_sub(1)) / 2;
        let total = u128::from(n) * u128::from(self.step_work()) + ramp;
        self.cost.isolated(total.min(u128::from(u64::MAX / 4)) as u64)
    }

    /// Decode steps done.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Tells how long the phase that ends now took in real time; call before [`Engine::complete`].
    pub fn note_gap(&mut self, elapsed_ns: u64) {
        let steps = match self.phase {
            Phase::Idle => return,
            Phase::Decode { steps } => steps,
            Phase::Mixed => 1,
        };
        if self.running.is_empty() {
            self.gaps.clear();
        }
        let gap = elapsed_ns.div_ceil(steps.max(1));
        while self.gaps.back().is_some_and(|&(_, g)| g <= gap) {
            self.gaps.pop_back();
        }
        self.gaps.push_back((self.step + steps, gap));
    }

    /// The longest mean step of any phase that ended after `step`, ns: a monotone queue keeps only the maxima to come.
    pub fn gap_since(&self, step: u64) -> u64 {
        let first = self.gaps.partition_point(|&(at, _)| at <= step);
        self.gaps.get(first).map_or(0, |&(_, gap)| gap)
    }

    /// Completes the phase that ended; outcomes in order of sequence numbers within a step.
    pub fn complete(&mut self, out: &mut Vec<Outcome>) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Idle => {}
            Phase::Decode { steps } => self.decoded(steps, out),
            Phase::Mixed => {
                self.decoded(1, out);
                self.prefilled(out);
            }
        }
    }

    fn decoded(&mut self, steps: u64, out: &mut Vec<Outcome>) {
        self.step += steps;
        self.cached += steps * self.rows_running();
        while let Some(&Reverse((at, _, row))) = self.running.peek() {
            if at > self.step {
                break;
            }
            self.running.pop();
            let done = self.take_row(row);
            self.cached -= u64::from(done.prompt) + u64::from(done.output) - 1;
            out.push(Outcome::Done(done.id));
        }
    }

    fn take_row(&mut self, row: u32) -> Sequence {
        let sequence = self.rows[row as usize].take().expect("a running row holds a sequence");
        self.free_rows.push(row);
        self.adapter_rows -= u64::from(sequence.adapter_read > 0);
        self.adapter_leaves(&sequence);
        sequence
    }

    fn prefilled(&mut self, out: &mut Vec<Outcome>) {
        let mut kept = Vec::new();
        for (n, (sequence, before)) in std::mem::take(&mut self.prefilling).into_iter().enumerate() {
            let filled = before + self.chunks.get(n).copied().unwrap_or(0);
            self.filled += u64::from(filled - before);
            if filled < sequence.prompt {
                kept.push((sequence, filled));
                continue;
            }
            self.filled -= u64::from(filled);
            out.push(Outcome::First(sequence.id));
            if sequence.output <= 1 {
                self.adapter_leaves(&sequence);
                out.push(Outcome::Done(sequence.id));
            } else {
                self.join(sequence);
            }
        }
        self.prefilling = kept;
        self.chunks.clear();
    }

    /// The sequence decodes from the next step on; its first token is out, so `output − 1` steps remain.
    fn join(&mut self, sequence: Sequence) {
        self.cached += u64::from(sequence.prompt);
        self.joined += 1;
        let row = self.free_rows.pop().unwrap_or(self.rows.len() as u32);
        if row as usize == self.rows.len() {
            self.rows.push(None);
        }
        self.rows[row as usize] = Some(sequence);
        self.adapter_rows += u64::from(sequence.adapter_read > 0);
        let end = self.step + u64::from(sequence.output) - 1;
        self.running.push(Reverse((end, self.joined, row)));
    }

    /// Plans the next phase at virtual time `now`; its end, or `None` when there is nothing to do.
    pub fn begin(&mut self, now: u64, out: &mut Vec<Outcome>) -> Option<u64> {
        debug_assert!(self.phase == Phase::Idle, "one phase at a time");
        self.started = now;
        if !(self.waiting.is_empty() && self.prefilling.is_empty()) {
            // A plan that finds no room takes a prompt back and is made again; each turn has one prompt less.
            loop {
                if let Some(work) = self.plan_mixed(out) {
                    self.phase = Phase::Mixed;
                    return Some(now.saturating_add(work.max(1)));
                }
                if !self.running.is_empty() || self.prefilling.is_empty() {
                    break;
                }
            }
        }
        let rows = self.rows_running();
        if rows == 0 {
            return None;
        }
        // The newest gives its memory back first: prompts under way are newer than any row.
        let mut room = self.limits.pool_tokens.saturating_sub(self.kv_tokens()) / rows;
        while room == 0 {
            if !self.prefilling.is_empty() {
                self.yield_prefill(out);
            } else if self.running.len() > 1 {
                self.preempt(out);
            } else {
                break;
            }
            room = self.limits.pool_tokens.saturating_sub(self.kv_tokens()) / self.rows_running();
        }
        let Reverse((first_end, ..)) = self.running.peek().expect("rows are running");
        let steps = (first_end - self.step).min(room.max(1));
        self.phase = Phase::Decode { steps };
        Some(now.saturating_add(self.run_work(steps).max(1)))
    }

    /// Takes chunks of waiting prompts beside the decode rows; `None` when none fits.
    fn plan_mixed(&mut self, out: &mut Vec<Outcome>) -> Option<u64> {
        let rows = self.rows_running();
        let budget = u64::from(self.limits.max_tokens).saturating_sub(rows);
        let room = self.limits.pool_tokens.saturating_sub(self.kv_tokens() + rows);
        let mut step = Step { budget, room, tokens: 0, squares: 0 };
        match self.limits.prefill_quantum {
            0 => self.first_come(&mut step, out),
            _ => self.by_turns(&mut step, out),
        }
        let Step { mut tokens, mut squares, .. } = step;
        if self.prefilling.is_empty()
            || (tokens == 0 && rows > 0 && self.chunks.iter().all(|&c| c == 0) && self.stuck())
        {
            return None;
        }
        if tokens == 0 && self.stuck() {
            if self.prefilling.len() > 1 {
                self.yield_prefill(out);
                return None;
            }
            // The last one left always fits: admission refuses what the pool can't hold.
            let (sequence, filled) = self.prefilling[0];
            tokens = u64::from(sequence.prompt - filled).min(u64::from(self.limits.max_tokens));
            squares = grown(u64::from(filled), tokens);
            self.chunks[0] = tokens as u32;
        }
        let c = &self.cost;
        let adapters = self.adapter_work(self.adapter_prompt());
        let beside = c.serving_row * rows + c.decode_c * self.cached;
        let work = c.prefill(tokens, rows, squares) + beside + c.host + adapters;
        Some(c.isolated(work))
    }

    /// One prompt after the other until the step is full.
    fn first_come(&mut self, step: &mut Step, out: &mut Vec<Outcome>) {
        let rows = self.rows_running();
        self.chunks.clear();
        for (sequence, filled) in &self.prefilling {
            let chunk = u64::from(sequence.prompt - filled).min(step.budget).min(step.room);
            step.take(u64::from(*filled), chunk);
            self.chunks.push(chunk as u32);
        }
        let mut skipped = 0;
        // A prompt joins others only if it fits whole with a margin; else it would be preempted at once.
        let watermark = if self.limits.pool_tokens == u64::MAX { 0 } else { self.limits.pool_tokens / 100 };
        while step.budget > 0 && self.sequences_in_step() < self.limits.max_sequences as usize {
            let busy = rows > 0 || !self.prefilling.is_empty();
            let Some(&sequence) = self.waiting.get(skipped) else { break };
            if !self.adapter_fits(&sequence) {
                skipped += 1; // its adapter has to wait for a place; requests behind it need not
                if skipped == LOOK_BEHIND {
                    break;
                }
                continue;
            }
            if busy && step.room < u64::from(sequence.prompt).saturating_add(watermark) {
                break;
            }
            let chunk = u64::from(sequence.prompt).min(step.budget);
            self.waiting.remove(skipped);
            self.adapter_joins(&sequence);
            out.push(Outcome::Scheduled(sequence.id));
            step.take(0, chunk);
            self.prefilling.push((sequence, 0));
            self.chunks.push(chunk as u32);
        }
    }

    /// Prompt tokens of the planned step that run under an adapter.
    fn adapter_prompt(&self) -> u64 {
        let chunks = self.prefilling.iter().zip(&self.chunks);
        chunks.filter(|((s, _), _)| s.adapter_read > 0).map(|(_, &chunk)| u64::from(chunk)).sum()
    }

    /// Whether a prompt under way still needs tokens (an empty prompt needs none).
    fn stuck(&self) -> bool {
        self.prefilling.iter().any(|(s, filled)| s.prompt > *filled)
    }

    /// No room for the next tokens: the newest prompt under way gives its memory back.
    fn yield_prefill(&mut self, out: &mut Vec<Outcome>) {
        let (sequence, filled) = self.prefilling.pop().expect("one under way");
        self.filled -= u64::from(filled);
        self.adapter_leaves(&sequence);
        self.preemptions += 1;
        out.push(Outcome::Preempted(sequence.id));
        self.waiting.push_front(sequence);
    }

    fn sequences_in_step(&self) -> usize {
        self.running.len() + self.prefilling.len()
    }

    /// Puts the newest running sequence back to waiting: its KV is dropped and recomputed.
    fn preempt(&mut self, out: &mut Vec<Outcome>) {
        let mut all = std::mem::take(&mut self.running).into_vec();
        let newest =
            all.iter().enumerate().max_by_key(|(_, Reverse((_, joined, _)))| *joined).map(|(n, _)| n);
        let Reverse((end, _, row)) = all.swap_remove(newest.expect("rows are running"));
        self.running = all.into();
        let mut sequence = self.take_row(row);
        let left = (end - self.step) as u32;
        self.cached -= u64::from(sequence.prompt) + u64::from(sequence.output - 1 - left);
        sequence.prompt += sequence.output - left;
        sequence.output = left;
        self.preemptions += 1;
        out.push(Outcome::Preempted(sequence.id));
        self.waiting.push_front(sequence);
    }

    fn adapter_fits(&self, s: &Sequence) -> bool {
        let cap = self.limits.max_adapters as usize;
        cap == 0
            || s.adapter_read == 0
            || self.adapters.len() < cap
            || self.adapters.iter().any(|a| a.0 == s.function)
    }

    fn adapter_joins(&mut self, s: &Sequence) {
        if s.adapter_read == 0 {
            return;
        }
        match self.adapters.iter_mut().find(|a| a.0 == s.function) {
            Some(entry) => entry.1 += 1,
            None => {
                self.adapters.push((s.function, 1, s.adapter_read));
                self.adapter_read += s.adapter_read;
            }
        }
    }

    fn adapter_leaves(&mut self, s: &Sequence) {
        if s.adapter_read == 0 {
            return;
        }
        let Some(at) = self.adapters.iter().position(|a| a.0 == s.function) else { return };
        self.adapters[at].1 -= 1;
        if self.adapters[at].1 == 0 {
            self.adapter_read -= self.adapters[at].2;
            self.adapters.swap_remove(at);
        }
    }
}

/// Growth of the square of the context when a chunk joins it: attention of that chunk over all before it.
fn grown(context: u64, chunk: u64) -> u128 {
    let (before, after) = (u128::from(context), u128::from(context + chunk));
    after * after - before * before
}
