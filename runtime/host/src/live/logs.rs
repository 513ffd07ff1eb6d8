//! The last lines that each function's code logged, and whoever follows them.
//!
//! A ring for each function, bounded in lines and bytes: old lines go. Kept in memory only. What a call may log is the
//! sandbox's to bound.

use crate::records::Names;
use coldframe_sandbox::services::Level;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::broadcast;

/// Lines kept of one function. Arbitrary, as are the bytes.
const LINES_MAX: usize = 1000;
/// Bytes of text kept of one function.
const BYTES_MAX: usize = 256 << 10;
/// Lines that a follower may lie behind before it misses some, and is told so.
const FOLLOWER_LINES: usize = 256;

/// A line of a function's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Counts the function's lines from 1: a gap is lines that are gone.
    pub number: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Number of the request.
    pub call: String,
    /// How important.
    pub level: Level,
    /// The text, control characters escaped.
    pub message: String,
}

/// One function's log.
#[derive(Debug)]
pub struct FunctionLog {
    ring: Mutex<Ring>,
    followers: broadcast::Sender<LogLine>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    written: u64,
}

impl Default for FunctionLog {
    fn default() -> Self {
        Self { ring: Mutex::default(), followers: broadcast::Sender::new(FOLLOWER_LINES) }
    }
}

impl FunctionLog {
    /// Adds a line.
    pub fn write(&self, call: &str, level: Level, message: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.written += 1;
        let line = LogLine {
            number: ring.written,
            at_ms: now.as_millis() as u64,
            call: call.to_owned(),
            level,
            message: message.to_owned(),
        };
        ring.bytes += line.message.len();
        ring.lines.push_back(line.clone());
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(gone) = ring.lines.pop_front() else { break };
            ring.bytes -= gone.message.len();
        }
        drop(ring);
        // No one follows, most of the time.
        let _ = self.followers.send(line);
    }

    /// Lines after number `after`, oldest first, the newest `limit` of them.
    pub fn tail(&self, after: u64, limit: usize) -> Vec<LogLine> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = ring.lines.iter().filter(|line| line.number > after).count();
        ring.lines.iter().skip(ring.lines.len() - newer.min(limit)).cloned().collect()
    }

    /// Lines as they come, from now on.
    pub fn follow(&self) -> broadcast::Receiver<LogLine> {
        self.followers.subscribe()
    }
}

/// Logs by function.
#[derive(Debug, Default)]
pub struct Logs {
    functions: Mutex<BTreeMap<Names, Arc<FunctionLog>>>,
}

impl Logs {
    /// A function's log, made when it is first asked for.
    pub fn of(&self, names: &Names) -> Arc<FunctionLog> {
        let mut functions = self.functions.lock().unwrap_or_else(PoisonError::into_inner);
        functions.entry(names.clone()).or_default().clone()
    }

    /// Drops the log of a function that is gone.
    pub fn forget(&self, names: &Names) {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner).remove(names);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lines_go_and_numbers_tell() {
        let log = FunctionLog::default();
        let mut follower = log.follow();
        for line in 0..LINES_MAX + 10 {
            log.write("call", Level::Info, &line.to_string());
        }
        let all = log.tail(0, usize::MAX);
        assert_eq!((all.len(), all[0].number, all[0].message.as_str()), (LINES_MAX, 11, "10"));
        assert_eq!(log.tail(LINES_MAX as u64 + 8, 5).len(), 2);
        assert_eq!(log.tail(0, 3).first().map(|line| line.number), Some(LINES_MAX as u64 + 8));
        assert!(matches!(follower.try_recv(), Err(broadcast::error::TryRecvError::Lagged(_))));
    }

    #[test]
    fn a_flood_is_held_to_its_bytes() {
        let log = FunctionLog::default();
        let line = "x".repeat(BYTES_MAX / 4);
        (0..10).for_each(|_| log.write("call", Level::Warn, &line));
        assert_eq!(log.tail(0, usize::MAX).len(), 4);
    }
}
