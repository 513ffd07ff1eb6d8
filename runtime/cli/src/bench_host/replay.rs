//! Fifty functions as users would load them: the most that the host takes beside what the engine alone would, then a
//! trace of `coldframe trace generate` sent by `coldframe replay --live`, which checks whose answers came.
//!
//! At saturation sixteen callers each send the next request when the last has ended, prompts that share nothing, answers
//! of a fixed length. The engine alone is `coldframe bench`: its time for the same prompts one after the other and for
//! as many tokens of sixteen different adapters, both measured right before and right after.

use super::client::Client;
use super::numbers::{Random, prompt, round};
use super::server::Server;
use super::speed;
use super::streams::{self, Ask};
use super::styles::STYLES;
use super::{Bench, Figures};
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Functions called.
const FUNCTIONS: usize = 50;
/// How uneven the calls are: the exponent of Zipf's law.
const SKEW: f64 = 0.9;
/// Callers at saturation, as many as the batch of `coldframe bench`.
const CALLERS: usize = 16;
/// How long they call.
const SATURATED: Duration = Duration::from_secs(20);
/// Tokens of a prompt and of an answer at saturation.
const TOKENS: (usize, usize) = (64, 64);
/// How bursty each function's calls of the trace are: the coefficient of variation of its gaps.
const COV: &str = "2";
/// What every request of the trace asks.
const QUESTION: &str = "What do penguins eat?";
/// Tokens of its answer at most.
const ANSWER: &str = "24";
/// The first token that the host promises without being told otherwise, seconds.
const SLO_S: &str = "1";
/// Signs of the three styles, in lower case: what one of them says and no other does.
const SIGNS: [(&str, &str); 3] = [("pirate", "matey"), ("shout", "!!!"), ("json", "{\"answer\"")];

/// Measures.
pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let home = tempfile::tempdir()?;
    let server = Server::start(&bench.settings(&home.path().join("data"), &[&bench.signed]))?;
    let client = Client::new(&server.url);
    for index in 0..FUNCTIONS {
        client.register(&name(index), &bench.signed.join(STYLES[index % STYLES.len()]))?;
    }
    let vocab = bench.config()?.vocab as u32;
    let word = speed::word(&client)?;
    let before = speed::engine(bench, TOKENS.0)?;
    let done = saturate(&server.url, vocab, word, bench.args.seed)?;
    let after = speed::engine(bench, TOKENS.0)?;
    let alone = |engine: &speed::Alone| {
        (done.begun * TOKENS.0) as f64 / engine.prefill_tok_s + done.events as f64 / engine.decode_tok_s
    };
    let share = f64::midpoint(alone(&before), alone(&after)) / done.took.as_secs_f64();
    print(&format!(
        "{CALLERS} callers on {FUNCTIONS} functions: {} prompts of {} tokens and {} tokens of answers in {:.1} s; the \
         engine alone would take {share:.3} of that\n",
        done.begun,
        TOKENS.0,
        done.events,
        done.took.as_secs_f64()
    ))?;
    figures.insert("load_vs_backbone".to_owned(), json!(round(share)));
    let seconds = bench.args.minutes.map_or(bench.args.seconds, |minutes| minutes * 60);
    let rate = rate(&client, bench)?;
    replay(&server, home.path(), rate, seconds, bench, figures)
}

fn name(index: usize) -> String {
    format!("{}-{index:02}", STYLES[index % STYLES.len()])
}

/// The least rank of Zipf's law whose share of all weight is passed.
fn draw(random: &mut Random) -> usize {
    let weight = |rank: usize| (rank as f64 + 1.0).powf(-SKEW);
    let mut point = random.unit() * (0..FUNCTIONS).map(weight).sum::<f64>();
    let passed = (0..FUNCTIONS).position(|rank| {
        point -= weight(rank);
        point <= 0.0
    });
    passed.unwrap_or(0)
}

fn saturate(url: &str, vocab: u32, word: u64, seed: u64) -> Result<streams::Done> {
    let mut random = Random(seed);
    let mut number = seed << 32;
    let ask = || {
        number += 1;
        let body = json!({
            "model": name(draw(&mut random)), "prompt": prompt(vocab, TOKENS.0, number), "temperature": 0,
            "max_tokens": TOKENS.1, "ignore_eos": true, "stream": true, "logit_bias": {(word.to_string()): 100},
        });
        Ask { path: "/v1/completions", body }
    };
    streams::closed_loop(url, ask, CALLERS, TOKENS.1, SATURATED)
}

