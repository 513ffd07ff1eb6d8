//! Every administrative action there is: one enum, typed, whoever asks and however.
//!
//! HTTP and the command line only translate to it; [`super::Admin::run`] carries it out. Bodies refuse fields that they
//! do not know, so that nothing can be slipped in (`tenant`, `scope`, `digest`).

use super::ingest::Uploads;
use crate::meter::export::{Format, Table};
use crate::records::{Digest, Quota, Scope, Settings, Target};
use crate::store::Revision;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A function, as a caller names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct At {
    /// The tenant; without, the caller's own. Only an operator may name another.
    pub tenant: Option<String>,
    /// The function's name.
    pub function: String,
}

/// A part of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Entries at most; without, 100.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// What a request says beside its action.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Terms {
    /// `If-Match`: the record must be at this revision.
    pub if_match: Option<Revision>,
    /// `If-None-Match: *`: there must be no record.
    pub if_none_match: bool,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// `x-request-id`, for the audit log.
    pub request_id: String,
}

/// What a function is to be: the body of a registration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// The backbone; without, the server's only one.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "baseModel")]
    pub backbone: Option<String>,
    /// Adapters, the default first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<AdapterSpec>,
    /// The component, where the function has code that is not uploaded with the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<FileSpec>,
    /// How it runs.
    #[serde(default)]
    pub settings: Settings,
    /// The generation that `alias` must mean now: compare-and-swap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_generation: Option<Digest>,
    /// The alias that is moved to the new generation; without, `live`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// Never evicted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<bool>,
    /// A prompt that the new generation must answer before it becomes visible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_check: Option<SelfCheck>,
}

/// An adapter of a function, by reference; without `uri` and `files` it is uploaded with the request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterSpec {
    /// Its name inside the function; without, `default`.
    #[serde(default = "default_adapter")]
    pub name: String,
    /// `file:///folder`, `hf://org/repo@revision`, `oci://host/name@sha256:…`, or `https://…/adapter.gguf`.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "artifactURL")]
    pub uri: Option<String>,
    /// SHA-256 of the one file that `uri` names; required for `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Its files one by one, where each has an address of its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileSpec>,
    /// The content id that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Digest>,
}

/// The name of an adapter that was given none.
pub const DEFAULT_ADAPTER: &str = "default";

fn default_adapter() -> String {
    DEFAULT_ADAPTER.to_owned()
}

/// One file by reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// Where it is.
    #[serde(alias = "artifactURL")]
    pub uri: String,
    /// Its SHA-256; required for `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A question with a known answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfCheck {
    /// What the user says.
    pub prompt: String,
    /// What the answer must hold.
    pub contains: String,
    /// Tokens of the answer at most; without, 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

/// Body of an alias.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasSpec {
    /// Generations and their weights; one target is a plain pointer.
    pub targets: Vec<Target>,
}

/// Body of a rollback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackSpec {
    /// The generation to go back to; without, the one before.
    #[serde(default)]
    pub to: Option<Digest>,
    /// The alias that goes back; without, `live`.
    #[serde(default)]
    pub alias: Option<String>,
}

/// Body of a pin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinSpec {
    /// Whether it is never evicted.
    pub pinned: bool,
}

/// Body of putting a function to sleep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SleepSpec {
    /// 1 keeps its artifacts in host memory, 2 on disk only.
    #[serde(default = "one")]
    pub level: u8,
}

fn one() -> u8 {
    1
}

/// Body of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSpec {
    /// Its quotas.
    #[serde(default)]
    pub quota: Quota,
}

/// Body of a new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySpec {
    /// What it may do.
    pub scope: Scope,
    /// For people.
    #[serde(default)]
    pub note: String,
    /// Seconds until it is refused; without, never.
    #[serde(default)]
    pub expires_in_s: Option<u64>,
}

/// Body of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// A preset's name, or a policy in TOML.
    pub policy: String,
}

/// Body of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainSpec {
    /// Seconds that running calls get; without, the server's own.
    #[serde(default)]
    pub grace_s: Option<u64>,
}

/// Body of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupSpec {
    /// A name for it: a folder of that name is made below the server's folder of backups.
    pub name: String,
}

/// Body of a collection of what nothing refers to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GcSpec {
    /// Blobs stored less long ago are kept; without, an hour.
    #[serde(default)]
    pub age_s: Option<u64>,
}

/// What usage is summed by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// Tenant and function.
    #[default]
    Function,
    /// Tenant.
    Tenant,
    /// Tenant, function and hour.
    Hour,
    /// Tenant, function and day.
    Day,
}

