//! The routes of `/admin/v1`: one table of method, path, who may use it, how the action is read, and its description.
//!
//! A route only reads: what it does is [`super::Admin::run`]'s business. Parameters of the query that a route does not
//! have are refused, as fields of bodies are.

use super::action::{Action, At, Page, RowsQuery, Terms, UsageBy, UsageQuery};
use super::edge;
use super::error::{AdminError, Result};
use super::ingest::Upload;
use super::{Admin, decode, names};
use crate::http::openapi::{Describe, schema};
use crate::http::router::{Access, Route};
use crate::meter::export::{Format, Table};
use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request, taken apart.
pub struct Given {
    /// Values of the pattern's names.
    pub values: Vec<String>,
    /// Parameters of the query.
    pub query: BTreeMap<String, String>,
    /// The body; empty where it was a multipart one.
    pub body: Bytes,
    /// What a multipart body held.
    pub upload: Option<Upload>,
    /// Conditions of the headers.
    pub terms: Terms,
}

impl Given {
    fn value(&self, place: usize) -> String {
        self.values.get(place).cloned().unwrap_or_default()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.query.get(name).cloned()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>> {
        let parse = |text: &String| {
            text.parse().map_err(|_| AdminError::invalid(name, "it is not a whole number in range"))
        };
        self.query.get(name).map(parse).transpose()
    }

    fn tenant(&self) -> Option<String> {
        self.text("tenant")
    }

    fn at(&self) -> At {
        At { tenant: self.tenant(), function: self.value(0) }
    }

    fn page(&self) -> Result<Page> {
        Ok(Page { limit: self.number("limit")?, cursor: self.text("cursor") })
    }

    /// The body, which must be there.
    fn spec<T: DeserializeOwned>(&self) -> Result<T> {
        decode(&self.body)
    }

    /// The body; an empty one is an empty object.
    fn spec_or_default<T: DeserializeOwned + Default>(&self) -> Result<T> {
        if self.body.is_empty() { Ok(T::default()) } else { self.spec() }
    }

    fn registration(&mut self) -> Result<Upload> {
        match self.upload.take() {
            Some(upload) => Ok(upload),
            None => Ok(Upload { spec: self.spec()?, ..Upload::default() }),
        }
    }
}

/// Reads an action.
pub type Decode = fn(&mut Given) -> Result<Action>;

/// A line of the table.
pub struct Line {
    /// Its method.
    pub method: Method,
    /// Its pattern.
    pub pattern: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Reads the action.
    pub decode: Decode,
    /// Parameters of its query.
    pub query: &'static [&'static str],
    /// Whether it takes multipart bodies too.
    pub upload: bool,
    /// What it is for.
    pub describe: Describe,
}

const PAGED: &[&str] = &["tenant", "limit", "cursor"];
const OWN: &[&str] = &["tenant"];
const NONE: &[&str] = &[];

const FUNCTIONS: &str = "Admin: functions";
const TENANTS: &str = "Admin: tenants and keys";
const SERVER: &str = "Admin: server";

/// All routes, answered by `admin`.
pub fn all(admin: &Arc<Admin>) -> Vec<Route> {
    lines().into_iter().map(|line| edge::route(admin.clone(), line)).collect()
}

/// The table.
pub fn lines() -> Vec<Line> {
    let mut lines = functions();
    lines.extend(parts_of_functions());
    lines.extend(placement());
    lines.extend(tenants());
    lines.extend(server());
    lines
}

fn line(
    (method, pattern): (Method, &'static str),
    access: Access,
    query: &'static [&'static str],
    decode: Decode,
    describe: Describe,
) -> Line {
    let describe = query.iter().fold(describe, |describe, name| {
        let (schema, text) = parameter(name);
        describe.query(name, schema, text)
    });
    Line { method, pattern, access, decode, query, upload: false, describe }
}

/// Schema and description of a parameter.
fn parameter(name: &str) -> (Value, &'static str) {
    let text = || json!({"type": "string"});
    match name {
        "tenant" => (text(), "Another tenant; operators only (`*` in lists: all)"),
        "limit" => {
            (json!({"type": "integer", "minimum": 1, "maximum": 1000}), "Entries at most; 100 without")
        }
        "cursor" => (text(), "`next` of the page before"),
        "after" => (json!({"type": "integer", "minimum": 0}), "Number of the last line that is known"),
        "from" | "to" => (json!({"type": "integer", "minimum": 0}), "Milliseconds since 1970"),
        "by" => (json!({"enum": ["function", "tenant", "hour", "day"]}), "What is summed by"),
        "table" => (json!({"enum": ["requests", "residency"]}), "Which rows"),
        "format" => (json!({"enum": ["csv", "parquet"]}), "CSV without"),
        _ => (text(), "A function's name"),
    }
}

