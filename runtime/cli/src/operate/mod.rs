//! Commands of operators: tenants, keys, usage, a look at what runs, and the store.

mod store;
mod top;

pub use store::{HostArgs, run as host};
pub use top::{TopArgs, run as top};

use crate::backbone::columns;
use crate::client::ServerArg;
use crate::ui::{Ui, print};
use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::io::Write as _;

/// Make, list and remove tenants, and set their quotas
#[derive(Args)]
pub struct TenantArgs {
    #[command(subcommand)]
    command: TenantCommand,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Subcommand)]
enum TenantCommand {
    /// Make a tenant, or set its quotas; what is left out is unlimited
    Set(TenantSet),
    /// List tenants
    #[command(alias = "ls")]
    List,
    /// Remove a tenant without functions, and its keys
    Rm {
        /// The tenant
        name: String,
    },
}

#[derive(Args)]
struct TenantSet {
    /// The tenant
    name: String,
    /// Requests a minute
    #[arg(long)]
    rpm: Option<u64>,
    /// Tokens a minute
    #[arg(long)]
    tpm: Option<u64>,
    /// Calls at once
    #[arg(long)]
    concurrent: Option<u64>,
    /// Dollars a calendar month, as the server's tariff counts them: 12.50
    #[arg(long, value_name = "DOLLARS", value_parser = nanodollars)]
    month_usd: Option<u64>,
    /// Functions
    #[arg(long)]
    functions: Option<u64>,
    /// Bytes of adapters and components
    #[arg(long)]
    blob_bytes: Option<u64>,
}

/// Make, list and revoke API keys
#[derive(Args)]
pub struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    server: ServerArg,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Make a key; its secret is printed this once
    Create {
        /// What it may do
        #[arg(long, value_enum, default_value_t = Scope::Invoke)]
        scope: Scope,
        /// For people
        #[arg(long, default_value = "")]
        note: String,
        /// Seconds until it is refused
        #[arg(long, value_name = "SECONDS")]
        expires_in: Option<u64>,
    },
    /// List keys, without secrets
    #[command(alias = "ls")]
    List,
    /// End a key
    Revoke {
        /// Its public part
        id: String,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    /// Call functions
    Invoke,
    /// Call and change functions of its tenant
    Admin,
    /// Everything
    Operator,
}

