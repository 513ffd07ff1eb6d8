//! One pass over a stream into the numbers that describe it.
//!
//! CoV = standard deviation / mean of inter-arrival times; IDC(w) = variance / mean of counts in windows of w; both
//! over the aggregate unless "per function". Quantile lists are p1, p10, p25, p50, p75, p90, p95, p99.

use super::functions::{CovClass, FunctionStats, Gaps};
use super::series::{Bins, Windows};
use super::sketch::{LogSketch, TokenCounts};
use super::zipf;
use crate::record::{Item, Record, TraceError, TraceStream};
use serde::Serialize;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// The quantiles of every list, as shares.
pub const QUANTILES: [f64; 8] = [0.01, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99];
/// Distinct prefix blocks remembered (about 100 MB); later new ones count as never seen again. Arbitrary.
const BLOCKS_MAX: usize = 4_000_000;

/// Mean, quantiles and maximum of token lengths.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TokenSummary {
    /// Sum, tokens.
    pub total: u64,
    /// Mean, tokens.
    pub mean: f64,
    /// Quantiles, tokens.
    pub quantiles: [f64; 8],
    /// Greatest, tokens.
    pub max: u32,
}

/// Reuse of prefix blocks.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PrefixSummary {
    /// Blocks over all requests.
    pub blocks: u64,
    /// Share of blocks found as a cached prefix by an unbounded cache.
    pub reused_share: f64,
    /// Share of distinct blocks that occur once.
    pub used_once_share: f64,
    /// Distinct blocks (a lower bound once the limit on remembered ones is reached).
    pub distinct: u64,
}

/// What a trace looks like.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Summary {
    /// Input rows.
    pub rows_in: u64,
    /// Requests.
    pub records: u64,
    /// Refused rows.
    pub refused: u64,
    /// Last arrival minus first, seconds.
    pub span_s: f64,
    /// Requests per second over the span.
    pub rate_mean_rps: f64,
    /// Requests in the busiest second.
    pub rate_peak_second_rps: f64,
    /// Requests per second in the busiest minute.
    pub rate_peak_minute_rps: f64,
    /// Quantiles of the gaps between requests, seconds, within 0.1 %.
    pub iat_quantiles_s: [f64; 8],
    /// CoV of the gaps between requests.
    pub cov: f64,
    /// Index of dispersion for counts in 1 s.
    pub idc_1s: f64,
    /// Index of dispersion for counts in 60 s.
    pub idc_60s: f64,
    /// Functions with at least one request.
    pub functions: u64,
    /// Quantiles of requests per function.
    pub per_function_quantiles: [f64; 8],
    /// Quantiles of the CoV of functions with at least 10 requests.
    pub cov_quantiles: [f64; 8],
    /// Share of functions with at least 10 requests by class: predictable, normal, bursty.
    pub class_functions: BTreeMap<&'static str, f64>,
    /// Share of their requests by class.
    pub class_requests: BTreeMap<&'static str, f64>,
    /// Functions with fewer than 10 requests.
    pub sparse_functions: u64,
    /// Share of requests to the top 1 % of functions (at least one function).
    pub top_1_percent_share: f64,
    /// Share of requests to the top 10 % of functions.
    pub top_10_percent_share: f64,
    /// Zipf exponent of popularity by maximum likelihood over the observed ranks.
    pub zipf_s: Option<f64>,
    /// Prompt lengths; `None` when no request has tokens.
    pub prompt: Option<TokenSummary>,
    /// Output lengths.
    pub output: Option<TokenSummary>,
    /// Correlation of the logs of prompt and output length, where both are above 0.
    pub log_correlation: Option<f64>,
    /// Mean duration of requests that state one, seconds.
    pub duration_mean_s: Option<f64>,
    /// Prefix reuse; `None` when no request has blocks.
    pub prefix: Option<PrefixSummary>,
    /// How the records came to be.
    pub notes: Vec<String>,
    /// For plots: (second, requests per second).
    pub rate_over_time: Vec<(f64, f64)>,
    /// For plots: (gap in seconds, count), gaps of 0 left out.
    pub iat_histogram: Vec<(f64, u64)>,
    /// For plots: (tokens, count).
    pub prompt_histogram: Vec<(f64, u64)>,
    /// For plots: (tokens, count).
    pub output_histogram: Vec<(f64, u64)>,
    /// For plots: requests by popularity rank, the first 1,000.
    pub popularity: Vec<u64>,
}