fn words(tag: &'static str, summary: &'static str) -> Describe {
    Describe::new(tag, summary)
}

fn functions() -> Vec<Line> {
    let put = words(FUNCTIONS, "Register a function or replace it by a new generation")
        .body("FunctionSpec")
        .json(200, "Deployed")
        .json(201, "Deployed");
    let dry_run = words(FUNCTIONS, "Say whether a registration would work and what it would cost")
        .body("FunctionSpec")
        .json(200, "DryRun");
    let mut all = vec![
        line(
            (Method::GET, "/admin/v1/functions"),
            Access::Admin,
            PAGED,
            |given| Ok(Action::FunctionList { tenant: given.tenant(), page: given.page()? }),
            words(FUNCTIONS, "List functions by name").json(200, "FunctionList"),
        ),
        line(
            (Method::GET, "/admin/v1/functions/{function}"),
            Access::Admin,
            OWN,
            |given| Ok(Action::FunctionShow { at: given.at() }),
            words(FUNCTIONS, "Show a function with its aliases and generations").json(200, "Function"),
        ),
        line(
            (Method::DELETE, "/admin/v1/functions/{function}"),
            Access::Admin,
            OWN,
            |given| Ok(Action::FunctionDelete { at: given.at() }),
            words(FUNCTIONS, "Remove a function; calls under way finish").json(200, "Removed"),
        ),
    ];
    all.extend([
        Line {
            upload: true,
            ..line(
                (Method::PUT, "/admin/v1/functions/{function}"),
                Access::Admin,
                OWN,
                |given| {
                    let Upload { spec, uploads } = given.registration()?;
                    Ok(Action::FunctionPut { at: given.at(), spec, uploads })
                },
                put,
            )
        },
        Line {
            upload: true,
            ..line(
                (Method::POST, "/admin/v1/functions/{function}/dry-run"),
                Access::Admin,
                OWN,
                |given| {
                    let Upload { spec, uploads } = given.registration()?;
                    Ok(Action::FunctionDryRun { at: given.at(), spec, uploads })
                },
                dry_run,
            )
        },
    ]);
    all
}

fn parts_of_functions() -> Vec<Line> {
    vec![
        line(
            (Method::GET, "/admin/v1/functions/{function}/generations"),
            Access::Admin,
            PAGED,
            |given| Ok(Action::GenerationList { at: given.at(), page: given.page()? }),
            words(FUNCTIONS, "List a function's generations, newest first").json(200, "GenerationList"),
        ),
        line(
            (Method::GET, "/admin/v1/functions/{function}/generations/{generation}"),
            Access::Admin,
            OWN,
            |given| {
                let generation = given.value(1);
                names::digest("generation", &generation)?;
                Ok(Action::GenerationShow { at: given.at(), generation })
            },
            words(FUNCTIONS, "Show a generation").json(200, "Generation"),
        ),
        line(
            (Method::PUT, "/admin/v1/functions/{function}/aliases/{alias}"),
            Access::Admin,
            OWN,
            |given| Ok(Action::AliasPut { at: given.at(), alias: given.value(1), spec: given.spec()? }),
            words(FUNCTIONS, "Point an alias at generations, by weight")
                .body("AliasSpec")
                .json(200, "Function"),
        ),
        line(
            (Method::DELETE, "/admin/v1/functions/{function}/aliases/{alias}"),
            Access::Admin,
            OWN,
            |given| Ok(Action::AliasDelete { at: given.at(), alias: given.value(1) }),
            words(FUNCTIONS, "Remove an alias").json(200, "Function"),
        ),
        line(
            (Method::POST, "/admin/v1/functions/{function}/rollback"),
            Access::Admin,
            OWN,
            |given| Ok(Action::Rollback { at: given.at(), spec: given.spec_or_default()? }),
            words(FUNCTIONS, "Point an alias back at an earlier generation")
                .body("RollbackSpec")
                .json(200, "Function"),
        ),
        line(
            (Method::GET, "/admin/v1/functions/{function}/logs"),
            Access::Admin,
            &["tenant", "after", "limit"],
            |given| {
                let after = given.number("after")?.unwrap_or(0);
                Ok(Action::Logs { at: given.at(), after, limit: given.number("limit")? })
            },
            words(FUNCTIONS, "Read what a function's code logged").json(200, "LogList"),
        ),
    ]
}

