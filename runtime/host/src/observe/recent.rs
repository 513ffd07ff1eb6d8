//! The last requests with their times, for people who look at a server now.
//!
//! A ring in memory: what is older is in the ledger. No prompt, no answer.

use crate::meter::row::PHASES;
use crate::meter::{Outcome, RequestRow};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// Requests kept. Arbitrary: a few screens.
const KEPT: usize = 512;

/// Requests that one answer holds.
const SHOWN: usize = 120;

/// The last requests.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<RequestRow>);

impl Recent {
    /// Keeps a request.
    pub fn keep(&mut self, row: &RequestRow) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(row.clone());
    }

    /// The last requests of a tenant, or of all: oldest first.
    pub fn show(&self, tenant: Option<&str>) -> Value {
        let of = |row: &&RequestRow| tenant.is_none_or(|tenant| row.tenant == tenant);
        let mut shown: Vec<Value> = self.0.iter().rev().filter(of).take(SHOWN).map(view).collect();
        shown.reverse();
        Value::Array(shown)
    }
}

fn view(row: &RequestRow) -> Value {
    let phases: Map<String, Value> = PHASES
        .iter()
        .zip(row.phases_ns)
        .filter(|(_, ns)| *ns > 0)
        .map(|(name, ns)| ((*name).to_owned(), json!(ns)))
        .collect();
    json!({
        "id": row.id,
        "tenant": row.tenant,
        "function": row.function,
        "at_ms": row.arrived_ms,
        "outcome": match row.outcome {
            Outcome::Completed => "completed",
            Outcome::Dropped => "dropped",
            Outcome::Failed => "failed",
        },
        "cold": row.cold,
        "ttft_ns": row.ttft_ns,
        "took_ns": row.took_ns,
        "phases_ns": phases,
        "prompt_tokens": row.prompt_tokens,
        "completion_tokens": row.completion_tokens,
    })
}
