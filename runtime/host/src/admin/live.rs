//! What actions need of the rest of the host: the running engine, and the books.
//!
//! Both are traits, so that actions are tested on a real store without an engine, and so that no action can reach past
//! them.

use super::action::{RowsQuery, UsageQuery};
use super::error::{AdminError, Result};
use super::records::{AuditLine, AuditRow, LogRow, UsageRow};
use crate::call::Later;
use crate::records::{Generation, ModuleRecord, Names, Settings};
use crate::store::LocalFile;
use crate::store::Revision;
use coldframe_backbone::adapter::BaseWeights;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A backbone of this server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BackboneInfo {
    /// Its name in the configuration: the base model's id.
    pub name: String,
    /// `llama`, `qwen2`, …
    pub architecture: String,
    /// `ready`, `loading` or `fenced`.
    pub state: String,
    /// Tokens of context.
    pub max_model_len: usize,
    /// Layers.
    pub layers: usize,
    /// Width.
    pub hidden_size: usize,
    /// Tokens known.
    pub vocab_size: usize,
    /// Bytes of weights mapped.
    pub bytes: u64,
    /// SHA-256 of the model's files.
    pub digest: Option<String>,
}

/// A policy in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// All of it, in TOML.
    pub toml: String,
}

/// A backbone's weights, for checking adapters against them.
#[derive(Clone)]
pub struct Base {
    /// Shapes and rows.
    pub weights: Arc<dyn BaseWeights + Send + Sync>,
    /// What adapters may call it, beside the name in its files.
    pub names: Vec<String>,
}

/// What a module is, as the sandbox sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ModuleReport {
    /// Its record.
    pub record: ModuleRecord,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// The running host.
pub trait LiveControl: Send + Sync + 'static {
    /// Backbones of this server.
    fn backbones(&self) -> Vec<BackboneInfo>;
    /// A backbone's weights, brought into place where they are not; `None` where there is none of that name.
    fn base<'a>(&'a self, backbone: &'a str) -> Later<'a, Result<Option<Base>>>;
    /// Checks a module and compiles it ahead.
    fn module<'a>(&'a self, file: &'a LocalFile, settings: &'a Settings) -> Later<'a, Result<ModuleReport>>;
    /// Answers a prompt with a generation that nobody else can see yet.
    fn try_out<'a>(
        &'a self,
        names: &'a Names,
        generation: Arc<Generation>,
        prompt: &'a str,
        max_tokens: u32,
    ) -> Later<'a, Result<String>>;
    /// Returns once calls see the registry at least as of `revision`, or after a short while.
    fn settled(&self, revision: Revision) -> Later<'_, ()>;
    /// Brings a function's artifacts into place; returns when they are.
    fn prewarm<'a>(&'a self, names: &'a Names) -> Later<'a, Result<()>>;
    /// Takes a function's artifacts out: 1 to host memory, 2 to disk.
    fn sleep<'a>(&'a self, names: &'a Names, level: u8) -> Later<'a, Result<()>>;
    /// Ends a function's sleep.
    fn wake<'a>(&'a self, names: &'a Names) -> Later<'a, Result<()>>;
    /// What lies where now; only what concerns `tenant` where one is named.
    fn residency(&self, tenant: Option<&str>) -> Later<'_, Result<serde_json::Value>>;
    /// Lines that a function's code logged on this host, after number `after`, oldest first.
    fn logs(&self, names: &Names, after: u64, limit: usize) -> Vec<LogRow>;
    /// Queue, memory, times and costs, for a dashboard; only what concerns `tenant` where one is named.
    fn overview(&self, tenant: Option<&str>) -> Later<'_, Result<serde_json::Value>>;
    /// The policy in force.
    fn policy(&self) -> Later<'_, Result<Policy>>;
    /// Puts another in force: a preset's name, or TOML.
    fn set_policy<'a>(&'a self, text: &'a str) -> Later<'a, Result<Policy>>;
    /// Stops taking calls; those under way get `grace`.
    fn drain(&self, grace: Option<Duration>) -> Later<'_, Result<serde_json::Value>>;
}

/// What is appended and never changed, and the care of the store.
pub trait Books: Send + Sync + 'static {
    /// Adds a line to the audit log.
    fn note(&self, line: AuditLine) -> Later<'_, crate::store::Result<()>>;
    /// Lines of the audit log before number `before` (newest first); of one tenant, or of all.
    fn audit<'a>(
        &'a self,
        tenant: Option<&'a str>,
        before: Option<u64>,
        limit: usize,
    ) -> Later<'a, crate::store::Result<Vec<AuditRow>>>;
    /// Sums over the ledger.
    fn usage<'a>(&'a self, query: &'a UsageQuery) -> Later<'a, crate::store::Result<Vec<UsageRow>>>;
    /// Rows of the ledger, oldest first.
    fn rows<'a>(
        &'a self,
        query: &'a RowsQuery,
    ) -> Later<'a, crate::store::Result<Vec<crate::meter::LedgerRow>>>;
    /// Copies the store to a folder that is made for it.
    fn backup(&self, folder: PathBuf) -> Later<'_, crate::store::Result<serde_json::Value>>;
    /// Checks the store; what is wrong is in the answer.
    fn check(&self) -> Later<'_, crate::store::Result<serde_json::Value>>;
}

/// The error of something that this server was started without.
pub fn not_here(what: &str) -> AdminError {
    AdminError::new(super::error::Kind::Unprocessable, "not_available", format!("this server has no {what}"))
}