fn placement() -> Vec<Line> {
    vec![
        line(
            (Method::PUT, "/admin/v1/functions/{function}/pin"),
            Access::Admin,
            OWN,
            |given| Ok(Action::Pin { at: given.at(), spec: given.spec()? }),
            words(FUNCTIONS, "Pin a function, or let it go").body("PinSpec").json(200, "Function"),
        ),
        line(
            (Method::POST, "/admin/v1/functions/{function}/prewarm"),
            Access::Admin,
            OWN,
            |given| Ok(Action::Prewarm { at: given.at() }),
            words(FUNCTIONS, "Bring a function's artifacts into place").json(200, "Function"),
        ),
        line(
            (Method::POST, "/admin/v1/functions/{function}/sleep"),
            Access::Admin,
            OWN,
            |given| {
                let empty = given.body.is_empty();
                let spec = if empty { decode(b"{}")? } else { given.spec()? };
                Ok(Action::Sleep { at: given.at(), spec })
            },
            words(FUNCTIONS, "Take a function's artifacts out of memory")
                .body("SleepSpec")
                .json(200, "Function"),
        ),
        line(
            (Method::POST, "/admin/v1/functions/{function}/wake"),
            Access::Admin,
            OWN,
            |given| Ok(Action::Wake { at: given.at() }),
            words(FUNCTIONS, "End a function's sleep").json(200, "Function"),
        ),
        line(
            (Method::GET, "/admin/v1/residency"),
            Access::Admin,
            OWN,
            |given| Ok(Action::Residency { tenant: given.tenant() }),
            words(SERVER, "Show what lies in which tier").json(200, "Data"),
        ),
        line(
            (Method::GET, "/admin/v1/overview"),
            Access::Admin,
            NONE,
            |_| Ok(Action::Overview),
            words(SERVER, "Show everything a dashboard does").json(200, "Data"),
        ),
    ]
}

fn tenants() -> Vec<Line> {
    vec![
        line(
            (Method::GET, "/admin/v1/tenants"),
            Access::Operator,
            &["limit", "cursor"],
            |given| Ok(Action::TenantList { page: given.page()? }),
            words(TENANTS, "List tenants").json(200, "TenantList"),
        ),
        line(
            (Method::GET, "/admin/v1/tenants/{tenant}"),
            Access::Admin,
            NONE,
            |given| Ok(Action::TenantShow { tenant: given.value(0) }),
            words(TENANTS, "Show a tenant").json(200, "Tenant"),
        ),
        line(
            (Method::PUT, "/admin/v1/tenants/{tenant}"),
            Access::Operator,
            NONE,
            |given| Ok(Action::TenantPut { tenant: given.value(0), spec: given.spec_or_default()? }),
            words(TENANTS, "Make a tenant, or set its quotas")
                .body("TenantSpec")
                .json(200, "Tenant")
                .json(201, "Tenant"),
        ),
        line(
            (Method::DELETE, "/admin/v1/tenants/{tenant}"),
            Access::Operator,
            NONE,
            |given| Ok(Action::TenantDelete { tenant: given.value(0) }),
            words(TENANTS, "Remove a tenant without functions, and its keys").json(200, "Removed"),
        ),
        line(
            (Method::GET, "/admin/v1/keys"),
            Access::Admin,
            PAGED,
            |given| Ok(Action::KeyList { tenant: given.tenant(), page: given.page()? }),
            words(TENANTS, "List keys, without secrets").json(200, "KeyList"),
        ),
        line(
            (Method::POST, "/admin/v1/keys"),
            Access::Admin,
            OWN,
            |given| Ok(Action::KeyCreate { tenant: given.tenant(), spec: given.spec()? }),
            words(TENANTS, "Make a key; its secret is shown this once").body("KeySpec").json(201, "KeyMade"),
        ),
        line(
            (Method::DELETE, "/admin/v1/keys/{key}"),
            Access::Admin,
            OWN,
            |given| Ok(Action::KeyRevoke { tenant: given.tenant(), key: given.value(0) }),
            words(TENANTS, "Revoke a key").json(200, "Removed"),
        ),
        line(
            (Method::GET, "/admin/v1/usage"),
            Access::Admin,
            &["tenant", "function", "from", "to", "by"],
            usage,
            words(TENANTS, "Sum what was used").json(200, "UsageList"),
        ),
        line(
            (Method::GET, "/admin/v1/usage/rows"),
            Access::Admin,
            &["tenant", "function", "from", "to", "table", "format"],
            rows,
            words(TENANTS, "Read the ledger's rows as a table")
                .reply(200, "text/csv; charset=utf-8", json!({"type": "string"}))
                .reply(200, "application/vnd.apache.parquet", json!({"type": "string", "format": "binary"})),
        ),
        line(
            (Method::GET, "/admin/v1/audit"),
            Access::Admin,
            PAGED,
            |given| Ok(Action::AuditList { tenant: given.tenant(), page: given.page()? }),
            words(TENANTS, "Read who changed what, newest first").json(200, "AuditList"),
        ),
    ]
}

