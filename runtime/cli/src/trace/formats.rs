//! `trace formats`: what can be read.

use crate::ui::{Ui, print};
use clap::Args;
use coldframe_traces::Format;

/// List the formats that can be read
#[derive(Args)]
#[command(after_help = "Every format is also read packed with gzip or zstd, and told by its first line.
Written are coldframe-csv, coldframe-jsonl and coldframe-parquet, by the output file's ending.")]
pub struct FormatsArgs {}

pub fn run(_args: FormatsArgs, ui: &Ui) -> anyhow::Result<()> {
    if ui.json {
        let row = |f: &Format| serde_json::json!({ "name": f.name(), "what": f.describe() });
        return print(&format!("{}\n", Format::ALL.iter().map(row).collect::<serde_json::Value>()));
    }
    let lines = Format::ALL.iter().map(|f| format!("{:<21} {}\n", f.name(), f.describe()));
    print(&lines.collect::<String>())
}
