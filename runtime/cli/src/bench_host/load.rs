//! Mixed load: fifty functions whose answers tell who made them, called at random times whatever became of earlier calls.
//!
//! Every answer is checked against what the function says alone; every request is counted once as right, wrong, refused or
//! lost, answers with one id count as duplicated, and the ledger must have as many rows as there were answers.

use super::client::{Client, Outcome};
use super::numbers::{Random, median, quantile, round};
use super::server::Server;
use super::styles::{Answers, STYLES, TOKENS, register, style};
use super::{Bench, Figures};
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Functions called.
const FUNCTIONS: usize = 50;
/// How uneven the calls are: the exponent of Zipf's law.
const SKEW: f64 = 0.9;
/// Callers, and seconds, that find out what the server can take.
const PROBE: (usize, Duration) = (16, Duration::from_secs(5));
/// Rows of the ledger are durable within a second.
const DURABLE: Duration = Duration::from_millis(1500);
/// The first token that the host promises without being told otherwise, milliseconds.
const SLO_MS: f64 = 1000.0;

/// What came of all requests.
#[derive(Default)]
struct Tally {
    right: usize,
    wrong: usize,
    refused: usize,
    rude: usize,
    lost: usize,
    doubled: usize,
    ids: BTreeSet<String>,
    ttft_ms: Vec<f64>,
    tokens: usize,
    first_faults: Vec<String>,
}

impl Tally {
    fn fault(&mut self, text: String) {
        if self.first_faults.len() < 5 {
            self.first_faults.push(text);
        }
    }

    fn hear(&mut self, outcome: Outcome, name: &'static str, wanted: &str, generation: &str) {
        match outcome {
            Outcome::Answered(told) => {
                self.ttft_ms.push(told.ttft_ms());
                self.tokens += told.at.len();
                self.doubled += usize::from(!self.ids.insert(told.id));
                if told.text == wanted && told.generation.as_deref() == Some(generation) {
                    self.right += 1;
                } else {
                    self.wrong += 1;
                    let of = style(&told.text).unwrap_or("no style");
                    self.fault(format!("{name} was to say {wanted:?} and said, in {of}, {:?}", told.text));
                }
            }
            Outcome::Refused { status, code, retry_after } => {
                self.refused += 1;
                self.rude += usize::from(!retry_after);
                self.fault(format!("{name} was refused: {status} {code}, Retry-After {retry_after}"));
            }
            Outcome::Lost(why) => {
                self.lost += 1;
                self.fault(format!("{name} was lost: {why}"));
            }
        }
    }
}

/// A call to come.
struct Planned {
    at: Duration,
    function: usize,
    question: &'static str,
}

/// Measures.
pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let home = tempfile::tempdir()?;
    let server = Server::start(&bench.settings(&home.path().join("data"), &[&bench.signed]))?;
    let client = Client::new(&server.url);
    let generations = register(&client, &bench.signed)?;
    let answers = Answers::learn(&client)?;
    for index in 0..FUNCTIONS {
        client.register(&name(index), &bench.signed.join(STYLES[index % STYLES.len()]))?;
    }
    let rate = probe(&client, &answers)? * bench.args.share;
    std::thread::sleep(DURABLE);
    let before = requests(&client)?;
    let seconds = bench.args.minutes.map_or(bench.args.seconds, |minutes| minutes * 60);
    let planned = plan(bench, &answers, rate, seconds as f64);
    let tally = Mutex::new(Tally::default());
    let start = Instant::now();
    let memory = drive(&server, &client, &answers, &generations, &planned, &tally)?;
    let took = start.elapsed().as_secs_f64();
    let tally = tally.into_inner().map_err(|_| anyhow::anyhow!("a caller panicked"))?;
    for fault in &tally.first_faults {
        bench.ui.warn(fault);
    }
    tell(&tally, &planned, took, rate)?;
    std::thread::sleep(DURABLE);
    let rows = requests(&client)? - before;
    let answered = (tally.right + tally.wrong) as f64;
    print(&format!("rows of the ledger: {rows}, answers: {answered}\n"))?;
    figures.insert("ledger_rows_off".to_owned(), json!((rows - answered).abs()));
    tell_memory(&memory, figures)?;
    figures.insert("wrong_adapter_answers".to_owned(), json!(tally.wrong));
    figures.insert("lost_answers".to_owned(), json!(tally.lost));
    figures.insert("doubled_answers".to_owned(), json!(tally.doubled));
    figures.insert("refused_without_retry_after".to_owned(), json!(tally.rude));
    let on_time = tally.ttft_ms.iter().filter(|ms| **ms <= SLO_MS).count() as f64;
    figures.insert("slo_share".to_owned(), json!(round(on_time / tally.ttft_ms.len().max(1) as f64)));
    ensure!(tally.right > 0, "no request was answered rightly");
    Ok(())
}