fn usage(given: &mut Given) -> Result<Action> {
    let by = match given.text("by").as_deref() {
        None | Some("function") => UsageBy::Function,
        Some("tenant") => UsageBy::Tenant,
        Some("hour") => UsageBy::Hour,
        Some("day") => UsageBy::Day,
        Some(_) => return Err(AdminError::invalid("by", "give function, tenant, hour or day")),
    };
    let (from_ms, to_ms) = (given.number("from")?, given.number("to")?);
    let query = UsageQuery { tenant: given.tenant(), function: given.text("function"), from_ms, to_ms, by };
    Ok(Action::Usage { query })
}

fn rows(given: &mut Given) -> Result<Action> {
    let table = match given.text("table").as_deref() {
        None | Some("requests") => Table::Requests,
        Some("residency") => Table::Residency,
        Some(_) => return Err(AdminError::invalid("table", "give requests or residency")),
    };
    let format = match given.text("format").as_deref() {
        None | Some("csv") => Format::Csv,
        Some("parquet") => Format::Parquet,
        Some(_) => return Err(AdminError::invalid("format", "give csv or parquet")),
    };
    let (from_ms, to_ms) = (given.number("from")?, given.number("to")?);
    let (tenant, function) = (given.tenant(), given.text("function"));
    Ok(Action::Rows { query: RowsQuery { tenant, function, from_ms, to_ms, table, format } })
}

fn server() -> Vec<Line> {
    vec![
        line(
            (Method::GET, "/admin/v1/backbones"),
            Access::Admin,
            NONE,
            |_| Ok(Action::BackboneList),
            words(SERVER, "List this server's backbones").json(200, "BackboneList"),
        ),
        line(
            (Method::GET, "/admin/v1/backbones/{backbone}"),
            Access::Admin,
            NONE,
            |given| Ok(Action::BackboneShow { name: given.value(0) }),
            words(SERVER, "Show a backbone").json(200, "Backbone"),
        ),
        line(
            (Method::GET, "/admin/v1/policy"),
            Access::Admin,
            NONE,
            |_| Ok(Action::PolicyShow),
            words(SERVER, "Show the policy in force").json(200, "Policy"),
        ),
        line(
            (Method::PUT, "/admin/v1/policy"),
            Access::Operator,
            NONE,
            |given| Ok(Action::PolicyPut { spec: given.spec()? }),
            words(SERVER, "Put another policy in force").body("PolicySpec").json(200, "Policy"),
        ),
        line(
            (Method::POST, "/admin/v1/drain"),
            Access::Operator,
            NONE,
            |given| Ok(Action::Drain { spec: given.spec_or_default()? }),
            words(SERVER, "Take no more calls and let those under way finish")
                .body("DrainSpec")
                .json(202, "Data"),
        ),
        line(
            (Method::POST, "/admin/v1/backups"),
            Access::Operator,
            NONE,
            |given| Ok(Action::Backup { spec: given.spec()? }),
            words(SERVER, "Copy the store while it works").body("BackupSpec").json(201, "Data"),
        ),
        line(
            (Method::POST, "/admin/v1/gc"),
            Access::Operator,
            NONE,
            |given| Ok(Action::Gc { spec: given.spec_or_default()? }),
            words(SERVER, "Remove blobs that nothing refers to").body("GcSpec").json(200, "Collected"),
        ),
        line(
            (Method::POST, "/admin/v1/check"),
            Access::Operator,
            NONE,
            |_| Ok(Action::Check),
            words(SERVER, "Check the store").json(200, "Data"),
        ),
    ]
}

/// The schema of a multipart registration, beside the JSON one.
pub fn multipart_schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "manifest": schema("FunctionSpec"),
            "adapter": {"type": "array", "items": {"type": "string", "format": "binary"}},
            "module": {"type": "string", "format": "binary"},
        },
    })
}
