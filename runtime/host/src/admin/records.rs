//! Rows of the books as the admin API gives them out.

use crate::records::Scope;
use serde::{Deserialize, Serialize};

/// A change somebody asked for, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The tenant it concerns.
    pub tenant: String,
    /// Public part of the key that asked; empty where keys are not in use.
    pub key: String,
    /// What the key may do.
    pub scope: Scope,
    /// Name of the action.
    pub action: String,
    /// What it is about.
    pub target: String,
    /// `ok`, or the error's code.
    pub outcome: String,
    /// The record's revision afterwards.
    pub revision: Option<u64>,
    /// `x-request-id`.
    pub request_id: String,
}

/// A line of the audit log with its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    /// Grows with every line.
    pub number: u64,
    /// The line.
    #[serde(flatten)]
    pub line: AuditLine,
}

/// A sum over the ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Whose.
    pub tenant: String,
    /// Of which function; absent in sums by tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// Beginning of the hour or day, milliseconds since 1970; absent in sums over all time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_ms: Option<u64>,
    /// Requests.
    pub requests: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of answers.
    pub completion_tokens: u64,
    /// Device time, nanoseconds.
    pub device_ns: u64,
    /// Money for what is its own: requests, and memory held. 10⁻⁹ dollars, under the tariff of the time.
    pub nanodollars: u64,
    /// Money for its part of the shared backbone.
    pub shared_nanodollars: SharedCost,
    /// Own and shared by the residency game: what is billed, and what a month's budget counts.
    pub total_nanodollars: u64,
}

/// A part of what functions share, three ways; over all functions each adds up to the same whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedCost {
    /// The same for every function of the period.
    pub equal: u64,
    /// By device time.
    #[serde(rename = "use")]
    pub by_use: u64,
    /// By how long it kept the backbone alive, and with whom.
    pub shapley: u64,
}

impl UsageRow {
    /// Takes another row's amounts in.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        self.device_ns += other.device_ns;
        self.nanodollars += other.nanodollars;
        self.shared_nanodollars.equal += other.shared_nanodollars.equal;
        self.shared_nanodollars.by_use += other.shared_nanodollars.by_use;
        self.shared_nanodollars.shapley += other.shared_nanodollars.shapley;
        self.total_nanodollars += other.total_nanodollars;
    }
}

/// A line that a function's code logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRow {
    /// Grows with every line.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// `x-request-id` of the call.
    pub request_id: String,
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// The line.
    pub message: String,
}