fn name(index: usize) -> String {
    format!("signed-{index:02}")
}

/// Rows of requests in the ledger.
fn requests(client: &Client) -> Result<f64> {
    let usage = client.good("GET", "/admin/v1/usage?by=tenant", &Value::Null)?;
    let rows = usage["data"].as_array().context("rows")?;
    Ok(rows.iter().filter_map(|row| row["requests"].as_f64()).sum())
}

/// Requests a second of callers that each send the next when the last was answered.
fn probe(client: &Client, answers: &Answers) -> Result<f64> {
    let (callers, time) = PROBE;
    let (start, done) = (Instant::now(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for caller in 0..callers {
            let done = &done;
            scope.spawn(move || {
                let mut turn = caller;
                while start.elapsed() < time {
                    let question = answers.questions[turn % answers.questions.len()];
                    if matches!(client.chat(&name(turn % FUNCTIONS), question, TOKENS), Outcome::Answered(_))
                    {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    turn += callers;
                }
            });
        }
    });
    let rate = done.into_inner() as f64 / start.elapsed().as_secs_f64();
    ensure!(rate > 0.0, "no request of the probe was answered");
    print(&format!("{callers} callers in a closed loop: {rate:.1} requests a second\n"))?;
    Ok(rate)
}

fn plan(bench: &Bench<'_>, answers: &Answers, rate: f64, seconds: f64) -> Vec<Planned> {
    let mut random = Random(bench.args.seed);
    let weights: Vec<f64> = (1..=FUNCTIONS).map(|rank| (rank as f64).powf(-SKEW)).collect();
    let all: f64 = weights.iter().sum();
    let (mut planned, mut at) = (Vec::new(), random.exponential(1.0 / rate));
    while at < seconds {
        let mut place = random.unit() * all;
        let function = weights.iter().position(|weight| {
            place -= weight;
            place <= 0.0
        });
        let question = answers.questions[random.below(answers.questions.len())];
        planned.push(Planned { at: Duration::from_secs_f64(at), function: function.unwrap_or(0), question });
        at += random.exponential(1.0 / rate);
    }
    planned
}

/// Sends every call at its time; the server's memory at ten moments.
fn drive(
    server: &Server,
    client: &Client,
    answers: &Answers,
    generations: &[String],
    planned: &[Planned],
    tally: &Mutex<Tally>,
) -> Result<Vec<u64>> {
    let (start, mut memory) = (Instant::now(), Vec::new());
    std::thread::scope(|scope| {
        for (index, call) in planned.iter().enumerate() {
            std::thread::sleep(call.at.saturating_sub(start.elapsed()));
            if index % (planned.len() / 10).max(1) == 0 {
                memory.extend(server.resident_bytes());
            }
            scope.spawn(move || {
                let style = call.function % STYLES.len();
                let outcome = client.chat(&name(call.function), call.question, TOKENS);
                let wanted = answers.of(STYLES[style], call.question);
                if let Ok(mut tally) = tally.lock() {
                    tally.hear(outcome, STYLES[style], wanted, &generations[style]);
                }
            });
        }
    });
    memory.extend(server.resident_bytes());
    Ok(memory)
}

fn tell(tally: &Tally, planned: &[Planned], took: f64, rate: f64) -> Result<()> {
    let heard = tally.right + tally.wrong + tally.refused + tally.lost;
    ensure!(heard == planned.len(), "{heard} outcomes of {} requests", planned.len());
    print(&format!(
        "{heard} requests at {rate:.1} a second over {took:.0} s: {} right, {} wrong, {} refused ({} without Retry-After), \
         {} lost, {} doubled\n",
        tally.right, tally.wrong, tally.refused, tally.rude, tally.lost, tally.doubled
    ))?;
    print(&format!(
        "first token p50 {:.0} ms, p95 {:.0} ms, p99 {:.0} ms; {:.0} tokens a second\n",
        median(&tally.ttft_ms),
        quantile(&tally.ttft_ms, 0.95),
        quantile(&tally.ttft_ms, 0.99),
        tally.tokens as f64 / took
    ))
}

/// The first moment is left out: buffers and pages are still being touched then.
fn tell_memory(memory: &[u64], figures: &mut Figures) -> Result<()> {
    let [_, early, .., late] = memory else { return Ok(()) };
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    print(&format!("memory of its own: {:.1} MiB, in the end {:.1} MiB\n", mib(*early), mib(*late)))?;
    figures.insert("load_memory_growth_mib".to_owned(), json!(round(mib(*late) - mib(*early))));
    Ok(())
}
