//! `coldframe profiles`: which hardware profiles and tariffs ship with the program, and the text of one to copy and change.

use crate::ui::Ui;
use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use coldframe_simulator::profile::{Kind, Profiles, StepProfile};
use serde::Serialize;
use std::io::Write;

/// What to do with profiles.
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe profiles list
  coldframe profiles list step                           # pairs of GPU and model that were measured
  coldframe profiles show cold-start container > mine.toml
  coldframe replay --trace paper-bursty --cold-start mine.toml")]
pub struct ProfilesArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the profiles that ship with the program
    List {
        /// Only this kind
        kind: Option<KindArg>,
    },
    /// Print a profile as a TOML file, comments and sources included
    Show {
        /// Kind of profile
        kind: KindArg,
        /// Its name, an alias, or a path to a TOML file
        name: String,
    },
}

/// A kind as typed on the command line.
#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    Gpu,
    Model,
    Step,
    ColdStart,
    Fleet,
    Tariff,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Gpu => Self::Gpu,
            KindArg::Model => Self::Model,
            KindArg::Step => Self::Step,
            KindArg::ColdStart => Self::ColdStart,
            KindArg::Fleet => Self::Fleet,
            KindArg::Tariff => Self::Tariff,
        }
    }
}

/// One line of the list.
#[derive(Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    about: String,
    source: String,
}

/// Runs the command.
pub fn run(args: ProfilesArgs, ui: &Ui) -> anyhow::Result<()> {
    match args.action {
        Action::List { kind } => list(kind.map(Kind::from), ui),
        Action::Show { kind, name } => show(kind.into(), &name, ui),
    }
}

fn list(kind: Option<Kind>, ui: &Ui) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for kind in Kind::ALL.into_iter().filter(|one| kind.is_none_or(|asked| asked == *one)) {
        rows.extend(rows_of(kind)?);
    }
    if ui.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&rows)?));
    }
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let line = |row: &Row| format!("{:<10}  {:<width$}  {}\n", row.kind, row.name, row.about);
    print(&rows.iter().map(line).collect::<String>())
}

fn rows_of(kind: Kind) -> anyhow::Result<Vec<Row>> {
    if kind == Kind::Step {
        return Ok(Profiles::steps().iter().map(step_row).collect());
    }
    let row = |name: &'static str| {
        let (about, source) = describe(kind, name)?;
        Ok(Row { kind: kind.name(), name: name.to_owned(), about, source })
    };
    Profiles::names(kind).into_iter().map(row).collect()
}

fn step_row(step: &StepProfile) -> Row {
    let (prefill, decode) = (ms(step.prefill_ns(512)), ms(step.decode_ns(1, 512)));
    let about = format!(
        "{} on {}: prefill of 512 tokens {prefill:.1} ms, decode step of one {decode:.1} ms",
        step.model, step.gpu
    );
    Row { kind: Kind::Step.name(), name: step.name.clone(), about, source: step.source.clone() }
}

fn describe(kind: Kind, name: &str) -> anyhow::Result<(String, String)> {
    Ok(match kind {
        Kind::Gpu => {
            let gpu = Profiles::gpu(name)?;
            let (memory, speed) = (gb(gpu.memory_bytes), gb(gpu.memory_bytes_per_s));
            let link = gb(gpu.host_link_bytes_per_s);
            (
                format!("{}: {memory:.1} GB at {speed:.0} GB/s, host link {link:.0} GB/s", gpu.about),
                gpu.source,
            )
        }
        Kind::Model => {
            let model = Profiles::model(name)?;
            let (weights, adapter) = (gb(model.weight_bytes), gb(model.adapter_bytes(16)) * 1e3);
            let kv = model.kv_bytes_per_token / 1024;
            (
                format!("weights {weights:.2} GB, KV {kv} KiB a token, rank-16 adapter {adapter:.1} MB"),
                model.source,
            )
        }
        Kind::ColdStart => {
            let cold = Profiles::cold_start(name)?;
            (cold.about, cold.source)
        }
        Kind::Fleet => {
            let fleet = Profiles::fleet(name)?;
            (fleet.about, fleet.source)
        }
        Kind::Tariff => {
            let tariff = Profiles::tariff(name)?;
            (tariff.about, tariff.source)
        }
        Kind::Step => {
            let rows = Profiles::steps_in(name)?;
            (format!("{} rows", rows.len()), rows[0].source.clone())
        }
    })
}

fn show(kind: Kind, name: &str, ui: &Ui) -> anyhow::Result<()> {
    let text = Profiles::text(kind, name)?;
    if !ui.json {
        return print(&text);
    }
    let value: toml::Value = toml::from_str(&text).context("a shown profile is TOML")?;
    print(&format!("{}\n", serde_json::to_string_pretty(&value)?))
}

// A reader that closes the pipe early (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("cannot write to stdout"),
    }
}

fn gb(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::rows_of;
    use coldframe_simulator::profile::{Kind, Profiles};

    #[test]
    fn every_listed_profile_can_be_shown_and_names_its_source() {
        for kind in Kind::ALL {
            for row in rows_of(kind).expect("shipped") {
                assert!(!row.source.is_empty() && !row.about.is_empty(), "{kind} {}", row.name);
                Profiles::text(kind, &row.name).expect("shown");
            }
        }
    }
}
