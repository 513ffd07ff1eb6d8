//! Commands that know the backbone: models in the store, the machine's fitness, adapters checked against a model.
//!
//! Everything here is gone from a build without the feature `backbone`.

pub mod adapter;
pub mod doctor;
mod info;
pub mod machine;
pub mod models;

use crate::ui::{Interrupted, Ui};
use coldframe_backbone::store::{Store, Watch};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

/// Where models are kept.
#[derive(clap::Args, Clone)]
pub struct HomeArg {
    /// Folder of models [default: $XDG_DATA_HOME/coldframe, else ~/.local/share/coldframe]
    #[arg(long, env = "COLDFRAME_HOME", value_name = "FOLDER", hide_env_values = true)]
    home: Option<PathBuf>,
}

impl HomeArg {
    /// The store.
    pub fn store(&self) -> anyhow::Result<Store> {
        match self.home.as_ref().filter(|home| !home.as_os_str().is_empty()) {
            Some(home) => Ok(Store::at(home)),
            None => Ok(Store::at(&Store::default_root()?)),
        }
    }
}

/// Runs work of the backbone that Ctrl-C can stop, with a progress bar on a terminal.
pub fn watched<T>(
    ui: &Ui,
    work: impl FnOnce(&Watch<'_>) -> coldframe_backbone::Result<T>,
) -> anyhow::Result<T> {
    // A file that is done starts the next one's bar anew.
    let bar = Mutex::new((String::new(), None::<indicatif::ProgressBar>));
    let progress = |what: &str, done: u64, total: Option<u64>| {
        let Ok(mut bar) = bar.lock() else { return };
        if bar.0 != what {
            *bar = (what.to_owned(), Some(ui.progress(&crate::ui::printable(what))));
        }
        if let (Some(bar), Some(total)) = (&bar.1, total) {
            bar.set_position((done as f64 / total.max(1) as f64 * 1000.0) as u64);
        }
    };
    let stopped = || ui.stop.load(Ordering::Relaxed);
    let result = work(&Watch { stopped: &stopped, progress: &progress });
    if let Some(bar) = bar.into_inner().ok().and_then(|bar| bar.1) {
        bar.finish_and_clear();
    }
    result.map_err(|error| match error {
        error @ coldframe_backbone::Error::Interrupted(_) => {
            anyhow::Error::new(Interrupted).context(error.to_string())
        }
        error => error.into(),
    })
}

/// Bytes for people: `98.4 MB`.
pub fn size(bytes: u64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 999.5 && unit + 1 < units.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Lines of columns, each as wide as its widest cell.
pub fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    crate::ui::printable(&rows.iter().map(line).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        for (bytes, expected) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (999_960, "1.0 MB"), (98_362_432, "98.4 MB")]
        {
            assert_eq!(size(bytes), expected);
        }
    }
}
