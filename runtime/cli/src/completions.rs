//! `coldframe completions`: a completion script for a shell, on stdout.

use anyhow::Context;
use clap_complete::Shell;
use std::io::Write;

/// Which shell.
#[derive(clap::Args)]
pub struct CompletionsArgs {
    /// Shell to complete in
    shell: Shell,
}

/// Writes the script for `command`.
pub fn run(args: CompletionsArgs, mut command: clap::Command) -> anyhow::Result<()> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}
