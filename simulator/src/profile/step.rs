//! Step times: what one forward pass costs on one GPU for one model, as integer picosecond formulas.
//!
//! A prefill of T tokens takes `max(floor, a + b·T + c·T²)`, a decode step of B sequences with K cached tokens in all
//! takes `a + b·B + c·K`, where a straight line over B is near enough ([`RowTimes`] otherwise). How a step that mixes both
//! is composed is the engine model's business, not this file's.

use serde::{Deserialize, Serialize};

/// Picoseconds in a nanosecond.
const PS_PER_NS: u128 = 1_000;

/// The engine that steps were measured in, where its rules are its own and not the policy's: one engine serves all
/// functions of a backbone, and prompts are taken in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineRules {
    /// Sequences that run at once.
    pub max_sequences: u32,
    /// Tokens of a step, decode rows and prompts together.
    pub max_batched_tokens: u32,
    /// Prompt tokens that a function gets before it is the next one's turn; 0 is first come, first served.
    pub prefill_quantum: u32,
}

/// What a request takes beside the engine: the way in through a server's threads and its first token's way out, which find
/// the cores busy where the engine runs on the same ones. Picoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edge {
    /// Of any request.
    pub request_ps: u64,
    /// More of one that comes while the engine has others, whatever their number.
    #[serde(default)]
    pub busy_ps: u64,
    /// Per request that the engine has when it comes. Profiles of earlier calibrations have it in place of the above.
    #[serde(default)]
    pub running_ps: u64,
    /// Per prompt token.
    pub token_ps: u64,
}

impl Edge {
    /// The way of a request of `tokens` prompt tokens that finds `running` others, nanoseconds.
    pub fn ns(&self, running: u64, tokens: u64) -> u64 {
        let busy = if running > 0 { self.busy_ps } else { 0 };
        let ps = u128::from(self.request_ps)
            + u128::from(busy)
            + u128::from(self.running_ps) * u128::from(running)
            + u128::from(self.token_ps) * u128::from(tokens);
        to_ns(ps)
    }
}

/// Decode over sequences where no straight line is near enough: numbers of sequences, rising, and the picoseconds that a
/// step of so many takes without cached tokens; straight between them. Empty where the line does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowTimes(pub Vec<[u64; 2]>);

impl RowTimes {
    /// A step of so many sequences, picoseconds; `line` is `a` and `b` of decode, whose `b` goes on behind the last.
    pub fn at(&self, sequences: u64, line: [u64; 2]) -> u64 {
        let Some(&[last, longest]) = self.0.last() else { return line[0] + line[1] * sequences };
        if sequences >= last {
            return longest + line[1] * (sequences - last);
        }
        let next = self.0.partition_point(|knot| knot[0] <= sequences);
        let [to, longer] = self.0[next];
        let Some(&[from, shorter]) = next.checked_sub(1).and_then(|before| self.0.get(before)) else {
            return longer;
        };
        let part =
            i128::from(sequences - from) * (i128::from(longer) - i128::from(shorter)) / i128::from(to - from);
        (i128::from(shorter) + part) as u64
    }