/// Requests a second of the trace: a share of what callers one after the other get.
fn rate(client: &Client, bench: &Bench<'_>) -> Result<f64> {
    let tokens = ANSWER.parse().context("a number")?;
    let calls = 30;
    let start = std::time::Instant::now();
    for index in 0..calls {
        client.chat(&name(index % FUNCTIONS), QUESTION, tokens).answered()?;
    }
    // Sixteen at once are about four times as fast as one after the other; the share is of that.
    Ok(f64::from(calls as u32) / start.elapsed().as_secs_f64() * 4.0 * bench.args.share)
}

/// The trace, made and sent; what the command found.
fn replay(
    server: &Server,
    home: &Path,
    rate: f64,
    seconds: u64,
    bench: &Bench<'_>,
    figures: &mut Figures,
) -> Result<()> {
    let (trace, expect, report) = (home.join("trace.csv"), home.join("expect.csv"), home.join("report.json"));
    let lines = SIGNS.map(|(style, sign)| format!("{style}-*,{sign}\n"));
    std::fs::write(&expect, lines.concat())?;
    let (functions, skew, rate, span, seed) = (
        FUNCTIONS.to_string(),
        SKEW.to_string(),
        format!("{rate:.2}"),
        seconds.to_string(),
        bench.args.seed.to_string(),
    );
    let law = ["--lengths", "gsm8k", "--cov", COV];
    command()?
        .args(["--quiet", "trace", "generate", "zipf", "--functions", &functions, "--zipf", &skew])
        .args(["--rate", &rate, "--span", &span, "--seed", &seed])
        .args(law)
        .arg("-o")
        .arg(&trace)
        .status()?
        .success()
        .then_some(())
        .context("`coldframe trace generate` failed")?;
    let early = server.resident_bytes();
    let out = command()?
        .args(["replay", "--live", &server.url, "--ask", QUESTION, "--max-output", ANSWER])
        .args(["--slo-ttft", SLO_S, "--trace"])
        .arg(&trace)
        .arg("--expect")
        .arg(&expect)
        .arg("--out")
        .arg(&report)
        .stdin(Stdio::null())
        .output()?;
    let told = String::from_utf8_lossy(&out.stderr);
    let ledger = told.lines().find(|line| line.contains(" sent: ")).unwrap_or("no ledger was told");
    print(&format!("trace at {rate} requests a second for {seconds} s: {ledger}\n"))?;
    ensure!(out.status.success(), "`coldframe replay --live` found: {told}");
    let report: Value = serde_json::from_slice(&std::fs::read(&report)?)?;
    let run = &report["policies"][0]["runs"][0];
    let count = |what: &str| run["requests"][what].as_u64().with_context(|| format!("requests {what}"));
    let (arrived, refused) = (count("arrived")?, count("refused")?);
    let within = run["slo"]["ttft"].as_f64();
    print(&format!(
        "first token p50 {:.0} ms, p99 {:.0} ms; {} of {arrived} refused\n",
        run["ttft_s"]["p50"].as_f64().unwrap_or(f64::NAN) * 1e3,
        run["ttft_s"]["p99"].as_f64().unwrap_or(f64::NAN) * 1e3,
        refused
    ))?;
    figures.insert("replayed".to_owned(), json!(arrived));
    figures.insert("replay_refused_share".to_owned(), json!(round(refused as f64 / arrived.max(1) as f64)));
    figures.extend(within.map(|share| ("replay_slo_share".to_owned(), json!(round(share)))));
    for (key, word) in [
        ("replay_lost", " lost"),
        ("replay_duplicated", " duplicated"),
        ("replay_wrong_adapter", " by a wrong"),
    ] {
        figures.extend(number_before(ledger, word).map(|number| (key.to_owned(), json!(number))));
    }
    if let (Some(early), Some(late)) = (early, server.resident_bytes()) {
        let growth = (late as f64 - early as f64) / f64::from(1 << 20);
        figures.insert("replay_memory_growth_mib".to_owned(), json!(round(growth)));
    }
    Ok(())
}

fn command() -> Result<Command> {
    Ok(Command::new(std::env::current_exe().context("this program's own file")?))
}

/// The number that stands before a word of a sentence.
fn number_before(text: &str, word: &str) -> Option<u64> {
    text[..text.find(word)?].rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_from_the_ledger_s_words() {
        let text =
            "9 sent: 7 answered, 2 refused, 0 lost, 1 duplicated; 6 signed, 1 unsigned, 3 by a wrong adapter";
        let read = [" lost", " duplicated", " by a wrong", " stolen"].map(|word| number_before(text, word));
        assert_eq!(read, [Some(0), Some(1), Some(3), None]);
    }
}
