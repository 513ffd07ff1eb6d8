//! Calls that ended, by backbone and by function: times, tokens, why they ended, what their code used.

use super::histogram::{GUEST_BYTES, Histogram, LOAD_S, REQUEST_S, TOKEN_S, TTFT_S};
use super::text::{Kind, Page};
use crate::call::{CallError, Finish};
use crate::live::core::Ran;
use crate::meter::row::PHASES;
use crate::meter::{Outcome, RequestRow};
use std::collections::BTreeMap;

/// Functions that have series of their own; the next ones are counted together under `other`.
pub const FUNCTIONS_MAX: usize = 200;

/// Ends of a function's code that are labels; its own words are `own`.
const ENDS: [&str; 15] = [
    "out_of_fuel",
    "deadline",
    "memory",
    "table",
    "stack",
    "trap",
    "output",
    "tokens",
    "generations",
    "host_calls",
    "http_calls",
    "state",
    "not_granted",
    "busy",
    "instantiate",
];

/// A histogram of vLLM's: its name, bounds, help, and where it is in [`Times`].
type TimeOf = (&'static str, &'static [f64], &'static str);

const TIMES: [TimeOf; 8] = [
    ("vllm:time_to_first_token_seconds", TTFT_S, "From arrival to the first token."),
    (
        "vllm:time_per_output_token_seconds",
        TOKEN_S,
        "Mean time between a request's tokens, once for each request.",
    ),
    ("vllm:request_time_per_output_token_seconds", TOKEN_S, "Mean time between a request's tokens."),
    ("vllm:e2e_request_latency_seconds", REQUEST_S, "From arrival to end."),
    ("vllm:request_queue_time_seconds", REQUEST_S, "Parked until admitted, and in the engine's queue."),
    ("vllm:request_prefill_time_seconds", REQUEST_S, "Computing the prompt."),
    ("vllm:request_decode_time_seconds", REQUEST_S, "From the first token to the end."),
    ("vllm:request_inference_time_seconds", REQUEST_S, "Computing the prompt and everything after it."),
];

/// Sums of a backbone.
#[derive(Debug)]
struct Model {
    times: [Histogram; TIMES.len()],
    prompt: u64,
    cached: u64,
    completion: u64,
    finished: BTreeMap<&'static str, u64>,
    starts: BTreeMap<&'static str, Histogram>,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            times: TIMES.map(|(_, bounds, _)| Histogram::new(bounds)),
            prompt: 0,
            cached: 0,
            completion: 0,
            finished: BTreeMap::new(),
            starts: BTreeMap::new(),
        }
    }
}

/// Sums of a function.
#[derive(Debug, Default)]
struct Function {
    outcomes: BTreeMap<&'static str, u64>,
    prompt: u64,
    cached: u64,
    completion: u64,
    device_ns: u64,
}

/// Sums of functions' code.
#[derive(Debug)]
struct Guests {
    ends: BTreeMap<&'static str, u64>,
    fuel: u64,
    cpu_ns: u64,
    peak: Histogram,
}

/// All calls that ended.
#[derive(Debug)]
pub(super) struct Requests {
    models: BTreeMap<String, Model>,
    functions: BTreeMap<(String, String), Function>,
    phases: BTreeMap<&'static str, Histogram>,
    guests: Guests,
}

