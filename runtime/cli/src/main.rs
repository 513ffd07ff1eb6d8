//! The `coldframe` binary: parse, resolve, run, print.

mod trace;
mod ui;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Serverless LoRA functions on one shared backbone, and a simulator that says what a policy costs.
#[derive(Parser)]
#[command(name = "coldframe", version, propagate_version = true)]
struct Cli {
    /// Print data as JSON on stdout
    #[arg(long, global = true)]
    json: bool,
    /// Say nothing on stderr but warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Trace(trace::TraceArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = ui::Ui::new(cli.json, cli.quiet);
    match run(cli.command, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ui::Interrupted>() => {
            eprintln!("{error}");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, ui: &ui::Ui) -> anyhow::Result<()> {
    match command {
        Command::Trace(args) => trace::run(args, ui),
    }
}
