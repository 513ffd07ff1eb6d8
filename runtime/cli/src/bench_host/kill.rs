//! Crashes: SIGKILL to a server that is registering, replacing, rolling back, deleting and answering, at random moments.
//!
//! What it acknowledged must be there after the next start, what it did not acknowledge must be absent or whole: every
//! function that is there answers, from the generation that it names and in that generation's style. The store checks its
//! databases and every blob against its hash. Uses that the ledger once showed must not go away again.

use super::client::Client;
use super::numbers::{Random, median, round};
use super::server::{Server, Settings};
use super::styles::{Answers, STYLES, TOKENS, register};
use super::{Bench, Figures};
use crate::ui::print;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Writers at once, each with a function of its own.
const LANES: usize = 3;
/// Longest time that writers work before the crash.
const WORK_MS: usize = 600;
/// Every so many rounds the server is also killed somewhere in its start.
const START_EVERY: usize = 5;

/// What a lane may find.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No such function.
    Absent,
    /// This generation is live.
    Live(String),
    /// Any generation of this lane: what a rollback, cut off, leads to.
    Some,
}

/// What was acknowledged, and what was begun beyond it.
#[derive(Debug)]
struct Lane {
    name: String,
    acknowledged: State,
    begun: Option<State>,
    changes: u64,
}

/// What was lost, in words.
type Lost = Vec<String>;

/// Measures.
pub fn measure(bench: &Bench<'_>, figures: &mut Figures) -> Result<()> {
    let home = tempfile::tempdir()?;
    let settings = bench.settings(&home.path().join("data"), &[&bench.signed]);
    let mut server = Server::start(&settings)?;
    let client = Client::new(&server.url);
    let generations = register(&client, &bench.signed)?;
    let answers = Answers::learn(&client)?;
    let mut crash = Crash { bench, settings, generations, answers, random: Random(bench.args.seed), seen: 0 };
    let lane =
        |index| Lane { name: format!("lane-{index}"), acknowledged: State::Absent, begun: None, changes: 0 };
    let mut lanes: Vec<Lane> = (0..LANES).map(lane).collect();
    let (mut lost, mut ready) = (Lost::new(), Vec::new());
    for round in 0..bench.args.kill_rounds {
        bench.ui.check()?;
        crash.work(&mut server, &mut lanes)?;
        if round % START_EVERY == START_EVERY - 1 {
            let time = server.ready.mul_f64(crash.random.unit());
            Server::start_and_kill(&crash.settings, time)?;
        }
        server = match Server::start(&crash.settings) {
            Ok(server) => server,
            Err(error) => {
                // Ctrl-C ends the servers too; that is no loss.
                bench.ui.check()?;
                lost.push(format!("round {round}: {error:#}"));
                break;
            }
        };
        ready.push(server.ready.as_secs_f64() * 1e3);
        let before = lost.len();
        crash.look(&Client::new(&server.url), &mut lanes, &mut lost)?;
        lost[before..].iter_mut().for_each(|fault| *fault = format!("round {round}: {fault}"));
    }
    for fault in lost.iter().take(10) {
        bench.ui.warn(fault);
    }
    let changes: u64 = lanes.iter().map(|lane| lane.changes).sum();
    print(&format!(
        "{} crashes, {changes} acknowledged changes, {} lost; ready again in {:.0} ms (median)\n",
        ready.len(),
        lost.len(),
        median(&ready)
    ))?;
    ensure!(changes > 0, "the writers did nothing before the crashes");
    figures.insert("kill9_rounds".to_owned(), json!(ready.len()));
    figures.insert("kill9_lost".to_owned(), json!(lost.len()));
    figures.insert("kill9_changes".to_owned(), json!(changes));
    figures.insert("kill9_ready_ms".to_owned(), json!(round(median(&ready))));
    Ok(())
}

struct Crash<'a> {
    bench: &'a Bench<'a>,
    settings: Settings,
    generations: Vec<String>,
    answers: Answers,
    random: Random,
    /// Requests that the ledger once showed.
    seen: u64,
}