/// Running sums of two logs.
#[derive(Default)]
struct Correlation {
    n: f64,
    x: f64,
    y: f64,
    xx: f64,
    yy: f64,
    xy: f64,
}

impl Correlation {
    fn add(&mut self, x: f64, y: f64) {
        self.n += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.yy += y * y;
        self.xy += x * y;
    }

    fn finish(&self) -> Option<f64> {
        let spread = |square: f64, sum: f64| square - sum * sum / self.n;
        let (xx, yy) = (spread(self.xx, self.x), spread(self.yy, self.y));
        let defined = self.n > 1.0 && xx > 0.0 && yy > 0.0;
        defined.then(|| (self.xy - self.x * self.y / self.n) / (xx * yy).sqrt())
    }
}

#[derive(Default)]
struct Prefixes {
    /// Times seen, cut at 2; looked up and counted, never iterated in order.
    seen: HashMap<u64, u8>,
    once: u64,
    blocks: u64,
    reused: u64,
}

impl Prefixes {
    fn add(&mut self, ids: &[u64]) {
        self.blocks += ids.len() as u64;
        let known = ids.iter().take_while(|id| self.seen.contains_key(id)).count();
        self.reused += known as u64;
        for id in ids {
            if let Some(times) = self.seen.get_mut(id) {
                self.once -= u64::from(*times == 1);
                *times = 2;
            } else if self.seen.len() < BLOCKS_MAX {
                self.seen.insert(*id, 1);
                self.once += 1;
            }
        }
    }
}

/// Gathers a [`Summary`] record by record.
pub struct Collector {
    records: u64,
    refused: u64,
    gaps: Gaps,
    gap_sketch: LogSketch,
    seconds: Windows,
    minutes: Windows,
    bins: Bins,
    functions: FunctionStats,
    prompt: TokenCounts,
    output: TokenCounts,
    correlation: Correlation,
    durations: u64,
    durations_s: f64,
    prefixes: Prefixes,
}

impl Default for Collector {
    fn default() -> Self {
        Self {
            records: 0,
            refused: 0,
            gaps: Gaps::default(),
            gap_sketch: LogSketch::default(),
            seconds: Windows::new(1_000_000_000),
            minutes: Windows::new(60_000_000_000),
            bins: Bins::default(),
            functions: FunctionStats::default(),
            prompt: TokenCounts::default(),
            output: TokenCounts::default(),
            correlation: Correlation::default(),
            durations: 0,
            durations_s: 0.0,
            prefixes: Prefixes::default(),
        }
    }
}

/// Quantile `q` of sorted values by linear interpolation; 0 when there are none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let rank = q * last as f64;
    let low = rank.floor() as usize;
    let high = (low + 1).min(last);
    sorted[low] + (sorted[high] - sorted[low]) * (rank - low as f64)
}

fn tokens(counts: &TokenCounts) -> TokenSummary {
    TokenSummary {
        total: counts.sum(),
        mean: counts.mean(),
        quantiles: QUANTILES.map(|q| counts.quantile(q)),
        max: counts.max(),
    }
}

impl Collector {
    /// Takes an item.
    pub fn add(&mut self, item: &Item) {
        match item {
            Item::Record(record) => self.record(record),
            Item::Refused(_) => self.refused += 1,
        }
    }

    fn record(&mut self, record: &Record) {
        self.records += 1;
        let at = record.arrival_ns;
        if let Some(gap) = self.gaps.add(at) {
            self.gap_sketch.add(gap);
        }
        self.seconds.add(at);
        self.minutes.add(at);
        self.bins.add(at);
        self.functions.add(record);
        self.prompt.add(record.prompt_tokens);
        self.output.add(record.output_tokens);
        if record.prompt_tokens > 0 && record.output_tokens > 0 {
            let log = |tokens: u32| libm::log(f64::from(tokens));
            self.correlation.add(log(record.prompt_tokens), log(record.output_tokens));
        }
        if record.duration_ns > 0 {
            self.durations += 1;
            self.durations_s += record.duration_ns as f64 / 1e9;
        }
        if let Some(ids) = &record.prefix {
            self.prefixes.add(ids);
        }
    }

