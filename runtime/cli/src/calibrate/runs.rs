//! Runs of a calibration at different times, kept in a file so that a profile can be made of all of them.
//!
//! A line is what one run measured, as JSON. How several become one is the simulator's business
//! (`coldframe_simulator::calibrate::mean`).

use crate::ui::WholeFile;
use anyhow::{Context, Result};
use coldframe_simulator::calibrate::{Measured, mean};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file and what is in it.
pub struct Runs {
    path: PathBuf,
    runs: Vec<Measured>,
}

impl Runs {
    /// Reads the file; none yet is a file without runs.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, or a line that is no run, by its number.
    pub fn open(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            text => text.with_context(|| format!("{}", path.display()))?,
        };
        let run = |(n, line): (usize, &str)| {
            serde_json::from_str(line).with_context(|| {
                format!("{}, line {}: not a run of `coldframe calibrate --points`", path.display(), n + 1)
            })
        };
        let runs = text.lines().enumerate().map(run).collect::<Result<Vec<Measured>>>()?;
        Ok(Self { path: path.to_owned(), runs })
    }

    /// Adds a run, writes the file, and tells the mean of all.
    ///
    /// # Errors
    ///
    /// A run of another machine, model or set of measurements than those before: the file stays as it was then.
    pub fn add(&mut self, run: Measured) -> Result<Measured> {
        self.runs.push(run);
        let whole = mean(&self.runs).with_context(|| format!("{}", self.path.display()))?;
        let mut file = WholeFile::create(&self.path)?;
        for run in &self.runs {
            writeln!(file, "{}", serde_json::to_string(run)?)?;
        }
        file.finish()?;
        Ok(whole)
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_added_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("points.jsonl");
        let run = |layers, rounds| {
            let mut run = Measured::default();
            (run.shape.layers, run.machine.rounds) = (layers, rounds);
            run
        };
        let mut runs = Runs::open(&path).expect("no file yet");
        assert_eq!(runs.add(run(2, 3)).expect("the first").machine.runs, 1);
        let mut runs = Runs::open(&path).expect("one run");
        let whole = runs.add(run(2, 5)).expect("the second");
        assert_eq!((whole.machine.runs, whole.machine.rounds), (2, 3));

        let before = std::fs::read_to_string(&path).expect("two lines");
        let mut runs = Runs::open(&path).expect("two runs");
        let told = format!("{:#}", runs.add(run(3, 5)).expect_err("another model"));
        assert!(told.contains("points.jsonl") && told.contains("model"), "{told}");
        assert_eq!(std::fs::read_to_string(&path).expect("as before"), before);

        std::fs::write(&path, format!("{before}{{}}\n")).expect("written");
        let told = format!("{:#}", Runs::open(&path).err().expect("a line that is no run"));
        assert!(told.contains("line 3"), "{told}");
    }
}
