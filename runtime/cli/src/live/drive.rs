//! The schedule: each request goes out when it is due, whatever became of those before it.

use super::client::Client;
use super::plan::{Plan, Planned};
use super::prompt::Pool;
use super::send::{self, Answered};
use super::{LiveArgs, patience};
use crate::ui::Ui;
use anyhow::Result;
use coldframe_simulator::observed::{End, Observed};
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

pub use super::send::Answered as Driven;

/// Time between making ready and the first request.
const LEAD: Duration = Duration::from_millis(50);
/// How often Ctrl-C is looked at while the rest is awaited.
const POLL: Duration = Duration::from_millis(100);

/// Sends a run's requests; their answers in order of the trace, `None` when interrupted.
pub async fn drive(
    client: Arc<Client>,
    plan: &Plan,
    pool: &Pool,
    live: &LiveArgs,
    ui: &Ui,
) -> Result<Option<Vec<Answered>>> {
    let path = if live.ask.is_some() { "/v1/chat/completions" } else { "/v1/completions" };
    let patience = patience(live);
    let bar = ui.progress("sending");
    let start = Instant::now() + LEAD;
    let mut under_way = JoinSet::new();
    for (id, planned) in plan.requests.iter().enumerate() {
        // Made before its time, so that making it delays nothing.
        let body = body(plan, pool, live, id as u64, planned);
        tokio::time::sleep_until((start + Duration::from_nanos(planned.due_ns)).into()).await;
        if ui.check().is_err() {
            return Ok(None);
        }
        bar.set_position((id * 1000 / plan.requests.len()) as u64);
        let client = client.clone();
        let known = Observed {
            id: id as u64,
            function: planned.function,
            due_ns: planned.due_ns,
            prompt_tokens: planned.prompt,
            ..Observed::default()
        };
        under_way.spawn(async move {
            let late = known.clone();
            let answer =
                send::send(&client, path, body, Answered { observed: known, ..Answered::default() }, start);
            match tokio::time::timeout(patience, answer).await {
                Ok(answered) => answered,
                Err(_) => {
                    let end_ns = start.elapsed().as_nanos() as u64;
                    let observed = Observed { end: End::TimedOut, end_ns, ..late };
                    Answered { observed, ..Answered::default() }
                }
            }
        });
    }
    let mut answers = Vec::with_capacity(plan.requests.len());
    while !under_way.is_empty() {
        match tokio::time::timeout(POLL, under_way.join_next()).await {
            Ok(Some(answer)) => answers.push(answer?),
            Ok(None) => break,
            Err(_) if ui.check().is_err() => return Ok(None),
            Err(_) => {}
        }
    }
    bar.finish_and_clear();
    answers.sort_by_key(|answer| answer.observed.id);
    Ok(Some(answers))
}

fn body(plan: &Plan, pool: &Pool, live: &LiveArgs, id: u64, planned: &Planned) -> Value {
    match &live.ask {
        Some(ask) => send::chat(planned, ask, plan.seed),
        None => send::completion(planned, &pool.prompt(plan.seed, id, planned.prompt), plan.seed),
    }
}