impl Scope {
    fn word(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

/// Sum what was used
#[derive(Args)]
pub struct UsageArgs {
    /// Only this function
    #[arg(long)]
    function: Option<String>,
    /// Sum by
    #[arg(long, value_parser = ["function", "tenant", "hour", "day"], default_value = "function")]
    by: String,
    /// Print the ledger's rows instead, as a table for other programs
    #[arg(long, value_name = "TABLE", value_parser = ["requests", "residency"])]
    rows: Option<String>,
    /// Form of that table; Parquet belongs into a file
    #[arg(long, value_parser = ["csv", "parquet"], default_value = "csv", requires = "rows")]
    format: String,
    #[command(flatten)]
    server: ServerArg,
}

/// Dollars as people write them, exactly.
fn nanodollars(text: &str) -> Result<u64> {
    let wrong = || anyhow!("give dollars, with nine digits behind the point at most: 12.50");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 9 || !digits(whole) || !digits(part) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| wrong())?;
    let part: u64 = format!("{part:0<9}").parse().map_err(|_| wrong())?;
    whole.checked_mul(1_000_000_000).and_then(|nano| nano.checked_add(part)).ok_or_else(wrong)
}

/// Prints JSON, or a table.
fn show<const N: usize>(
    value: &[Value],
    ui: &Ui,
    head: [&str; N],
    row: impl Fn(&Value) -> [String; N],
) -> Result<()> {
    if ui.json {
        return print(&(serde_json::to_string_pretty(value)? + "\n"));
    }
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(value.iter().map(row));
    print(&columns(&rows))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Runs `coldframe tenant`.
pub fn tenant(args: TenantArgs, ui: &Ui) -> Result<()> {
    let server = args.server.server()?;
    match args.command {
        TenantCommand::List => {
            let all = crate::function::remote::all(&server, "/admin/v1/tenants")?;
            show(&all, ui, ["TENANT", "RPM", "TPM", "CONCURRENT", "FUNCTIONS"], |tenant| {
                let quota = |name: &str| text(&tenant["quota"][name]);
                [text(&tenant["name"]), quota("rpm"), quota("tpm"), quota("concurrent"), quota("functions")]
            })
        }
        TenantCommand::Set(set) => {
            let quota = json!({
                "rpm": set.rpm, "tpm": set.tpm, "concurrent": set.concurrent,
                "month_nanodollars": set.month_usd, "functions": set.functions, "blob_bytes": set.blob_bytes,
            });
            server.send("PUT", &format!("/admin/v1/tenants/{}", set.name), &json!({"quota": quota}))?;
            ui.say(&format!("{} is set", set.name));
            Ok(())
        }
        TenantCommand::Rm { name } => {
            server.delete(&format!("/admin/v1/tenants/{name}"))?;
            ui.say(&format!("{name} removed"));
            Ok(())
        }
    }
}

/// Runs `coldframe key`.
pub fn key(args: KeyArgs, ui: &Ui) -> Result<()> {
    let server = args.server.server()?;
    match args.command {
        KeyCommand::List => {
            let all = crate::function::remote::all(&server, "/admin/v1/keys")?;
            show(&all, ui, ["KEY", "TENANT", "SCOPE", "NOTE"], |key| {
                ["id", "tenant", "scope", "note"].map(|name| text(&key[name]))
            })
        }
        KeyCommand::Create { scope, note, expires_in } => {
            let body = json!({"scope": scope.word(), "note": note, "expires_in_s": expires_in});
            let made = server.send("POST", "/admin/v1/keys", &body)?;
            if ui.json {
                return print(&(serde_json::to_string_pretty(&made)? + "\n"));
            }
            ui.say("the key is shown this once:");
            print(&format!("{}\n", text(&made["secret"])))
        }
        KeyCommand::Revoke { id } => {
            server.delete(&format!("/admin/v1/keys/{id}"))?;
            ui.say(&format!("{id} revoked"));
            Ok(())
        }
    }
}

/// Runs `coldframe usage`.
pub fn usage(args: UsageArgs, ui: &Ui) -> Result<()> {
    let function = args.function.map(|name| format!("&function={name}")).unwrap_or_default();
    if let Some(table) = args.rows {
        let path = format!("/admin/v1/usage/rows?table={table}&format={}{function}", args.format);
        let bytes = args.server.server()?.bytes(&path)?;
        return std::io::stdout().write_all(&bytes).context("stdout");
    }
    let answer = args.server.server()?.get(&format!("/admin/v1/usage?by={}{function}", args.by))?;
    let rows = answer["data"].as_array().cloned().unwrap_or_default();
    let head = [
        "TENANT",
        "FUNCTION",
        "FROM_MS",
        "REQUESTS",
        "PROMPT",
        "ANSWER",
        "DEVICE_MS",
        "OWN_USD",
        "SHARED_USD",
    ];
    let dollars = |value: &Value| {
        let nano = value.as_u64().unwrap_or(0);
        format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
    };
    show(&rows, ui, head, |row| {
        let device_ms = row["device_ns"].as_u64().unwrap_or(0) / 1_000_000;
        [
            text(&row["tenant"]),
            text(&row["function"]),
            text(&row["from_ms"]),
            text(&row["requests"]),
            text(&row["prompt_tokens"]),
            text(&row["completion_tokens"]),
            device_ms.to_string(),
            dollars(&row["nanodollars"]),
            dollars(&row["shared_nanodollars"]["shapley"]),
        ]
    })
}
