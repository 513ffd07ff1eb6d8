//! `coldframe function`: from an empty folder to tokens on the terminal.
//!
//! `new` writes a folder, `build` makes its component, `check` holds it against its manifest, `run` answers a prompt
//! with it on this machine, without a server.

mod build;
mod check;
mod manifest;
mod new;
mod run;
mod templates;

use crate::ui::Ui;
use clap::{Args, Subcommand};

/// Write, build, check and try functions
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe function new greeter --lang rust --adapter functions/adapters/pirate
  coldframe function build greeter
  coldframe function check greeter
  coldframe function run greeter --prompt 'What do penguins eat?'")]
pub struct FunctionArgs {
    #[command(subcommand)]
    command: FunctionCommand,
}

#[derive(Subcommand)]
enum FunctionCommand {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Check(check::CheckArgs),
    Run(run::RunArgs),
}

/// Runs the command.
pub fn run(args: FunctionArgs, ui: &Ui) -> anyhow::Result<()> {
    match args.command {
        FunctionCommand::New(args) => new::run(&args, ui),
        FunctionCommand::Build(args) => build::run(&args, ui),
        FunctionCommand::Check(args) => check::run(&args, ui),
        FunctionCommand::Run(args) => run::run(&args, ui),
    }
}
