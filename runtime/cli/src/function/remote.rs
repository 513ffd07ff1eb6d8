//! Functions of a server: list, show, logs, rollback, rm, call.

use crate::backbone::columns;
use crate::client::ServerArg;
use crate::ui::{Ui, print};
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// Time between two looks at a log that is followed.
const FOLLOW: Duration = Duration::from_secs(1);

/// List the functions of a server
#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    server: ServerArg,
}

/// Show a function: aliases and generations
#[derive(Args)]
pub struct ShowArgs {
    /// The function
    function: String,
    #[command(flatten)]
    server: ServerArg,
}

/// Print what a function's code logged
#[derive(Args)]
pub struct LogsArgs {
    /// The function
    function: String,
    /// Wait for more
    #[arg(long, short)]
    follow: bool,
    #[command(flatten)]
    server: ServerArg,
}

/// Point a function back at an earlier generation
#[derive(Args)]
pub struct RollbackArgs {
    /// The function
    function: String,
    /// The generation [default: the one before]
    #[arg(long, value_name = "ID")]
    to: Option<String>,
    #[command(flatten)]
    server: ServerArg,
}

/// Remove a function from a server
#[derive(Args)]
pub struct RmArgs {
    /// The function
    function: String,
    #[command(flatten)]
    server: ServerArg,
}

/// Call a function with a prompt; the answer streams
#[derive(Args)]
pub struct CallArgs {
    /// The function, or function@alias
    function: String,
    /// What is asked
    #[arg(long, short)]
    prompt: String,
    /// Tokens of the answer at most
    #[arg(long, value_name = "N")]
    max_tokens: Option<u32>,
    /// 0 for the likeliest answer
    #[arg(long)]
    temperature: Option<f32>,
    #[command(flatten)]
    server: ServerArg,
}

/// All pages of a list.
pub fn all(server: &crate::client::Server, path: &str) -> Result<Vec<Value>> {
    let (mut data, mut next) = (Vec::new(), None::<String>);
    loop {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = next.map_or_else(|| path.to_owned(), |cursor| format!("{path}{joint}cursor={cursor}"));
        let answer = server.get(&page)?;
        data.extend(answer["data"].as_array().cloned().unwrap_or_default());
        next = answer["next"].as_str().map(str::to_owned);
        if next.is_none() {
            return Ok(data);
        }
    }
}

fn json_or(value: &Value, ui: &Ui, table: impl FnOnce() -> String) -> Result<()> {
    if ui.json { print(&(serde_json::to_string_pretty(value)? + "\n")) } else { print(&table()) }
}

/// Lists.
pub fn list(args: &ListArgs, ui: &Ui) -> Result<()> {
    let functions = all(&args.server.server()?, "/admin/v1/functions")?;
    json_or(&json!(functions), ui, || {
        let mut rows = vec![["FUNCTION", "BACKBONE", "GENERATION", "CODE", "PINNED"].map(str::to_owned)];
        let yes = |value: &Value| if value == true { "yes" } else { "" }.to_owned();
        rows.extend(functions.iter().map(|function| {
            let live = function["live"].as_array().map(Vec::as_slice).unwrap_or_default();
            let live = live.iter().filter_map(|target| target["generation"].as_str()?.get(..12));
            [
                text(&function["function"]),
                text(&function["backbone"]),
                live.collect::<Vec<_>>().join(" "),
                yes(&function["code"]),
                yes(&function["pinned"]),
            ]
        }));
        columns(&rows)
    })
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Shows.
pub fn show(args: &ShowArgs, ui: &Ui) -> Result<()> {
    let function = args.server.server()?.get(&format!("/admin/v1/functions/{}", args.function))?;
    json_or(&function, ui, || {
        let mut rows = vec![["GENERATION", "ALIASES", "ADAPTERS", "CODE"].map(str::to_owned)];
        for generation in function["generations"].as_array().into_iter().flatten().rev() {
            let id = generation["id"].as_str().unwrap_or_default();
            let named =
                function["aliases"].as_object().into_iter().flatten().filter_map(|(alias, targets)| {
                    let target = targets.as_array()?.iter().find(|target| target["generation"] == id)?;
                    let alone = targets.as_array()?.len() == 1;
                    Some(if alone { alias.clone() } else { format!("{alias} ({})", target["weight"]) })
                });
            let adapters = generation["adapters"].as_array().into_iter().flatten();
            let adapters = adapters.map(|adapter| text(&adapter["name"])).collect::<Vec<_>>().join(" ");
            let code = generation["module"]["world"].as_str().unwrap_or_default().to_owned();
            rows.push([id.to_owned(), named.collect::<Vec<_>>().join(" "), adapters, code]);
        }
        columns(&rows)
    })
}

/// Prints a log.
pub fn logs(args: &LogsArgs, ui: &Ui) -> Result<()> {
    let server = args.server.server()?;
    let mut after = 0;
    loop {
        let answer = server.get(&format!("/admin/v1/functions/{}/logs?after={after}", args.function))?;
        let lines = answer["data"].as_array().cloned().unwrap_or_default();
        for line in &lines {
            after = line["number"].as_u64().unwrap_or(after);
            match ui.json {
                true => print(&format!("{line}\n"))?,
                false => print(&crate::ui::printable(&format!(
                    "{:5} {} {}\n",
                    text(&line["level"]),
                    text(&line["request_id"]),
                    text(&line["message"])
                )))?,
            }
        }
        if lines.is_empty() {
            if !args.follow {
                return Ok(());
            }
            ui.check()?;
            std::thread::sleep(FOLLOW);
        }
    }
}

/// Rolls back.
pub fn rollback(args: &RollbackArgs, ui: &Ui) -> Result<()> {
    let path = format!("/admin/v1/functions/{}/rollback", args.function);
    let function = args.server.server()?.send("POST", &path, &json!({"to": args.to}))?;
    json_or(&function, ui, || {
        format!("{} is {}\n", args.function, text(&function["aliases"]["live"][0]["generation"]))
    })
}

/// Removes.
pub fn rm(args: &RmArgs, ui: &Ui) -> Result<()> {
    args.server.server()?.delete(&format!("/admin/v1/functions/{}", args.function))?;
    ui.say(&format!("{} removed", args.function));
    Ok(())
}

/// Calls.
pub fn call(args: &CallArgs, ui: &Ui) -> Result<()> {
    let mut body = json!({
        "model": args.function,
        "messages": [{"role": "user", "content": args.prompt}],
        "stream": !ui.json,
    });
    if let Some(tokens) = args.max_tokens {
        body["max_tokens"] = tokens.into();
    }
    if let Some(temperature) = args.temperature {
        body["temperature"] = temperature.into();
    }
    let server = args.server.server()?;
    if ui.json {
        let answer = server.send("POST", "/v1/chat/completions", &body)?;
        return print(&(serde_json::to_string_pretty(&answer)? + "\n"));
    }
    for line in BufReader::new(server.stream("/v1/chat/completions", &body)?).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: ").filter(|data| *data != "[DONE]") else { continue };
        let chunk: Value = serde_json::from_str(data)?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            bail!("{message}");
        }
        if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str() {
            print(&crate::ui::printable(text))?;
            std::io::stdout().flush()?;
        }
    }
    print("\n")
}
