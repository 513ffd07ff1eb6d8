//! What happened to requests: latencies, stages, cold kinds, SLO, per function; streaming, in fixed memory.

use crate::measure::histogram::Histogram;
use crate::report::check::STAGES;
use crate::report::model::{RequestCounts, RunReport, SloReport, StageReport};
use coldframe_policy::artifact::Class;

/// Cold kinds in reports: the deepest stage waited for.
pub const KINDS: [&str; 6] = ["warm", "kernel", "adapter", "model", "runtime", "container"];

/// Limits that count as met.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// TTFT, ns.
    pub ttft_ns: u64,
    /// TPOT, ns.
    pub tpot_ns: u64,
}

/// A request that ended well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Finished {
    /// Function.
    pub function: u32,
    /// Arrival, ns.
    pub arrival_ns: u64,
    /// First token, ns.
    pub first_token_ns: u64,
    /// Last token, ns.
    pub end_ns: u64,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Output tokens.
    pub output_tokens: u32,
    /// Waited through each class, ns, by [`Class`].
    pub cold_ns: [u64; 5],
    /// From first scheduled to first token, ns.
    pub prefill_ns: u64,
}

impl Finished {
    /// Arrival to first token, ns.
    pub fn ttft_ns(&self) -> u64 {
        self.first_token_ns - self.arrival_ns
    }

    /// Time per output token after the first, ns; `None` below two tokens.
    pub fn tpot_ns(&self) -> Option<u64> {
        let more = u64::from(self.output_tokens).checked_sub(1).filter(|&m| m > 0)?;
        Some((self.end_ns - self.first_token_ns) / more)
    }

    /// Arrival to last token, ns.
    pub fn e2e_ns(&self) -> u64 {
        self.end_ns - self.arrival_ns
    }

    /// TTFT not explained by a cold stage or prefill, ns.
    pub fn queue_ns(&self) -> u64 {
        self.ttft_ns() - self.prefill_ns - self.cold_ns.iter().sum::<u64>()
    }

    /// Index into [`KINDS`].
    pub fn kind(&self) -> usize {
        let deepest = Class::ALL.into_iter().find(|&c| self.cold_ns[c as usize] > 0);
        deepest.map_or(0, |c| 5 - c as usize)
    }
}

/// One function's sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct PerFunction {
    /// Requests that came.
    pub arrived: u64,
    /// Completed.
    pub completed: u64,
    /// Completed with any cold stage.
    pub cold: u64,
    /// TTFT in all, ns.
    pub ttft_sum: u128,
    /// Largest TTFT, ns.
    pub ttft_max: u64,
    /// Solo compute time of its tokens, ps: its share of the bill.
    pub weight: u128,
}

/// Sums over a run.
pub struct Collect {
    limits: Limits,
    /// Where arrivals ended.
    pub counts: RequestCounts,
    ttft: Histogram,
    tpot: Histogram,
    e2e: Histogram,
    kinds: [u64; 6],
    stages: [u128; 7],
    cold_stages: [u128; 7],
    met: [u64; 3],
    tokens: (u64, u64),
    /// By function.
    pub functions: Vec<PerFunction>,
}

impl Collect {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            counts: RequestCounts::default(),
            ttft: Histogram::default(),
            tpot: Histogram::default(),
            e2e: Histogram::default(),
            kinds: [0; 6],
            stages: [0; 7],
            cold_stages: [0; 7],
            met: [0; 3],
            tokens: (0, 0),
            functions: Vec::new(),
        }
    }

    /// A request came.
    pub fn arrived(&mut self, function: u32) {
        self.counts.arrived += 1;
        if self.functions.len() <= function as usize {
            self.functions.resize(function as usize + 1, PerFunction::default());
        }
        self.functions[function as usize].arrived += 1;
    }

    /// Whether a request met the TTFT and the TPOT limit.
    pub fn met(&self, r: &Finished) -> (bool, bool) {
        (r.ttft_ns() <= self.limits.ttft_ns, r.tpot_ns().is_none_or(|t| t <= self.limits.tpot_ns))
    }

    /// A request ended well; `weight` is the solo compute time of its tokens, ps.
    pub fn finished(&mut self, r: &Finished, weight: u64) {
        let (ttft, kind) = (r.ttft_ns(), r.kind());
        self.counts.completed += 1;
        self.ttft.add(ttft);
        self.e2e.add(r.e2e_ns());
        if let Some(tpot) = r.tpot_ns() {
            self.tpot.add(tpot);
        }
        self.kinds[kind] += 1;
        self.tokens.0 += u64::from(r.prompt_tokens);
        self.tokens.1 += u64::from(r.output_tokens);
        let [c, l, b, a, k] = r.cold_ns;
        let stages = [r.queue_ns(), c, l, b, a, k, r.prefill_ns];
        for (n, ns) in stages.into_iter().enumerate().filter(|(_, ns)| *ns > 0) {
            self.stages[n] += u128::from(ns);
            if kind > 0 {
                self.cold_stages[n] += u128::from(ns);
            }
        }
        let (first, pace) = self.met(r);
        self.met[0] += u64::from(first);
        self.met[1] += u64::from(pace);
        self.met[2] += u64::from(first && pace);
        let f = &mut self.functions[r.function as usize];
        f.completed += 1;
        f.cold += u64::from(kind > 0);
        f.ttft_sum += u128::from(ttft);
        f.ttft_max = f.ttft_max.max(ttft);
        f.weight += u128::from(weight);
    }

    /// Fills the request side of the report.
    pub fn report(&self, simulated_ns: u64, into: &mut RunReport) {
        let arrived = self.counts.arrived.max(1) as f64;
        into.requests = self.counts.clone();
        (into.prompt_tokens, into.output_tokens) = self.tokens;
        into.ttft_s = self.ttft.quantiles();
        into.tpot_s = self.tpot.quantiles();
        into.e2e_s = self.e2e.quantiles();
        into.ttft_cdf = self.ttft.cdf(200);
        into.e2e_cdf = self.e2e.cdf(200);
        into.slo = SloReport {
            ttft: self.met[0] as f64 / arrived,
            tpot: self.met[1] as f64 / arrived,
            both: self.met[2] as f64 / arrived,
            goodput_rps: self.met[2] as f64 / (simulated_ns.max(1) as f64 / 1e9),
        };
        into.cold_by_kind = KINDS.iter().zip(self.kinds).map(|(k, n)| ((*k).to_owned(), n)).collect();
        let done = self.counts.completed.max(1) as f64;
        let cold = (self.counts.completed - self.kinds[0]).max(1) as f64;
        let stage = |n: usize| StageReport {
            stage: STAGES[n].to_owned(),
            mean_s: self.stages[n] as f64 / done / 1e9,
            cold_mean_s: self.cold_stages[n] as f64 / cold / 1e9,
        };
        into.stages = (0..7).map(stage).collect();
    }

    /// Tokens of completed requests: prompt, output.
    pub fn tokens(&self) -> (u64, u64) {
        self.tokens
    }
}
