//! `coldframe top`: what is where on a server, again and again.

use super::{show, text};
use crate::client::ServerArg;
use crate::ui::{Ui, print};
use anyhow::Result;
use clap::Args;
use serde_json::Value;
use std::io::IsTerminal;
use std::time::Duration;

/// Watch functions, their place and their calls
#[derive(Args)]
pub struct TopArgs {
    /// Print once and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, default_value_t = 2)]
    every: u64,
    #[command(flatten)]
    server: ServerArg,
}

/// Runs the command.
pub fn run(args: &TopArgs, ui: &Ui) -> Result<()> {
    let server = args.server.server()?;
    let again = !args.once && !ui.json && std::io::stdout().is_terminal();
    loop {
        let seen = server.get("/admin/v1/residency")?;
        if ui.json {
            return print(&(serde_json::to_string_pretty(&seen)? + "\n"));
        }
        if again {
            // Clears the screen and goes home.
            print("\x1b[2J\x1b[H")?;
        }
        table(&seen, ui)?;
        if !again {
            return Ok(());
        }
        for _ in 0..args.every.max(1) * 10 {
            ui.check()?;
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn table(seen: &Value, ui: &Ui) -> Result<()> {
    let size = |value: &Value| crate::backbone::size(value.as_u64().unwrap_or(0));
    let tier = |name: &str| format!("{} of {}", size(&seen[name]["used"]), size(&seen[name]["capacity"]));
    print(&format!(
        "policy {}, {} running, {} waiting; device {}, host {}\n",
        text(&seen["policy"]),
        text(&seen["running"]),
        text(&seen["waiting"]),
        tier("device"),
        tier("host")
    ))?;
    let functions = seen["functions"].as_array().cloned().unwrap_or_default();
    let head = ["TENANT", "FUNCTION", "STATE", "TIER", "BYTES", "CALLS", "WAITING", "PINNED"];
    show(&functions, ui, head, |function| {
        [
            text(&function["names"]["tenant"]),
            text(&function["names"]["function"]),
            text(&function["state"]),
            text(&function["tier"]),
            size(&function["device_bytes"]),
            text(&function["leases"]),
            text(&function["waiting"]),
            if function["pinned"] == true { "yes".to_owned() } else { String::new() },
        ]
    })
}
