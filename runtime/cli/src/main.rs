//! The `coldframe` binary: parse, resolve, run, print.

#[cfg(feature = "backbone")]
mod backbone;
mod bench;
#[cfg(feature = "backbone")]
mod bench_backbone;
#[cfg(feature = "host")]
mod bench_host;
#[cfg(feature = "sandbox")]
mod bench_sandbox;
#[cfg(feature = "backbone")]
mod calibrate;
#[cfg(feature = "host")]
mod client;
mod compare;
mod completions;
#[cfg(feature = "host")]
mod fidelity;
#[cfg(feature = "sandbox")]
mod function;
#[cfg(feature = "backbone")]
mod generate;
mod invocations;
#[cfg(feature = "host")]
mod live;
mod names;
#[cfg(feature = "backbone")]
mod opened;
#[cfg(feature = "host")]
mod operate;
mod paper;
mod policies;
mod profiles;
mod records;
mod replay;
#[cfg(feature = "host")]
mod serve;
mod trace;
mod ui;
mod validate;
mod whatif;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

const EXITS: &str = "Exit codes: 0 done, 1 something is wrong with an input (the message says what and where), \
2 the command line is not understood, 130 interrupted with Ctrl-C (no output file is left half written).";

/// Serverless LoRA functions on one shared backbone, and a simulator that says what a policy costs.
#[derive(Parser)]
#[command(name = "coldframe", version, propagate_version = true, after_help = EXITS)]
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
    Replay(Box<replay::ReplayArgs>),
    Compare(compare::CompareArgs),
    Trace(trace::TraceArgs),
    Policies(policies::PoliciesArgs),
    /// List and print hardware profiles and tariffs
    Profiles(profiles::ProfilesArgs),
    #[cfg(feature = "host")]
    Fidelity(Box<fidelity::FidelityArgs>),
    Whatif(whatif::WhatifArgs),
    Paper(paper::PaperArgs),
    Validate(validate::ValidateArgs),
    ReplayInvocations(invocations::InvocationsArgs),
    #[cfg(feature = "backbone")]
    Generate(generate::GenerateArgs),
    #[cfg(feature = "backbone")]
    Bench(bench_backbone::BenchArgs),
    #[cfg(feature = "backbone")]
    Calibrate(calibrate::CalibrateArgs),
    #[cfg(feature = "backbone")]
    Backbone(backbone::models::BackboneArgs),
    #[cfg(feature = "backbone")]
    Adapter(backbone::adapter::AdapterArgs),
    #[cfg(feature = "backbone")]
    Doctor(backbone::doctor::DoctorArgs),
    #[cfg(feature = "sandbox")]
    Function(function::FunctionArgs),
    #[cfg(feature = "host")]
    Serve(Box<serve::ServeArgs>),
    #[cfg(feature = "host")]
    Tenant(operate::TenantArgs),
    #[cfg(feature = "host")]
    Key(operate::KeyArgs),
    #[cfg(feature = "host")]
    Usage(operate::UsageArgs),
    #[cfg(feature = "host")]
    Top(operate::TopArgs),
    #[cfg(feature = "host")]
    Host(operate::HostArgs),
    #[command(hide = true)]
    BenchReplay(bench::BenchArgs),
    #[cfg(feature = "host")]
    #[command(hide = true)]
    FidelityTable(fidelity::table::TableArgs),
    #[cfg(feature = "host")]
    #[command(hide = true)]
    BenchHost(bench_host::BenchArgs),
    #[cfg(feature = "sandbox")]
    #[command(hide = true)]
    BenchSandbox(bench_sandbox::BenchArgs),
    /// Compile a component from stdin to stdout under bounds of memory (the sandbox runs this in a process of its own)
    #[cfg(feature = "sandbox")]
    #[command(hide = true)]
    SandboxCompile,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// Whether the command takes signals itself.
    fn serves(&self) -> bool {
        #[cfg(feature = "host")]
        if matches!(self, Self::Serve(_)) {
            return true;
        }
        false
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ui = match cli.command.serves() {
        true => ui::Ui::without_signals(cli.json, cli.quiet),
        false => ui::Ui::new(cli.json, cli.quiet),
    };
    match run(cli.command, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<ui::Interrupted>() => {
            eprintln!("{error}");
            ExitCode::from(130)
        }
        Err(error) if error.is::<clap::Error>() => {
            // Options handed on by a command (`paper -- --set …`) are usage as well.
            let _ = error.downcast_ref::<clap::Error>().map(clap::Error::print);
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("error: {}", ui::printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, ui: &ui::Ui) -> anyhow::Result<()> {
    match command {
        Command::Replay(args) => replay::run(*args, ui),
        Command::Compare(args) => compare::run(args, ui),
        Command::Trace(args) => trace::run(args, ui),
        Command::Policies(args) => policies::run(args, ui),
        Command::Profiles(args) => profiles::run(args, ui),
        #[cfg(feature = "host")]
        Command::Fidelity(args) => fidelity::run(*args, ui),
        Command::Whatif(args) => whatif::run(args, ui),
        Command::Paper(args) => paper::run(args, ui),
        Command::Validate(args) => validate::run(args, ui),
        Command::ReplayInvocations(args) => invocations::run(args, ui),
        #[cfg(feature = "backbone")]
        Command::Generate(args) => generate::run(args, ui),
        #[cfg(feature = "backbone")]
        Command::Bench(args) => bench_backbone::run(args, ui),
        #[cfg(feature = "backbone")]
        Command::Calibrate(args) => calibrate::run(args, ui),
        #[cfg(feature = "backbone")]
        Command::Backbone(args) => backbone::models::run(args, ui),
        #[cfg(feature = "backbone")]
        Command::Adapter(args) => backbone::adapter::run(args, ui),
        #[cfg(feature = "backbone")]
        Command::Doctor(args) => backbone::doctor::run(args, ui),
        #[cfg(feature = "sandbox")]
        Command::Function(args) => function::run(args, ui),
        #[cfg(feature = "host")]
        Command::Serve(args) => serve::run(*args, ui),
        #[cfg(feature = "host")]
        Command::Tenant(args) => operate::tenant(args, ui),
        #[cfg(feature = "host")]
        Command::Key(args) => operate::key(args, ui),
        #[cfg(feature = "host")]
        Command::Usage(args) => operate::usage(args, ui),
        #[cfg(feature = "host")]
        Command::Top(args) => operate::top(&args, ui),
        #[cfg(feature = "host")]
        Command::Host(args) => operate::host(args, ui),
        Command::BenchReplay(args) => bench::run(args, ui),
        #[cfg(feature = "host")]
        Command::FidelityTable(args) => fidelity::table::run(args, ui),
        #[cfg(feature = "host")]
        Command::BenchHost(args) => bench_host::run(args, ui),
        #[cfg(feature = "sandbox")]
        Command::BenchSandbox(args) => bench_sandbox::run(args, ui),
        #[cfg(feature = "sandbox")]
        Command::SandboxCompile => sandbox_compile(),
        Command::Completions(args) => completions::run(args, Cli::command()),
    }
}

/// The compiling child of the sandbox; it has told on stderr what went wrong.
#[cfg(feature = "sandbox")]
fn sandbox_compile() -> anyhow::Result<()> {
    let exit = coldframe_sandbox::compile_child_main();
    anyhow::ensure!(exit == ExitCode::SUCCESS, "the component could not be compiled");
    Ok(())
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
