//! What a tenant of a real server feels of hogs: a function with code and a token hook that streams from the model, called
//! again and again, while another function breaks one limit after the other.
//!
//! Slices without hogs, with all of them and with some follow each other, so that all see the same machine. The hog's caller stands for
//! another machine: it takes only what all others leave of the cores. A hog may use the model as any tenant may:
//! `generation-flood` and `trap-in-hook` do, and what the engine computes for them others wait for. So they are measured
//! apart from those that only break limits.

use super::hogs::MISDEEDS;
use super::{round, shift};
use crate::bench_host::client::{Client, Outcome};
use crate::bench_host::server::{Server, Settings};
use crate::ui::{Ui, print};
use anyhow::{Context, Result};
use coldframe_host::live::threads::idling;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Length of a slice.
const SLICE: Duration = Duration::from_secs(4);
/// Time between the end of a call and the next one.
const PAUSE: Duration = Duration::from_millis(20);
/// Tokens of an answer.
const TOKENS: u32 = 16;
/// What is asked.
const QUESTION: &str = "What do penguins eat?";
/// Misdeeds for which the engine computes.
const GENERATING: [&str; 2] = ["generation-flood", "trap-in-hook"];

/// Milliseconds of one kind of slice.
#[derive(Default)]
struct Felt {
    calls: Vec<f64>,
    firsts: Vec<f64>,
    gaps: Vec<f64>,
}

impl Felt {
    fn call(&mut self, client: &Client) -> Result<()> {
        let start = Instant::now();
        let told = client.chat("neighbour", QUESTION, TOKENS).answered()?;
        self.calls.push(start.elapsed().as_secs_f64() * 1e3);
        self.firsts.push(told.ttft_ms());
        self.gaps.extend(told.at.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3));
        Ok(())
    }

    fn slice(&mut self, client: &Client) -> Result<()> {
        let until = Instant::now() + SLICE;
        while Instant::now() < until {
            self.call(client)?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// Measures on a server with this model; `functions` is the folder of the examples.
pub fn measure(
    model: &str,
    functions: &Path,
    slices: usize,
    ui: &Ui,
    figures: &mut Map<String, Value>,
) -> Result<()> {
    let functions = std::path::absolute(functions)?;
    let home = tempfile::tempdir()?;
    let settings = Settings::new(model, &home.path().join("data"), vec![functions.clone()], None);
    let server = Server::start(&settings)?;
    let client = Client::new(&server.url);
    register(&client, &functions, "neighbour", "guardrail", json!({"capabilities": ["state"]}))?;
    register(&client, &functions, "hog", "budget-hog", json!({"memory_limit_mb": 16, "fuel": 200_000_000}))?;
    let kinds: [(&str, &str, Vec<&str>); 2] = [
        ("hogs", "", names(|_| true)),
        ("hogs that do not generate", "_of_limits", names(|name| !GENERATING.contains(&name))),
    ];
    let mut alone = Felt::default();
    let mut beside = kinds.each_ref().map(|_| Felt::default());
    let mut ends = BTreeMap::new();
    // Once for the loads and the compiled code of both.
    Felt::default().call(&client)?;
    hogging(&client, &kinds[0].2, &AtomicBool::new(true), &mut BTreeMap::new());
    for _ in 0..slices {
        ui.check()?;
        alone.slice(&client)?;
        for ((_, _, misdeeds), beside) in kinds.iter().zip(&mut beside) {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let hog = scope.spawn(|| {
                    idling();
                    hogging(&client, misdeeds, &stop, &mut ends);
                });
                let felt = beside.slice(&client);
                stop.store(true, Ordering::Relaxed);
                hog.join().map_err(|_| anyhow::anyhow!("the hog's thread panicked"))?;
                felt
            })?;
        }
    }
    let told: Vec<_> = ends.iter().map(|(end, count)| format!("{end} {count}")).collect();
    print(&format!("ends of the hog beside a model's tenant: {}\n", told.join(", ")))?;
    for ((what, key, _), beside) in kinds.iter().zip(&beside) {
        let calls = shift("a tenant's calls on the model", what, &alone.calls, &beside.calls)?;
        shift("a tenant's first tokens on the model", what, &alone.firsts, &beside.firsts)?;
        let gaps = shift("a tenant's tokens on the model", what, &alone.gaps, &beside.gaps)?;
        figures.insert(format!("neighbour{key}_p99_shift"), json!(round(calls)));
        figures.insert(format!("neighbour{key}_gap_p99_shift"), json!(round(gaps)));
    }
    Ok(())
}

fn names(wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    MISDEEDS.iter().map(|(name, _)| *name).filter(|name| wanted(name)).collect()
}

fn register(client: &Client, functions: &Path, name: &str, example: &str, settings: Value) -> Result<()> {
    let uri = |path: &Path| format!("file://{}", path.display());
    let body = json!({
        "adapters": [{"uri": uri(&functions.join("adapters/pirate"))}],
        "module": {"uri": uri(&functions.join(example).join(format!("{example}.wasm")))},
        "settings": settings,
    });
    client.good("PUT", &format!("/admin/v1/functions/{name}"), &body).with_context(|| example.to_owned())?;
    Ok(())
}

/// The misdeeds in turn, each at least once, until told to stop.
fn hogging(client: &Client, misdeeds: &[&str], stop: &AtomicBool, ends: &mut BTreeMap<String, usize>) {
    for (count, misdeed) in misdeeds.iter().cycle().enumerate() {
        if stop.load(Ordering::Relaxed) && count >= misdeeds.len() {
            return;
        }
        let end = match client.chat("hog", misdeed, TOKENS) {
            Outcome::Answered(_) => "answered".to_owned(),
            Outcome::Refused { code, .. } => code,
            Outcome::Lost(_) => "ended in its stream".to_owned(),
        };
        *ends.entry(end).or_default() += 1;
    }
}
