//! The function's log within its budget: what is over is cut, once and visibly, and control characters are escaped.

use crate::services::{Level, Services};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is written once when the budget is used up.
const CUT: &str = "… the log's budget is used up; what follows is not kept";

/// The log of one call, shared by the guest's `log`, its stdout and stderr, and its token hooks.
pub(crate) struct Log {
    services: Arc<dyn Services>,
    left: AtomicU64,
    budget: u64,
}

impl Log {
    pub(crate) fn new(services: Arc<dyn Services>, budget: u64) -> Self {
        Self { services, left: AtomicU64::new(budget), budget }
    }

    /// Bytes kept so far.
    pub(crate) fn written(&self) -> u64 {
        self.budget - self.left.load(Ordering::Relaxed)
    }

    pub(crate) fn write(&self, level: Level, message: &str) {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return;
        }
        let mut line = escaped(message, usize::try_from(left).unwrap_or(usize::MAX));
        // A line costs at least one byte, so that empty lines cannot go on for ever.
        let cost = (line.text.len() as u64).max(1).min(left);
        let before = self.left.fetch_sub(cost.min(left), Ordering::Relaxed);
        if line.is_cut || before == cost {
            self.left.store(0, Ordering::Relaxed);
            line.text.push_str(CUT);
        }
        self.services.log(level, &line.text);
    }
}

struct Line {
    text: String,
    is_cut: bool,
}

/// The message as one line of at most so many bytes.
fn escaped(message: &str, most: usize) -> Line {
    let mut text = String::with_capacity(message.len().min(most));
    for character in message.chars() {
        let before = text.len();
        match character {
            '\t' => text.push('\t'),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            _ if character.is_control() || is_bidirectional(character) => {
                write!(text, "\\u{{{:x}}}", u32::from(character)).expect("a string takes everything");
            }
            _ => text.push(character),
        }
        if text.len() > most {
            text.truncate(before);
            return Line { text, is_cut: true };
        }
    }
    Line { text, is_cut: false }
}

/// Characters that turn the direction of writing and so can make a line read as another.
fn is_bidirectional(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
