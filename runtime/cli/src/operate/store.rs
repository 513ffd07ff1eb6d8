//! `coldframe host`: a server's store: backup, restore, collection, check.
//!
//! Backup and collection go through the running server; restore works on a folder, with the server stopped.

use crate::client::ServerArg;
use crate::ui::{Ui, print};
use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use coldframe_host::store::Store;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Back up, restore, clean and check a server's store
#[derive(Args)]
pub struct HostArgs {
    #[command(subcommand)]
    command: HostCommand,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Subcommand)]
enum HostCommand {
    /// Copy the store while the server works, into a folder of its own below its data folder
    Backup {
        /// A name for it
        name: String,
    },
    /// Make a data folder of a backup; the server that uses it is started afterwards
    Restore {
        /// The backup's folder
        backup: PathBuf,
        /// A new data folder
        data_dir: PathBuf,
    },
    /// Remove blobs that nothing refers to
    Gc {
        /// Keep blobs that are younger, seconds [default: 3600]
        #[arg(long, value_name = "SECONDS")]
        age: Option<u64>,
    },
    /// Check the databases and every blob
    Check,
}

/// Runs the command.
pub fn run(args: HostArgs, ui: &Ui) -> Result<()> {
    match args.command {
        HostCommand::Backup { name } => {
            said(&args.server.server()?.send("POST", "/admin/v1/backups", &json!({"name": name}))?)
        }
        HostCommand::Restore { backup, data_dir } => {
            std::fs::create_dir_all(&data_dir)?;
            Store::restore(&backup, &data_dir.join("store"))?;
            ui.say(&format!("restored; start it with `coldframe serve --data-dir {}`", data_dir.display()));
            Ok(())
        }
        HostCommand::Gc { age } => {
            said(&args.server.server()?.send("POST", "/admin/v1/gc", &json!({"age_s": age}))?)
        }
        HostCommand::Check => {
            let answer = args.server.server()?.send("POST", "/admin/v1/check", &json!({}))?;
            said(&answer)?;
            ensure!(answer["sound"] == true, "the store is damaged: see `problems`; restore a backup");
            Ok(())
        }
    }
}

fn said(answer: &Value) -> Result<()> {
    print(&(serde_json::to_string_pretty(answer)? + "\n"))
}
