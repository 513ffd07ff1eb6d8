//! `coldframe policies`: what presets there are, and their TOML to start from.

use crate::names::unknown;
use crate::ui::Ui;
use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use coldframe_policy::config::{preset, preset_names, preset_toml};

/// List policies and print their settings
#[derive(Args)]
#[command(after_help = "Examples:
  coldframe policies list
  coldframe policies show serverlesslora > mine.toml     # change it, and its `name`
  coldframe replay --trace paper-bursty --policy serverlesslora,mine.toml")]
pub struct PoliciesArgs {
    #[command(subcommand)]
    command: PoliciesCommand,
}

#[derive(Subcommand)]
enum PoliciesCommand {
    /// Name every preset and say what it does
    List,
    /// Print a preset as TOML: save it, change it, and give the file to `replay --policy`
    Show {
        /// A preset's name
        name: String,
    },
}

/// Prints.
pub fn run(args: PoliciesArgs, ui: &Ui) -> Result<()> {
    let names = preset_names();
    match args.command {
        PoliciesCommand::List => {
            let all: Vec<_> = names.iter().map(|n| preset(n)).collect::<Result<_, _>>()?;
            if ui.json {
                return crate::ui::print(&(serde_json::to_string_pretty(&all)? + "\n"));
            }
            let lines: String = all.iter().map(|p| format!("{:28} {}\n", p.name, p.about)).collect();
            crate::ui::print(&lines)
        }
        PoliciesCommand::Show { name } => {
            if !names.contains(&name) {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                bail!(unknown("policies show", &name, &known));
            }
            if ui.json {
                return crate::ui::print(&(serde_json::to_string_pretty(&preset(&name)?)? + "\n"));
            }
            crate::ui::print(&toml::to_string(&preset_toml(&name)?)?)
        }
    }
}