    /// The numbers; `stream` says rows and notes.
    pub fn finish(self, stream: &dyn TraceStream) -> Summary {
        let span_s = self.gaps.span_ns() as f64 / 1e9;
        let (peak_second, idc_1s) = self.seconds.finish();
        let (peak_minute, idc_60s) = self.minutes.finish();
        let has_tokens = self.prompt.max() > 0 || self.output.max() > 0;
        let prefixes = &self.prefixes;
        let mut summary = Summary {
            rows_in: stream.rows_in(),
            records: self.records,
            refused: self.refused,
            span_s,
            rate_mean_rps: if span_s > 0.0 { self.records as f64 / span_s } else { 0.0 },
            rate_peak_second_rps: peak_second as f64,
            rate_peak_minute_rps: peak_minute as f64 / 60.0,
            iat_quantiles_s: QUANTILES.map(|q| self.gap_sketch.quantile(q) / 1e9),
            cov: self.gaps.cov(),
            idc_1s,
            idc_60s,
            prompt: has_tokens.then(|| tokens(&self.prompt)),
            output: has_tokens.then(|| tokens(&self.output)),
            log_correlation: self.correlation.finish(),
            duration_mean_s: (self.durations > 0).then(|| self.durations_s / self.durations as f64),
            prefix: (prefixes.blocks > 0).then(|| PrefixSummary {
                blocks: prefixes.blocks,
                reused_share: prefixes.reused as f64 / prefixes.blocks as f64,
                used_once_share: prefixes.once as f64 / prefixes.seen.len().max(1) as f64,
                distinct: prefixes.seen.len() as u64,
            }),
            notes: stream.notes(),
            rate_over_time: self.bins.rates(500),
            iat_histogram: self.gap_sketch.histogram(60).into_iter().map(|(ns, n)| (ns / 1e9, n)).collect(),
            prompt_histogram: if has_tokens { self.prompt.histogram(60) } else { vec![] },
            output_histogram: if has_tokens { self.output.histogram(60) } else { vec![] },
            ..Summary::default()
        };
        by_function(&self.functions, &mut summary);
        summary
    }
}

fn by_function(functions: &FunctionStats, summary: &mut Summary) {
    let mut counts: Vec<u64> = functions.all().iter().map(|g| g.count).filter(|c| *c > 0).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let ascending: Vec<f64> = counts.iter().rev().map(|c| *c as f64).collect();
    let mut covs = vec![];
    let mut by_class: BTreeMap<CovClass, (u64, u64)> = BTreeMap::new();
    for gaps in functions.all().iter().filter(|g| g.count >= 10) {
        covs.push(gaps.cov());
        let class = by_class.entry(CovClass::of(gaps.count, gaps.cov())).or_default();
        class.0 += 1;
        class.1 += gaps.count;
    }
    covs.sort_unstable_by(f64::total_cmp);
    let requests: u64 = by_class.values().map(|c| c.1).sum();
    for (name, class) in CovClass::ALL.into_iter().filter(|(_, c)| *c != CovClass::Sparse) {
        let (n, calls) = by_class.get(&class).copied().unwrap_or_default();
        summary.class_functions.insert(name, n as f64 / covs.len().max(1) as f64);
        summary.class_requests.insert(name, calls as f64 / requests.max(1) as f64);
    }
    summary.functions = counts.len() as u64;
    summary.sparse_functions = (counts.len() - covs.len()) as u64;
    summary.per_function_quantiles = QUANTILES.map(|q| quantile(&ascending, q));
    summary.cov_quantiles = QUANTILES.map(|q| quantile(&covs, q));
    summary.top_1_percent_share = zipf::top_share(&counts, 0.01);
    summary.top_10_percent_share = zipf::top_share(&counts, 0.10);
    summary.zipf_s = zipf::exponent(&counts);
    counts.truncate(1000);
    summary.popularity = counts;
}

/// Reads a whole stream into its summary.
pub fn summarize(stream: &mut dyn TraceStream) -> Result<Summary, TraceError> {
    let mut collector = Collector::default();
    while let Some(item) = stream.next_item()? {
        collector.add(&item);
    }
    Ok(collector.finish(stream))
}