impl Crash<'_> {
    /// Lets the lanes and a caller work, and kills the server under them.
    fn work(&mut self, server: &mut Server, lanes: &mut [Lane]) -> Result<()> {
        let client = Client::new(&server.url);
        let time = Duration::from_millis(self.random.below(WORK_MS) as u64);
        let (stop, seen) = (AtomicBool::new(false), AtomicU64::new(self.seen));
        let chances: Vec<_> = lanes.iter().map(|_| Random(self.random.next())).collect();
        let crash = &*self;
        let killed = std::thread::scope(|scope| {
            for (lane, mut random) in lanes.iter_mut().zip(chances) {
                let (client, stop) = (&client, &stop);
                scope.spawn(move || {
                    while crash.change(lane, client, &mut random) && !stop.load(Ordering::Relaxed) {}
                });
            }
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let _ = client.chat(STYLES[0], crash.answers.questions[0], 2);
                    let Ok(requests) = requests(&client) else { break };
                    seen.fetch_max(requests, Ordering::Relaxed);
                }
            });
            std::thread::sleep(time);
            let killed = server.kill9();
            stop.store(true, Ordering::Relaxed);
            killed
        });
        self.seen = seen.into_inner();
        killed
    }

    /// One change of a lane; false where its outcome is not known, or none can follow.
    fn change(&self, lane: &mut Lane, client: &Client, random: &mut Random) -> bool {
        let path = format!("/admin/v1/functions/{}", lane.name);
        let style = random.below(STYLES.len());
        let uri = format!("file://{}", self.bench.signed.join(STYLES[style]).display());
        let present = lane.acknowledged != State::Absent;
        let (method, path, body, becomes) = match random.below(10) {
            0..=1 if present => ("DELETE", path, Value::Null, State::Absent),
            2..=4 if present => ("POST", path + "/rollback", json!({}), State::Some),
            _ => {
                let body = json!({"adapters": [{"uri": uri}]});
                ("PUT", path, body, State::Live(self.generations[style].clone()))
            }
        };
        lane.begun = Some(becomes.clone());
        let Ok(reply) = client.send(method, &path, &body) else { return false };
        match reply.status {
            200..=299 => {
                let live = || reply.value["aliases"]["live"][0]["generation"].as_str().map(str::to_owned);
                lane.acknowledged = match becomes {
                    State::Some => live().map_or(State::Some, State::Live),
                    known => known,
                };
                lane.changes += 1;
            }
            // Refused: nothing happened.
            400..=499 => {}
            _ => return false,
        }
        lane.begun = None;
        true
    }

    /// Compares what is there with what was acknowledged, and takes over what turned out to have happened.
    fn look(&mut self, client: &Client, lanes: &mut [Lane], lost: &mut Lost) -> Result<()> {
        for lane in lanes {
            let found = found(client, &lane.name)?;
            let begun = lane.begun.take();
            let fits = |state: &State| match state {
                State::Some => matches!(&found, State::Live(live) if self.generations.contains(live)),
                known => *known == found,
            };
            if !fits(&lane.acknowledged) && !begun.as_ref().is_some_and(fits) {
                lost.push(format!("{}: {found:?}, not {:?} nor {begun:?}", lane.name, lane.acknowledged));
            }
            lost.extend(self.ask(client, &lane.name, &found));
            lane.acknowledged = found;
        }
        for (style, generation) in STYLES.iter().zip(&self.generations) {
            lost.extend(self.ask(client, style, &State::Live(generation.clone())));
        }
        let check = client.good("POST", "/admin/v1/check", &json!({}))?;
        if check["sound"] != true {
            lost.push(format!("the store is not sound: {}", check["problems"]));
        }
        let requests = requests(client)?;
        if requests < self.seen {
            lost.push(format!("the ledger has {requests} requests and had shown {}", self.seen));
        }
        Ok(())
    }

    /// Whether the function answers as its generation does; what is wrong if not.
    fn ask(&self, client: &Client, name: &str, state: &State) -> Option<String> {
        let State::Live(generation) = state else { return None };
        let Some(style) = self.generations.iter().position(|known| known == generation) else {
            return Some(format!("{name}: a generation that nobody made, {generation}"));
        };
        let question = self.answers.questions[0];
        match client.chat(name, question, TOKENS).answered() {
            Ok(told) if told.generation.as_ref() != Some(generation) => {
                Some(format!("{name}: {:?} answered for {generation}", told.generation))
            }
            Ok(told) if told.text != self.answers.of(STYLES[style], question) => {
                Some(format!("{name}: said {:?}, not as {}", told.text, STYLES[style]))
            }
            Ok(_) => None,
            Err(error) => Some(format!("{name}: {error:#}")),
        }
    }
}

fn found(client: &Client, name: &str) -> Result<State> {
    let reply = client.send("GET", &format!("/admin/v1/functions/{name}"), &Value::Null)?;
    if reply.status == 404 {
        return Ok(State::Absent);
    }
    let live = reply.value["aliases"]["live"][0]["generation"].as_str();
    Ok(State::Live(live.with_context(|| format!("{name}: {} {}", reply.status, reply.value))?.to_owned()))
}

/// Requests in the ledger.
fn requests(client: &Client) -> Result<u64> {
    let usage = client.good("GET", "/admin/v1/usage?by=tenant", &Value::Null)?;
    let rows = usage["data"].as_array().context("rows")?;
    Ok(rows.iter().filter_map(|row| row["requests"].as_u64()).sum())
}