/// Which usage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UsageQuery {
    /// Only this tenant; `None` is all.
    pub tenant: Option<String>,
    /// Only this function.
    pub function: Option<String>,
    /// From this time on, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before this time.
    pub to_ms: Option<u64>,
    /// Summed by.
    pub by: UsageBy,
}

/// Which rows of the ledger, and as what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RowsQuery {
    /// Only this tenant; `None` is all.
    pub tenant: Option<String>,
    /// Only this function.
    pub function: Option<String>,
    /// From this time on, milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before this time.
    pub to_ms: Option<u64>,
    /// Requests or residencies.
    pub table: Table,
    /// CSV or Parquet.
    pub format: Format,
}

/// Who may ask for an action, beside the operator, who may always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// An administrator of a tenant, for that tenant.
    Tenant,
    /// Nobody else.
    Operator,
}

/// An administrative action.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "a variant's fields are what its name says; the bodies' types are documented"
)]
pub enum Action {
    /// Backbones of this server.
    BackboneList,
    /// One of them.
    BackboneShow { name: String },
    /// Functions of a tenant (`*`: of all, for operators), by name.
    FunctionList { tenant: Option<String>, page: Page },
    /// A function with its aliases and generations.
    FunctionShow { at: At },
    /// Registers a function, or replaces it by a new generation.
    FunctionPut { at: At, spec: FunctionSpec, uploads: Uploads },
    /// Whether a registration would work, and what it would cost; changes nothing.
    FunctionDryRun { at: At, spec: FunctionSpec, uploads: Uploads },
    /// Removes a function. Calls under way finish.
    FunctionDelete { at: At },
    /// Generations of a function, newest first.
    GenerationList { at: At, page: Page },
    /// One of them.
    GenerationShow { at: At, generation: Digest },
    /// Points an alias at generations, with weights.
    AliasPut { at: At, alias: String, spec: AliasSpec },
    /// Removes an alias; `live` stays.
    AliasDelete { at: At, alias: String },
    /// Points an alias back.
    Rollback { at: At, spec: RollbackSpec },
    /// Pins or unpins.
    Pin { at: At, spec: PinSpec },
    /// Brings a function's artifacts into place.
    Prewarm { at: At },
    /// Takes them out.
    Sleep { at: At, spec: SleepSpec },
    /// Ends the sleep.
    Wake { at: At },
    /// What a function's code logged, oldest first.
    Logs { at: At, after: u64, limit: Option<usize> },
    /// Tenants by name.
    TenantList { page: Page },
    /// A tenant.
    TenantShow { tenant: String },
    /// Makes a tenant, or changes its quotas.
    TenantPut { tenant: String, spec: TenantSpec },
    /// Removes a tenant that has no functions; its keys go with it.
    TenantDelete { tenant: String },
    /// Keys of a tenant, without secrets.
    KeyList { tenant: Option<String>, page: Page },
    /// Makes a key; its secret is shown this once.
    KeyCreate { tenant: Option<String>, spec: KeySpec },
    /// Ends a key.
    KeyRevoke { tenant: Option<String>, key: String },
    /// What was used.
    Usage { query: UsageQuery },
    /// The ledger's rows.
    Rows { query: RowsQuery },
    /// What lies in which tier now.
    Residency { tenant: Option<String> },
    /// One page of everything a dashboard shows.
    Overview,
    /// The policy in force.
    PolicyShow,
    /// Changes it.
    PolicyPut { spec: PolicySpec },
    /// Stops taking calls and lets those under way finish.
    Drain { spec: DrainSpec },
    /// Who changed what.
    AuditList { tenant: Option<String>, page: Page },
    /// Copies the store while it works.
    Backup { spec: BackupSpec },
    /// Removes blobs that nothing refers to.
    Gc { spec: GcSpec },
    /// Checks the store.
    Check,
}

impl Action {
    /// Who may ask for it.
    pub fn access(&self) -> Access {
        match self {
            Self::TenantList { .. }
            | Self::TenantPut { .. }
            | Self::TenantDelete { .. }
            | Self::PolicyPut { .. }
            | Self::Drain { .. }
            | Self::Backup { .. }
            | Self::Gc { .. }
            | Self::Check => Access::Operator,
            _ => Access::Tenant,
        }
    }

