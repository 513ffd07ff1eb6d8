//! `trace info`: what a trace looks like, as text, JSON or a page with plots.

use super::input::InputArgs;
use super::pump::{Refusals, RefusedArgs, each};
use crate::ui::{Ui, WholeFile, print};
use clap::Args;
use coldframe_traces::info::{Collector, html, text};
use coldframe_traces::{Item, TraceStream, sha256_file};
use std::io::Write;
use std::path::PathBuf;

/// Say what a trace looks like: rates, burstiness, popularity, token lengths
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe trace info AzureLLMInferenceTrace_conv.csv
  coldframe trace info day1.invocations.csv.gz --html day1.html
  coldframe trace info demo.csv.gz --json | jq .cov

CoV is the standard deviation over the mean of inter-arrival times; IDC the variance over the mean of counts
in windows. Functions with CoV up to 1 are predictable, up to 4 normal, above bursty; under 10 requests sparse.")]
pub struct InfoArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Also write a self-contained page with plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write every refused row to FILE as file:line: column: reason
    #[arg(long, value_name = "FILE")]
    refused: Option<PathBuf>,
}

pub fn run(args: InfoArgs, ui: &Ui) -> anyhow::Result<()> {
    let mut stream = args.input.open()?;
    let mut refusals = Refusals::new(&RefusedArgs { skip_bad_rows: true, refused: args.refused })?;
    let mut collector = Collector::default();
    each(&mut stream, ui, "trace info", |item, _| {
        collector.add(&item);
        if let Item::Refused(refusal) = &item {
            refusals.add(refusal)?;
        }
        Ok(())
    })?;
    stream.warnings().iter().for_each(|w| ui.warn(w));
    refusals.finish(ui, false)?;
    let summary = collector.finish(&stream);
    let name = args.input.file.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let hash = sha256_file(&args.input.file)?;
    if let Some(path) = &args.html {
        let mut file = WholeFile::create(path)?;
        file.write_all(html::page(&name, &summary).as_bytes())?;
        file.finish()?;
        ui.say(&format!("plots written to {}", path.display()));
    }
    if ui.json {
        let mut value = serde_json::to_value(&summary)?;
        value["file"] = name.into();
        value["sha256"] = hash.into();
        print(&format!("{value}\n"))
    } else {
        print(&format!("{:<22} {name} (sha256 {})\n{}", "trace", &hash[..16], text::render(&summary)))
    }
}
