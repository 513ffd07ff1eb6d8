//! `coldframe trace`: look at workload traces, convert, cut, compose and generate them.
//!
//! Each subcommand is one file; what they share is `input` (how a trace is opened) and `pump` (how records reach a file).

mod compose;
mod convert;
mod formats;
mod generate;
mod info;
mod input;
mod pump;
mod sample;

use crate::ui::Ui;
use clap::{Args, Subcommand};

/// Look at workload traces, convert, cut, compose and generate them
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe trace formats
  coldframe trace info AzureLLMInferenceTrace_conv.csv
  coldframe trace generate demo-bursty -o demo.csv.gz
  coldframe trace compose conv.csv --zipf 1.0 --functions 100 -o replay.parquet")]
pub struct TraceArgs {
    #[command(subcommand)]
    command: TraceCommand,
}

#[derive(Subcommand)]
enum TraceCommand {
    Info(info::InfoArgs),
    Convert(convert::ConvertArgs),
    Sample(sample::SampleArgs),
    Compose(compose::ComposeArgs),
    Generate(generate::GenerateArgs),
    Formats(formats::FormatsArgs),
}

/// Runs one subcommand.
pub fn run(args: TraceArgs, ui: &Ui) -> anyhow::Result<()> {
    match args.command {
        TraceCommand::Info(args) => info::run(args, ui),
        TraceCommand::Convert(args) => convert::run(args, ui),
        TraceCommand::Sample(args) => sample::run(args, ui),
        TraceCommand::Compose(args) => compose::run(args, ui),
        TraceCommand::Generate(args) => generate::run(args, ui),
        TraceCommand::Formats(args) => formats::run(args, ui),
    }
}
