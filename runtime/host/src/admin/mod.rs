//! The administration: one enum of actions, carried out over the four stores and the running host.
//!
//! [`Action`] lists everything that can be asked for, [`Admin::run`] does it for a [`Principal`], [`Reply`] is what
//! comes back. What a caller may not see is absent, word for word; what changes something leaves a line in the audit
//! log, whether it was carried out or refused. HTTP, the OpenAI dialects and the command line only translate.

pub mod action;
mod aliases;
mod books;
mod change;
mod costs;
mod cursor;
mod edge;
pub mod error;
mod functions;
pub mod generation;
mod idempotency;
pub mod ingest;
mod journal;
mod keys;
pub mod live;
pub mod names;
pub mod records;
mod register;
pub mod reply;
pub mod routes;
pub mod schemas;
mod tenants;

pub use crate::auth::{Principal, Secret};
pub use action::{Access, Action, At, Page, Terms};
pub use error::{AdminError, Kind, Result};
pub use journal::StoreBooks;
pub use live::{Books, LiveControl};
pub use reply::{Done, Reply};

use crate::records::Scope;
use crate::store::{Blobs, Read, Registry};
use cursor::Cursors;
use ingest::Ingest;
use ingest::artifacts::Artifacts;
use ingest::verify::Verifier;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tenant of a server without keys, and of the operator's first key.
pub const DEFAULT_TENANT: &str = "default";

/// Stands for every tenant in the lists of operators.
pub const EVERY_TENANT: &str = "*";

/// What the administration works on.
pub struct Parts {
    /// Records.
    pub registry: Arc<dyn Registry>,
    /// Bytes.
    pub blobs: Arc<dyn Blobs>,
    /// The running host.
    pub live: Arc<dyn LiveControl>,
    /// Audit log, ledger, logs.
    pub books: Arc<dyn Books>,
    /// Folders of adapters.
    pub artifacts: Arc<Artifacts>,
}

/// How the administration behaves.
#[derive(Debug, Clone)]
pub struct AdminOptions {
    /// Where artifacts may come from.
    pub ingest: ingest::IngestOptions,
    /// Bounds of an adapter.
    pub limits: coldframe_backbone::adapter::Limits,
    /// Folder that backups are made in.
    pub backups: PathBuf,
    /// Secret of the cursors, the same on every host of a fleet.
    pub cursor_key: Secret,
}

/// The administration.
pub struct Admin {
    registry: Arc<dyn Registry>,
    blobs: Arc<dyn Blobs>,
    live: Arc<dyn LiveControl>,
    books: Arc<dyn Books>,
    artifacts: Arc<Artifacts>,
    ingest: Ingest,
    verifier: Verifier,
    cursors: Cursors,
    backups: PathBuf,
}

impl Admin {
    /// Over these parts.
    pub fn new(parts: Parts, options: AdminOptions) -> Self {
        let Parts { registry, blobs, live, books, artifacts } = parts;
        let cursor_key = generation::digest(&options.cursor_key.reveal().into());
        let mut key = [0; 32];
        key.copy_from_slice(&cursor_key.as_bytes()[..32]);
        Self {
            ingest: Ingest::new(blobs.clone(), options.ingest),
            verifier: Verifier::new(artifacts.clone(), options.limits),
            cursors: Cursors::new(key),
            backups: options.backups,
            registry,
            blobs,
            live,
            books,
            artifacts,
        }
    }

    /// Brings uploads into the store.
    pub fn ingest(&self) -> &Ingest {
        &self.ingest
    }

    /// Carries out an action.
    ///
    /// # Errors
    /// [`AdminError`], with a stable code.
    pub async fn run(&self, who: &Principal, action: Action, terms: &Terms) -> Result<Done> {
        let changes = action.changes();
        let trace = changes.then(|| (action.name(), action.target(), action.tenant().map(str::to_owned)));
        let outcome = self.allowed_and_run(who, action, terms).await;
        if let Some((name, target, tenant)) = trace {
            self.note(who, name, target, tenant, terms, &outcome).await;
        }
        outcome
    }

    async fn allowed_and_run(&self, who: &Principal, action: Action, terms: &Terms) -> Result<Done> {
        match action.access() {
            Access::Operator if who.scope < Scope::Operator => return Err(AdminError::forbidden("operator")),
            Access::Tenant if who.scope < Scope::Admin => return Err(AdminError::forbidden("admin")),
            _ => {}
        }
        if action.changes() && terms.idempotency_key.is_some() {
            return self.once(who, action, terms).await;
        }
        self.carry_out(who, action, terms).await
    }