    /// Whether numbers of sequences rise and no step takes zero time.
    pub fn sound(&self) -> bool {
        self.0.windows(2).all(|pair| pair[0][0] < pair[1][0]) && self.0.iter().all(|knot| knot[1] > 0)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Fitted step times of one (GPU, model) pair. All times are picoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepProfile {
    /// Row name, e.g. `vidur,A100-80GB,llama-2-7b`.
    pub name: String,
    /// Canonical GPU name.
    pub gpu: String,
    /// Canonical model name.
    pub model: String,
    /// Where the numbers come from.
    pub source: String,
    /// Shortest prefill.
    pub prefill_floor_ps: u64,
    /// Constant part of a prefill.
    pub prefill_a_ps: u64,
    /// Prefill, per prompt token.
    pub prefill_b_ps: u64,
    /// Prefill, per prompt token squared.
    pub prefill_c_ps: u64,
    /// Constant part of a decode step.
    pub decode_a_ps: u64,
    /// Decode step, per sequence.
    pub decode_b_ps: u64,
    /// Decode step, per cached token over all sequences.
    pub decode_c_ps: u64,
    /// Decode steps by sequences, in place of the constant and the part per sequence.
    #[serde(default, skip_serializing_if = "RowTimes::is_empty")]
    pub decode_rows_ps: RowTimes,
    /// Host work per step (scheduler, sampler launch, detokenising), outside the measured kernels.
    pub host_ps: u64,
    /// Extra per layer and step when any adapter is in the step (grouped adapter kernels).
    pub adapter_layer_ps: u64,
    /// Extra per token that runs under an adapter: zero on GPUs, whose grouped kernels hide it; not on CPUs.
    #[serde(default)]
    pub adapter_token_ps: u64,
    /// Per sequence that gets a token, beside prompts too: what serving it takes of the cores that compute. Zero on GPUs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub serving_row_ps: u64,
    /// The engine they were measured in; `None` leaves its rules to the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineRules>,
    /// A request's way beside the engine; nothing where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
}

impl StepProfile {
    /// Device time to prefill one prompt of `tokens`, nanoseconds, rounded up; host time is not in it.
    pub fn prefill_ns(&self, tokens: u64) -> u64 {
        let t = u128::from(tokens);
        let fitted = u128::from(self.prefill_a_ps)
            + u128::from(self.prefill_b_ps) * t
            + u128::from(self.prefill_c_ps) * t * t;
        to_ns(fitted.max(u128::from(self.prefill_floor_ps)))
    }

    /// Decode: constant, per sequence, per cached token, picoseconds.
    pub fn decode_ps(&self) -> [u64; 3] {
        [self.decode_a_ps, self.decode_b_ps, self.decode_c_ps]
    }

    /// Device time of one decode step of `sequences` with `cached` tokens in all, nanoseconds, rounded up.
    pub fn decode_ns(&self, sequences: u64, cached: u64) -> u64 {
        let line = [self.decode_a_ps, self.decode_b_ps];
        let fitted = u128::from(self.decode_rows_ps.at(sequences, line))
            + u128::from(self.decode_c_ps) * u128::from(cached);
        to_ns(fitted)
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

// A started nanosecond counts, so that no step takes zero time.
fn to_ns(ps: u128) -> u64 {
    u64::try_from(ps.div_ceil(PS_PER_NS)).unwrap_or(u64::MAX)
}

/// A step file: one source, what its rows have in common, and the rows.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepFile {
    source: String,
    host_ps: u64,
    adapter_layer_ps: u64,
    #[serde(default)]
    adapter_token_ps: u64,
    #[serde(default)]
    serving_row_ps: u64,
    engine: Option<EngineRules>,
    edge: Option<Edge>,
    row: Vec<StepRow>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepRow {
    name: String,
    gpu: String,
    model: String,
    prefill_floor_ps: u64,
    prefill_a_ps: u64,
    prefill_b_ps: u64,
    prefill_c_ps: u64,
    decode_a_ps: u64,
    decode_b_ps: u64,
    decode_c_ps: u64,
    #[serde(default)]
    decode_rows_ps: RowTimes,
}

impl StepFile {
    /// The rows, each with the common parts filled in.
    pub(super) fn rows(self) -> Vec<StepProfile> {
        let Self { source, host_ps, adapter_layer_ps, adapter_token_ps, serving_row_ps, engine, edge, row } =
            self;
        let fill = |row: StepRow| StepProfile {
            name: row.name,
            gpu: row.gpu,
            model: row.model,
            source: source.clone(),
            prefill_floor_ps: row.prefill_floor_ps,
            prefill_a_ps: row.prefill_a_ps,
            prefill_b_ps: row.prefill_b_ps,
            prefill_c_ps: row.prefill_c_ps,
            decode_a_ps: row.decode_a_ps,
            decode_b_ps: row.decode_b_ps,
            decode_c_ps: row.decode_c_ps,
            decode_rows_ps: row.decode_rows_ps,
            host_ps,
            adapter_layer_ps,
            adapter_token_ps,
            serving_row_ps,
            engine,
            edge,
        };
        row.into_iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::RowTimes;

    #[test]
    fn steps_between_those_measured_are_on_a_straight_line() {
        let times = RowTimes(vec![[1, 60], [2, 80], [4, 90], [8, 50]]);
        let at = |rows| times.at(rows, [1000, 7]);
        assert_eq!([0, 1, 2, 3, 4, 6, 8, 10].map(at), [60, 60, 80, 85, 90, 70, 50, 64]);
        assert_eq!(RowTimes::default().at(3, [1000, 7]), 1021);
        assert!(times.sound() && RowTimes::default().sound());
        assert!(!RowTimes(vec![[1, 60], [1, 80]]).sound() && !RowTimes(vec![[1, 0]]).sound());
    }
}
