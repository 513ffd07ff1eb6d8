//! Runs of a calibration at different times, kept in a file so that a profile can be made of all of them.
//!
//! A line is what one run measured, as JSON. How several become one is the simulator's business
//! (`coldframe_simulator::calibrate::mean`).

use crate::ui::WholeFile;
use anyhow::{Context, Result, bail};
use coldframe_simulator::calibrate::{Measured, mean};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file and what is in it.
pub struct Runs {
    path: PathBuf,
    runs: Vec<Measured>,
    /// What will be it, once a run is added: a place that cannot be written is known before anything is measured.
    next: WholeFile,
}

/// The mean of the runs in a file, which stays as it is.
///
/// # Errors
///
/// A file that cannot be read or holds no run, a line that is no run, runs that differ.
pub fn mean_of(path: &Path) -> Result<Measured> {
    mean(&read(path)?).with_context(|| format!("{}", path.display()))
}

/// A line each; no file yet has none.
fn read(path: &Path) -> Result<Vec<Measured>> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("{}", path.display()))?,
    };
    let run = |(n, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| {
            format!("{}, line {}: not a run of `coldframe calibrate --points`", path.display(), n + 1)
        })
    };
    text.lines().enumerate().map(run).collect()
}

impl Runs {
    /// Reads the file; none yet is a file without runs.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or written, or a line that is no run, by its number.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { path: path.to_owned(), runs: read(path)?, next: WholeFile::create(path)? })
    }

    /// Whether a run with these settings, named as in [`Measured::notes`], goes with those in the file. What a run of an
    /// older build did not note is found out by [`Self::add`].
    ///
    /// # Errors
    ///
    /// A setting that differs, and both its values.
    pub fn fits(&self, settings: &BTreeMap<String, String>) -> Result<()> {
        let Some(last) = self.runs.last() else { return Ok(()) };
        for (what, here) in settings {
            match last.notes.get(what) {
                Some(there) if there != here => bail!(
                    "{}: {what} of the last run in it: {there}; of this one: {here}. Runs of one profile measure the same: \
                     give the same options, or another file",
                    self.path.display()
                ),
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds a run, writes the file, and tells the mean of all.
    ///
    /// # Errors
    ///
    /// A run of another machine, model or set of measurements than those before: the file stays as it was then.
    pub fn add(self, run: Measured) -> Result<Measured> {
        let Self { path, mut runs, mut next } = self;
        runs.push(run);
        let whole = mean(&runs).with_context(|| format!("{}", path.display()))?;
        for run in &runs {
            writeln!(next, "{}", serde_json::to_string(run)?)?;
        }
        next.finish()?;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_added_and_read_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("points.jsonl");
        let notes = |mode: &str| BTreeMap::from([("mode".to_owned(), mode.to_owned())]);
        let run = |layers, rounds| {
            let mut run = Measured { notes: notes("full"), ..Measured::default() };
            (run.shape.layers, run.machine.rounds) = (layers, rounds);
            run
        };
        let runs = Runs::open(&path).expect("no file yet");
        assert_eq!(runs.add(run(2, 3)).expect("the first").machine.runs, 1);
        let runs = Runs::open(&path).expect("one run");
        let whole = runs.add(run(2, 5)).expect("the second");
        assert_eq!((whole.machine.runs, whole.machine.rounds), (2, 3));

        let before = std::fs::read_to_string(&path).expect("two lines");
        let runs = Runs::open(&path).expect("two runs");
        runs.fits(&notes("full")).expect("the same");
        runs.fits(&BTreeMap::from([("news".to_owned(), "x".to_owned())])).expect("not noted then");
        let told = format!("{:#}", runs.fits(&notes("quick")).expect_err("another mode"));
        assert!(told.contains("points.jsonl") && told.contains("full") && told.contains("quick"), "{told}");
        let told = format!("{:#}", runs.add(run(3, 5)).expect_err("another model"));
        assert!(told.contains("points.jsonl") && told.contains("model"), "{told}");
        assert_eq!(std::fs::read_to_string(&path).expect("as before"), before);

        std::fs::write(&path, format!("{before}{{}}\n")).expect("written");
        let told = format!("{:#}", Runs::open(&path).err().expect("a line that is no run"));
        assert!(told.contains("line 3"), "{told}");
        assert!(Runs::open(folder.path()).is_err(), "a folder");
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("a folder").collect();
        assert_eq!(left.len(), 1, "nothing beside the file: {left:?}");
    }
}
