//! `trace convert`: any format to ours.

use super::input::{InputArgs, source_note};
use super::pump::{self, OutArgs};
use crate::ui::Ui;
use clap::Args;

/// Convert a trace of any known format to ours
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe trace convert AzureLLMInferenceTrace_conv.csv -o conv.parquet
  coldframe trace convert invocations_per_function_md.anon.d01.csv --placement even -o d01.csv.zst
  coldframe trace convert BurstGPT_1.csv --keep-failures -o burst.jsonl.gz
  coldframe trace convert mine.csv --sort --skip-bad-rows --refused bad.txt -o sorted.csv")]
pub struct ConvertArgs {
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    out: OutArgs,
}

pub fn run(args: ConvertArgs, ui: &Ui) -> anyhow::Result<()> {
    let mut stream = args.input.open()?;
    let note = source_note("source", &args.input.file)?;
    pump::write(&mut stream, vec![note], &args.out, ui, "trace convert")
}