    async fn carry_out(&self, who: &Principal, action: Action, terms: &Terms) -> Result<Done> {
        match action {
            Action::BackboneList => Ok(self.backbones()),
            Action::BackboneShow { name } => self.backbone(&name),
            Action::FunctionList { tenant, page } => self.functions(who, tenant.as_deref(), &page).await,
            Action::FunctionShow { at } => self.function(who, &at).await,
            Action::FunctionPut { at, spec, uploads } => self.register(who, &at, spec, &uploads, terms).await,
            Action::FunctionDryRun { at, spec, uploads } => self.dry_run(who, &at, spec, &uploads).await,
            Action::FunctionDelete { at } => self.remove_function(who, &at, terms).await,
            Action::GenerationList { at, page } => self.generations(who, &at, &page).await,
            Action::GenerationShow { at, generation } => self.generation(who, &at, &generation).await,
            Action::AliasPut { at, alias, spec } => self.put_alias(who, &at, &alias, spec, terms).await,
            Action::AliasDelete { at, alias } => self.remove_alias(who, &at, &alias, terms).await,
            Action::Rollback { at, spec } => self.rollback(who, &at, spec, terms).await,
            Action::Pin { at, spec } => self.pin(who, &at, spec.pinned, terms).await,
            Action::Prewarm { at } => self.prewarm(who, &at).await,
            Action::Sleep { at, spec } => self.sleep(who, &at, spec.level).await,
            Action::Wake { at } => self.wake(who, &at).await,
            Action::Logs { at, after, limit } => self.logs(who, &at, after, limit).await,
            Action::TenantList { page } => self.tenants(&page).await,
            Action::TenantShow { tenant } => self.tenant(who, &tenant).await,
            Action::TenantPut { tenant, spec } => self.put_tenant(&tenant, spec, terms).await,
            Action::TenantDelete { tenant } => self.remove_tenant(&tenant, terms).await,
            Action::KeyList { tenant, page } => self.keys(who, tenant.as_deref(), &page).await,
            Action::KeyCreate { tenant, spec } => self.make_key(who, tenant.as_deref(), spec, terms).await,
            Action::KeyRevoke { tenant, key } => self.revoke_key(who, tenant.as_deref(), &key).await,
            Action::Usage { query } => self.usage(who, query).await,
            Action::Rows { query } => self.rows(who, query).await,
            Action::Residency { tenant } => self.residency(who, tenant.as_deref()).await,
            Action::Overview => self.overview(who).await,
            Action::PolicyShow => Ok(Done::of(Reply::Policy(self.live.policy().await?))),
            Action::PolicyPut { spec } => {
                Ok(Done::of(Reply::Policy(self.live.set_policy(&spec.policy).await?)))
            }
            Action::Drain { spec } => {
                let grace = spec.grace_s.map(Duration::from_secs);
                let report = self.live.drain(grace).await?;
                Ok(Done { accepted: true, ..Done::of(Reply::Data(report)) })
            }
            Action::AuditList { tenant, page } => self.audit(who, tenant.as_deref(), &page).await,
            Action::Backup { spec } => self.backup(&spec.name).await,
            Action::Gc { spec } => self.collect(spec.age_s.map(Duration::from_secs)).await,
            Action::Check => Ok(Done::of(Reply::Data(self.books.check().await?))),
        }
    }

    fn backbones(&self) -> Done {
        Done::of(Reply::Backbones(reply::List::whole(self.live.backbones())))
    }

    fn backbone(&self, name: &str) -> Result<Done> {
        let found = self.live.backbones().into_iter().find(|backbone| backbone.name == name);
        let found = found.ok_or_else(|| AdminError::absent("backbone"))?;
        Ok(Done::of(Reply::Backbone(found)))
    }

    /// A record as it is now.
    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, crate::store::Revision)>> {
        let found = self.registry.get(key, Read::Fresh).await?;
        found.map(|found| Ok((parsed(&found.key, found.value)?, found.revision))).transpose()
    }
}

/// The tenant that an action is for: the caller's own, or, for operators, any.
fn tenant_of(who: &Principal, asked: Option<&str>) -> Result<String> {
    match asked {
        None => Ok(who.tenant.clone()),
        Some(asked) => {
            names::tenant(asked)?;
            match asked == who.tenant || who.scope == Scope::Operator {
                true => Ok(asked.to_owned()),
                false => Err(AdminError::absent("tenant")),
            }
        }
    }
}

/// As [`tenant_of`]; `None` is every tenant, for operators who ask for `*`.
fn tenants_of(who: &Principal, asked: Option<&str>) -> Result<Option<String>> {
    match asked {
        Some(EVERY_TENANT) if who.scope == Scope::Operator => Ok(None),
        Some(EVERY_TENANT) => Err(AdminError::absent("tenant")),
        asked => tenant_of(who, asked).map(Some),
    }
}

/// A record of the registry; one that cannot be read is a fault of the store's contents.
fn parsed<T: DeserializeOwned>(key: &str, value: serde_json::Value) -> Result<T> {
    serde_json::from_value(value).map_err(|error| AdminError::internal(format!("record {key}: {error}")))
}

/// Reads a JSON body; unknown fields, wrong types and depth past the parser's bound are refused.
///
/// # Errors
/// `invalid_request_body`.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let text = error.to_string();
        let problem = format!("the body is not what this route takes: {text}");
        let field = text.split('`').nth(1).map(str::to_owned);
        let refusal = AdminError::new(Kind::Invalid, "invalid_request_body", problem);
        field.map_or(refusal.clone(), |field| refusal.about(field))
    })
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Random bytes of the system, as hexadecimal.
fn random_hex(bytes: usize) -> Result<String> {
    let mut buffer = vec![0; bytes];
    getrandom::fill(&mut buffer)
        .map_err(|error| AdminError::internal(format!("no random numbers: {error}")))?;
    Ok(cursor::hex(&buffer))
}
