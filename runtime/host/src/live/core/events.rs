//! The event log of a live host: every event and action of the core, as `coldframe_policy::log` has it.
//!
//! A thread writes; the core never waits for a disk. When the thread cannot keep up, the disk fails or the log reaches
//! its limit, the log ends there and says so: a log with a hole would not replay.

use coldframe_policy::log::{self, Header, Line};
use coldframe_policy::units::Nanos;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines that may wait for the thread. Arbitrary: some seconds of a busy host.
const WAITING: usize = 1 << 16;

/// Lines reach the file at the latest after this.
const FLUSH: Duration = Duration::from_millis(500);

/// A log being written. Dropping it writes what is left.
pub struct EventLog {
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
    left: u64,
}

impl EventLog {
    /// Starts a log in a new file of at most `bytes`.
    ///
    /// # Errors
    /// Where the file can't be made, or is there already.
    pub fn create(path: &Path, header: &Header, bytes: u64) -> std::io::Result<Self> {
        let file = File::options().write(true).create_new(true).open(path)?;
        Self::to(BufWriter::new(file), header, bytes)
    }

    /// Starts a log of at most `bytes`.
    ///
    /// # Errors
    /// Where the header can't be written.
    pub fn to(mut out: impl Write + Send + 'static, header: &Header, bytes: u64) -> std::io::Result<Self> {
        writeln!(out, "{}", log::to_text(header))?;
        let (lines, waiting) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("event-log".to_owned());
        let thread = thread.spawn(move || write(out, &waiting))?;
        Ok(Self { lines: Some(lines), thread: Some(thread), left: bytes })
    }

    /// Adds a line.
    pub fn add(&mut self, at: Nanos, line: &Line) {
        let Some(lines) = &self.lines else { return };
        let text = log::to_text(line);
        if text.len() as u64 >= self.left {
            return self.cut(at, "the log reached its limit");
        }
        self.left -= text.len() as u64 + 1;
        if lines.try_send(text).is_err() {
            self.cut(at, "the disk could not keep up");
        }
    }

    /// Ends the log here.
    fn cut(&mut self, at: Nanos, reason: &str) {
        tracing::warn!(reason, "the event log ends");
        if let Some(lines) = self.lines.take() {
            let line = log::to_text(&Line::Cut { at, reason: reason.to_owned() });
            // Waits for the thread once; without this line a reader would take the end for a crash, which it may.
            let _ = lines.send(line);
        }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so itself.
            let _ = thread.join();
        }
    }
}

fn write(mut out: impl Write, lines: &Receiver<String>) {
    loop {
        let done = match lines.recv_timeout(FLUSH) {
            Ok(line) => writeln!(out, "{line}"),
            Err(RecvTimeoutError::Timeout) => out.flush(),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Err(error) = done {
            tracing::error!(%error, "the event log can't be written; it ends here");
            return;
        }
    }
    if let Err(error) = out.flush() {
        tracing::error!(%error, "the end of the event log can't be written");
    }
}
