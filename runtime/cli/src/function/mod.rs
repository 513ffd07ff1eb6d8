//! `coldframe function`: from an empty folder to tokens on the terminal.
//!
//! `new` writes a folder, `build` makes its component, `check` holds it against its manifest, `run` answers a prompt
//! with it on this machine, without a server; `deploy` and the verbs after it work on a server.

mod build;
mod check;
#[cfg(feature = "host")]
mod deploy;
mod manifest;
mod new;
#[cfg(feature = "host")]
pub mod remote;
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
    #[cfg(feature = "host")]
    Deploy(deploy::DeployArgs),
    #[cfg(feature = "host")]
    #[command(alias = "ls")]
    List(remote::ListArgs),
    #[cfg(feature = "host")]
    Show(remote::ShowArgs),
    #[cfg(feature = "host")]
    Logs(remote::LogsArgs),
    #[cfg(feature = "host")]
    Rollback(remote::RollbackArgs),
    #[cfg(feature = "host")]
    #[command(alias = "remove")]
    Rm(remote::RmArgs),
    #[cfg(feature = "host")]
    Call(remote::CallArgs),
}

/// Runs the command.
pub fn run(args: FunctionArgs, ui: &Ui) -> anyhow::Result<()> {
    match args.command {
        FunctionCommand::New(args) => new::run(&args, ui),
        FunctionCommand::Build(args) => build::run(&args, ui),
        FunctionCommand::Check(args) => check::run(&args, ui),
        FunctionCommand::Run(args) => run::run(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::Deploy(args) => deploy::run(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::List(args) => remote::list(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::Show(args) => remote::show(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::Logs(args) => remote::logs(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::Rollback(args) => remote::rollback(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::Rm(args) => remote::rm(&args, ui),
        #[cfg(feature = "host")]
        FunctionCommand::Call(args) => remote::call(&args, ui),
    }
}