    /// Whether it changes something: such actions leave a line in the audit log.
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::BackboneList
                | Self::BackboneShow { .. }
                | Self::FunctionList { .. }
                | Self::FunctionShow { .. }
                | Self::FunctionDryRun { .. }
                | Self::GenerationList { .. }
                | Self::GenerationShow { .. }
                | Self::Logs { .. }
                | Self::TenantList { .. }
                | Self::TenantShow { .. }
                | Self::KeyList { .. }
                | Self::Usage { .. }
                | Self::Rows { .. }
                | Self::Residency { .. }
                | Self::Overview
                | Self::PolicyShow
                | Self::AuditList { .. }
                | Self::Check
        )
    }

    /// Its name, as in the audit log and in OpenAPI.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BackboneList => "backbone_list",
            Self::BackboneShow { .. } => "backbone_show",
            Self::FunctionList { .. } => "function_list",
            Self::FunctionShow { .. } => "function_show",
            Self::FunctionPut { .. } => "function_put",
            Self::FunctionDryRun { .. } => "function_dry_run",
            Self::FunctionDelete { .. } => "function_delete",
            Self::GenerationList { .. } => "generation_list",
            Self::GenerationShow { .. } => "generation_show",
            Self::AliasPut { .. } => "alias_put",
            Self::AliasDelete { .. } => "alias_delete",
            Self::Rollback { .. } => "rollback",
            Self::Pin { .. } => "pin",
            Self::Prewarm { .. } => "prewarm",
            Self::Sleep { .. } => "sleep",
            Self::Wake { .. } => "wake",
            Self::Logs { .. } => "logs",
            Self::TenantList { .. } => "tenant_list",
            Self::TenantShow { .. } => "tenant_show",
            Self::TenantPut { .. } => "tenant_put",
            Self::TenantDelete { .. } => "tenant_delete",
            Self::KeyList { .. } => "key_list",
            Self::KeyCreate { .. } => "key_create",
            Self::KeyRevoke { .. } => "key_revoke",
            Self::Usage { .. } => "usage",
            Self::Rows { .. } => "usage_rows",
            Self::Residency { .. } => "residency",
            Self::Overview => "overview",
            Self::PolicyShow => "policy_show",
            Self::PolicyPut { .. } => "policy_put",
            Self::Drain { .. } => "drain",
            Self::AuditList { .. } => "audit_list",
            Self::Backup { .. } => "backup",
            Self::Gc { .. } => "gc",
            Self::Check => "check",
        }
    }

    /// What it is about, for the audit log: `function/pirate`, `key/ab12`; the tenant stands beside it.
    pub fn target(&self) -> String {
        match self {
            Self::FunctionPut { at, .. }
            | Self::FunctionDelete { at }
            | Self::Rollback { at, .. }
            | Self::Pin { at, .. }
            | Self::Prewarm { at }
            | Self::Sleep { at, .. }
            | Self::Wake { at } => format!("function/{}", at.function),
            Self::AliasPut { at, alias, .. } | Self::AliasDelete { at, alias } => {
                format!("function/{}@{alias}", at.function)
            }
            Self::TenantPut { tenant, .. } | Self::TenantDelete { tenant } => format!("tenant/{tenant}"),
            Self::KeyRevoke { key, .. } => format!("key/{key}"),
            Self::KeyCreate { .. } => "key".to_owned(),
            Self::Backup { spec } => format!("backup/{}", spec.name),
            _ => String::new(),
        }
    }

    /// The tenant it names, if it names one.
    pub fn tenant(&self) -> Option<&str> {
        match self {
            Self::FunctionShow { at }
            | Self::FunctionPut { at, .. }
            | Self::FunctionDryRun { at, .. }
            | Self::FunctionDelete { at }
            | Self::GenerationList { at, .. }
            | Self::GenerationShow { at, .. }
            | Self::AliasPut { at, .. }
            | Self::AliasDelete { at, .. }
            | Self::Rollback { at, .. }
            | Self::Pin { at, .. }
            | Self::Prewarm { at }
            | Self::Sleep { at, .. }
            | Self::Wake { at }
            | Self::Logs { at, .. } => at.tenant.as_deref(),
            Self::FunctionList { tenant, .. }
            | Self::KeyList { tenant, .. }
            | Self::KeyCreate { tenant, .. }
            | Self::KeyRevoke { tenant, .. }
            | Self::Residency { tenant }
            | Self::AuditList { tenant, .. } => tenant.as_deref(),
            Self::TenantShow { tenant } | Self::TenantPut { tenant, .. } | Self::TenantDelete { tenant } => {
                Some(tenant)
            }
            Self::Usage { query } => query.tenant.as_deref(),
            Self::Rows { query } => query.tenant.as_deref(),
            _ => None,
        }
    }
}
