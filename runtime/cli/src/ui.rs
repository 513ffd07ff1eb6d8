//! How the commands talk: data on stdout, talk on stderr, progress only on a terminal, files written whole or not at all.
//!
//! It knows no command. Ctrl-C sets a flag that long work polls; the second Ctrl-C ends the process at once.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Output settings shared by all commands.
#[derive(Clone)]
pub struct Ui {
    /// Print JSON on stdout instead of tables.
    pub json: bool,
    /// Say nothing on stderr but errors.
    pub quiet: bool,
    /// Set by the first Ctrl-C.
    pub stop: Arc<AtomicBool>,
}

/// Returned (inside `anyhow::Error`) when Ctrl-C ended the work; exit code 130.
#[derive(Debug, thiserror::Error)]
#[error("interrupted: no output file was written")]
pub struct Interrupted;

impl Ui {
    /// Installs the Ctrl-C handler.
    pub fn new(json: bool, quiet: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        // A handler may be installed once per process; tests that build a second Ui go without.
        let _ = ctrlc::set_handler(move || {
            if flag.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
        });
        Self { json, quiet, stop }
    }

    /// Leaves signals to the command: a server drains on them.
    pub fn without_signals(json: bool, quiet: bool) -> Self {
        Self { json, quiet, stop: Arc::new(AtomicBool::new(false)) }
    }

    /// Fails with [`Interrupted`] once Ctrl-C was pressed.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.stop.load(Ordering::Relaxed) { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// A progress bar over 0..=1000 on stderr, hidden unless stderr is a terminal.
    pub fn progress(&self, what: &str) -> ProgressBar {
        let shown = !self.quiet && io::stderr().is_terminal();
        let target = if shown { ProgressDrawTarget::stderr_with_hz(8) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(1000), target);
        let style = ProgressStyle::with_template("{msg:30} [{bar:40}] {percent:>3}% {elapsed} (left {eta})");
        bar.set_style(style.expect("a fixed template").progress_chars("=> "));
        bar.set_message(what.to_owned());
        bar
    }

    /// A line of talk on stderr.
    pub fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{}", printable(text));
        }
    }

    /// A warning on stderr, also when quiet.
    pub fn warn(&self, text: &str) {
        eprintln!("warning: {}", printable(text));
    }
}

/// A file that appears under its name only when [`WholeFile::finish`] is called; dropped before, it leaves nothing.
pub struct WholeFile {
    out: Option<BufWriter<File>>,
    partial: PathBuf,
    path: PathBuf,
}

impl WholeFile {
    /// Opens `path.partial` beside the target, creating folders as needed.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        use anyhow::Context;
        let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        anyhow::ensure!(
            path.file_name().is_some() && !path.is_dir() && !ends_in_slash,
            "cannot write {}: it is a folder; name a file in it",
            path.display()
        );
        // The rename would put a file in the place of a device.
        let special = path.metadata().is_ok_and(|what| !what.is_file());
        anyhow::ensure!(!special, "cannot write {}: it is a pipe or a device; name a file", path.display());
        if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            std::fs::create_dir_all(dir)
                .with_context(|| format!("cannot create folder {}", dir.display()))?;
        }
        let mut name = path.file_name().expect("checked above").to_os_string();
        name.push(".partial");
        let partial = path.with_file_name(name);
        let file = File::create(&partial).with_context(|| format!("cannot write {}", partial.display()))?;
        Ok(Self { out: Some(BufWriter::new(file)), partial, path: path.to_owned() })
    }

    /// Flushes and renames into place.
    pub fn finish(mut self) -> anyhow::Result<()> {
        use anyhow::Context;
        // `out` goes only once all is well: dropped before, the partial file is removed.
        self.flush().with_context(|| format!("cannot write {}", self.partial.display()))?;
        std::fs::rename(&self.partial, &self.path)
            .with_context(|| format!("cannot write {}", self.path.display()))?;
        self.out = None;
        Ok(())
    }
}

impl Write for WholeFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.out.as_mut().expect("open until finish").write(buf)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().expect("open until finish").flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// Text whose control characters can't drive a terminal: names come from files of unknown origin.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Data on stdout. A reader that closes the pipe early (`head`) is no error.
pub fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => anyhow::Context::context(other, "cannot write to stdout"),
    }
}