impl Default for Requests {
    fn default() -> Self {
        let guests = Guests { ends: BTreeMap::new(), fuel: 0, cpu_ns: 0, peak: Histogram::new(GUEST_BYTES) };
        Self { models: BTreeMap::new(), functions: BTreeMap::new(), phases: BTreeMap::new(), guests }
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Requests {
    /// Counts a call.
    pub(super) fn ended(&mut self, row: &RequestRow, ran: &Ran) {
        self.model(row, ran);
        self.function(row);
        if row.cold != "warm" && row.ttft_ns > 0 {
            for (phase, ns) in PHASES.into_iter().zip(row.phases_ns) {
                let phases = self.phases.entry(phase).or_insert_with(|| Histogram::new(LOAD_S));
                phases.observe(seconds(ns));
            }
        }
        self.guest(row, ran);
    }

    fn model(&mut self, row: &RequestRow, ran: &Ran) {
        let model = self.models.entry(row.backbone.clone()).or_default();
        model.prompt += row.prompt_tokens;
        model.cached += row.cached_tokens;
        model.completion += row.completion_tokens;
        for why in reasons(row, ran) {
            *model.finished.entry(why).or_default() += 1;
        }
        model.times[3].observe(seconds(row.took_ns));
        if row.ttft_ns == 0 {
            return;
        }
        let phase =
            |name: &str| PHASES.iter().position(|known| *known == name).map_or(0, |at| row.phases_ns[at]);
        let decode = row.took_ns.saturating_sub(row.ttft_ns);
        let start = if row.cold == "warm" { "warm" } else { "cold" };
        model.starts.entry(start).or_insert_with(|| Histogram::new(TTFT_S)).observe(seconds(row.ttft_ns));
        model.times[0].observe(seconds(row.ttft_ns));
        if row.completion_tokens > 1 {
            let between = seconds(decode) / (row.completion_tokens - 1) as f64;
            model.times[1].observe(between);
            model.times[2].observe(between);
        }
        model.times[4].observe(seconds(phase("parked") + phase("queue")));
        model.times[5].observe(seconds(phase("prefill")));
        model.times[6].observe(seconds(decode));
        model.times[7].observe(seconds(phase("prefill") + decode));
    }

    fn function(&mut self, row: &RequestRow) {
        let mut key = (row.tenant.clone(), row.function.clone());
        if self.functions.len() >= FUNCTIONS_MAX && !self.functions.contains_key(&key) {
            key = ("other".to_owned(), "other".to_owned());
        }
        let function = self.functions.entry(key).or_default();
        let outcome = match row.outcome {
            Outcome::Completed => "completed",
            Outcome::Dropped => "dropped",
            Outcome::Failed => "failed",
        };
        *function.outcomes.entry(outcome).or_default() += 1;
        function.prompt += row.prompt_tokens;
        function.cached += row.cached_tokens;
        function.completion += row.completion_tokens;
        function.device_ns += row.device_ns;
    }

    fn guest(&mut self, row: &RequestRow, ran: &Ran) {
        if let Some(CallError::Function { code, .. }) = &ran.error {
            let known = ENDS.into_iter().find(|end| end == code).unwrap_or("own");
            *self.guests.ends.entry(known).or_default() += 1;
        } else if row.guest_bytes > 0 {
            *self.guests.ends.entry("returned").or_default() += 1;
        }
        self.guests.fuel += row.fuel;
        self.guests.cpu_ns += row.sandbox_ns;
        if row.guest_bytes > 0 {
            self.guests.peak.observe(row.guest_bytes as f64);
        }
    }

    pub(super) fn write(&self, page: &mut Page) {
        self.write_models(page);
        self.write_functions(page);
        let help = "Time before the first token of cold calls, by phase.";
        let mut phases = page.family("coldframe_cold_start_phase_seconds", Kind::Histogram, help);
        self.phases.iter().for_each(|(phase, times)| phases.histogram(&[("phase", phase)], times));
        let mut ends = page.family(
            "coldframe_guest_ends_total",
            Kind::Counter,
            "How functions' code ended: `returned`, a limit or trap by name, or `own` for its own error.",
        );
        self.guests.ends.iter().for_each(|(kind, count)| ends.count(&[("kind", kind)], *count));
        page.counter("coldframe_guest_fuel_total", "Fuel that functions' code used.", self.guests.fuel);
        page.family("coldframe_guest_cpu_seconds_total", Kind::Counter, "CPU time of functions' code.")
            .value(&[], seconds(self.guests.cpu_ns));
        page.family(
            "coldframe_guest_memory_peak_bytes",
            Kind::Histogram,
            "Peak memory of functions' code, by call.",
        )
        .histogram(&[], &self.guests.peak);
    }

    fn write_models(&self, page: &mut Page) {
        for (place, (name, _, help)) in TIMES.into_iter().enumerate() {
            let mut family = page.family(name, Kind::Histogram, help);
            for (model, sums) in &self.models {
                family.histogram(&labels(model), &sums.times[place]);
            }
        }
        type Count = fn(&Model) -> u64;
        let counts: [(&'static str, &str, Count); 3] = [
            ("vllm:prompt_tokens_total", "Tokens of prompts.", |sums| sums.prompt),
            ("vllm:prompt_tokens_cached_total", "Of these, found in cached pages.", |sums| sums.cached),
            ("vllm:generation_tokens_total", "Tokens generated.", |sums| sums.completion),
        ];
        for (name, help, count) in counts {
            let mut family = page.family(name, Kind::Counter, help);
            self.models.iter().for_each(|(model, sums)| family.count(&labels(model), count(sums)));
        }
        let help =
            "Choices that ended, by why: `stop`, `length`, `abort` where the caller went, `error`, `other`.";
        let mut family = page.family("vllm:request_success_total", Kind::Counter, help);
        for (model, sums) in &self.models {
            for (why, count) in &sums.finished {
                let [model, engine] = labels(model);
                family.count(&[model, engine, ("finished_reason", why)], *count);
            }
        }
        let help = "From arrival to the first token, of calls that found everything in place and of those that did not.";
        let mut family = page.family("coldframe_time_to_first_token_seconds", Kind::Histogram, help);
        for (model, sums) in &self.models {
            for (start, times) in &sums.starts {
                family.histogram(&[("model_name", model), ("start", start)], times);
            }
        }
    }

    fn write_functions(&self, page: &mut Page) {
        let mut family =
            page.family("coldframe_function_requests_total", Kind::Counter, "Calls that ran, by function.");
        for ((tenant, function), sums) in &self.functions {
            for (outcome, count) in &sums.outcomes {
                family.count(&[("tenant", tenant), ("function", function), ("outcome", outcome)], *count);
            }
        }
        let help = "Tokens by function; `cached` ones are part of `prompt`.";
        let mut family = page.family("coldframe_function_tokens_total", Kind::Counter, help);
        for ((tenant, function), sums) in &self.functions {
            let kinds = [("prompt", sums.prompt), ("cached", sums.cached), ("completion", sums.completion)];
            for (kind, count) in kinds {
                family.count(&[("tenant", tenant), ("function", function), ("kind", kind)], count);
            }
        }
        let help = "Share of the engine's step time, by function.";
        let mut family = page.family("coldframe_function_device_seconds_total", Kind::Counter, help);
        for ((tenant, function), sums) in &self.functions {
            family.value(&[("tenant", tenant), ("function", function)], seconds(sums.device_ns));
        }
    }
}

/// Labels of a backbone; one engine runs each.
pub(super) fn labels(model: &str) -> [(&'static str, &str); 2] {
    [("model_name", model), ("engine", "0")]
}

/// Why each choice ended, in vLLM's words.
fn reasons(row: &RequestRow, ran: &Ran) -> Vec<&'static str> {
    let word = |finish: &Finish| match finish {
        // vLLM's engine does not know tools: such an answer has stopped.
        Finish::Stop | Finish::ToolCalls => "stop",
        Finish::Length => "length",
        Finish::Other(_) => "other",
    };
    let mut all: Vec<&'static str> = ran.finished.iter().map(word).collect();
    match row.outcome {
        Outcome::Completed => {}
        Outcome::Dropped => all.push("abort"),
        Outcome::Failed => all.push("error"),
    }
    all
}
