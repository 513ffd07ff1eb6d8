//! The `coldframe` binary: parse, resolve, run, print.

mod completions;
mod profiles;
mod ui;

use clap::{CommandFactory, Parser, Subcommand};
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
    /// List and print hardware profiles and tariffs
    Profiles(profiles::ProfilesArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
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
        Command::Profiles(args) => profiles::run(args, ui),
        Command::Completions(args) => completions::run(args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn flags_and_names_do_not_clash() {
        Cli::command().debug_assert();
    }
}
