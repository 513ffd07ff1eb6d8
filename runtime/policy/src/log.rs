//! The log of a core: every event it was told and every action it asked for, so that the same decisions can be made again.
//!
//! JSON, one line each: a [`Header`] with policy and backbones, then [`Line`]s in order. Functions, workers and changes
//! of policy are events, so nothing else is needed to replay. Prompts and answers are never in it, names and sizes are.
//! Both worlds write it; where it lies, and how large it may grow, is theirs.

use crate::config::PolicyConfig;
use crate::core::Core;
use crate::event::{Action, Event};
use crate::spec::BackboneSpec;
use crate::units::{FunctionId, Nanos, RequestId};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::io::BufRead;

/// The version of the format written here. A reader refuses any other.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format.
    pub coldframe_log: u32,
    /// Who wrote it: `host` or `simulator`.
    pub writer: String,
    /// Milliseconds since 1970 at time zero of the log; zero where time is virtual.
    pub started_ms: u64,
    /// The policy at the start.
    pub policy: PolicyConfig,
    /// Backbones by number.
    pub backbones: Vec<Backbone>,
}

/// A backbone of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backbone {
    /// Its name.
    pub name: String,
    /// What the core was told of it.
    pub spec: BackboneSpec,
}

/// A line after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The core was told this.
    Event {
        /// When.
        at: Nanos,
        /// What.
        event: Event,
    },
    /// It asked for this, at the time of the event before.
    Action(Action),
    /// Who a function is; follows the event that added it.
    Function {
        /// Its number.
        id: FunctionId,
        /// Whose it is.
        tenant: String,
        /// Its name.
        name: String,
        /// Its generation; empty where it is the backbone itself.
        generation: String,
    },
    /// How a request that ran ended: what it really took, for `whatif` and for comparing worlds.
    Ended {
        /// When.
        at: Nanos,
        /// Its number.
        request: RequestId,
        /// Its function.
        function: FunctionId,
        /// Tokens of its prompt.
        prompt_tokens: u32,
        /// Tokens generated.
        output_tokens: u32,
        /// From arrival to the first token; zero where none came.
        ttft: Nanos,
        /// Time of the device that was its own.
        device: Nanos,
        /// How it ended: `completed`, `dropped` or `failed`.
        outcome: String,
    },
    /// The writer stopped here before the core did: the rest is not in the log.
    Cut {
        /// When.
        at: Nanos,
        /// Why.
        reason: String,
    },
}

/// Why a log can't be read or does not replay.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file can't be read.
    #[error("cannot read the log: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not of the format.
    #[error("line {line} of the log is no line of a decision log: {reason}")]
    Bad {
        /// Which, from 1.
        line: u64,
        /// Why.
        reason: String,
    },
    /// Written by another version.
    #[error(
        "the log has version {found}; this program reads version {VERSION}. Replay it with the program that wrote it"
    )]
    Version {
        /// What it has.
        found: u32,
    },
    /// Nothing in it.
    #[error("the log is empty: it has no header line")]
    Empty,
}

/// A header or a line as text, without the newline.
pub fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data with string keys is JSON")
}

/// A log being read.
pub struct Reader<R> {
    lines: std::io::Lines<R>,
    number: u64,
    /// Its header.
    pub header: Header,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn new(source: R) -> Result<Self, LogError> {
        let mut lines = source.lines();
        let first = lines.next().ok_or(LogError::Empty)??;
        let bad = |error: serde_json::Error| LogError::Bad { line: 1, reason: error.to_string() };
        let version: serde_json::Value = serde_json::from_str(&first).map_err(bad)?;
        if let Some(found) = version["coldframe_log"].as_u64().filter(|&v| v != u64::from(VERSION)) {
            return Err(LogError::Version { found: found.min(u64::from(u32::MAX)) as u32 });
        }
        let header = serde_json::from_str(&first).map_err(bad)?;
        Ok(Self { lines, number: 1, header })
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Line, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        self.number += 1;
        let bad = |error: serde_json::Error| LogError::Bad { line: self.number, reason: error.to_string() };
        Some(line.map_err(LogError::from).and_then(|text| serde_json::from_str(&text).map_err(bad)))
    }
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq)]
pub struct Replayed {
    /// Events told.
    pub events: u64,
    /// Actions compared and found the same.
    pub equal: u64,
    /// The first difference, where there is one: nothing after it was compared.
    pub parted: Option<Divergence>,
    /// Why the log ends early, where it does.
    pub cut: Option<String>,
}

/// Where a log and the decisions made anew part.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// The event, counted from 1.
    pub event: u64,
    /// When.
    pub at: Nanos,
    /// What the core was told.
    pub told: Event,
    /// What the log says it asked for next; `None` for nothing more.
    pub logged: Option<Action>,
    /// What it asks for now; `None` for nothing more.
    pub decided: Option<Action>,
}

/// Tells a fresh core everything in the log and compares its actions one by one.
///
/// # Errors
/// [`LogError`] where the log can't be read.
pub fn replay<R: BufRead>(log: Reader<R>) -> Result<Replayed, LogError> {
    let backbones = log.header.backbones.iter().map(|b| b.spec.clone()).collect();
    let mut core = Core::new(log.header.policy.clone(), backbones);
    let mut replayed = Replayed { events: 0, equal: 0, parted: None, cut: None };
    let mut last: Option<(Nanos, Event)> = None;
    let (mut decided, mut out) = (VecDeque::new(), Vec::new());
    let part = |replayed: &Replayed, last: &Option<(Nanos, Event)>, logged, decided| {
        let (at, told) = last.clone().expect("actions come after an event");
        Divergence { event: replayed.events, at, told, logged, decided }
    };
    for line in log {
        match line? {
            Line::Event { at, event } => {
                if let Some(more) = decided.pop_front() {
                    replayed.parted = Some(part(&replayed, &last, None, Some(more)));
                    return Ok(replayed);
                }
                replayed.events += 1;
                last = Some((at, event.clone()));
                core.handle(at, event, &mut out);
                decided.extend(out.drain(..));
            }
            Line::Action(_) if last.is_none() => {
                return Err(LogError::Bad { line: 2, reason: "an action before any event".to_owned() });
            }
            Line::Action(logged) => {
                let now = decided.pop_front();
                if now.as_ref() != Some(&logged) {
                    replayed.parted = Some(part(&replayed, &last, Some(logged), now));
                    return Ok(replayed);
                }
                replayed.equal += 1;
            }
            Line::Function { .. } | Line::Ended { .. } => {}
            Line::Cut { reason, .. } => {
                replayed.cut = Some(reason);
                return Ok(replayed);
            }
        }
    }
    // A log may end in the middle of an event's actions, when the writer was killed: that is no difference.
    Ok(replayed)
}
