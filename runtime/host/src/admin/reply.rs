//! What actions answer with, as they go out: typed, and one enum.

use super::live::{BackboneInfo, Policy};
use super::records::{AuditRow, LogRow, UsageRow};
use crate::records::{ApiKey, Digest, Function, Generation, Scope, Target, Tenant};
use crate::store::Revision;
use serde::Serialize;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct List<T> {
    /// Always `list`.
    pub object: &'static str,
    /// Entries.
    pub data: Vec<T>,
    /// Cursor of the next page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> List<T> {
    /// A whole list.
    pub fn whole(data: Vec<T>) -> Self {
        Self { object: "list", data, next: None }
    }
}

/// An answer that is no JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct File {
    /// Its media type.
    pub media: &'static str,
    /// Its bytes.
    #[serde(skip)]
    pub bytes: bytes::Bytes,
}

/// A function as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionView {
    /// Always `function`.
    pub object: &'static str,
    /// The record.
    #[serde(flatten)]
    pub function: Function,
    /// The record's revision: its ETag.
    pub revision: Revision,
}

/// A function in a list: without its generations.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FunctionLine {
    /// Whose.
    pub tenant: String,
    /// Its name.
    pub function: String,
    /// The backbone of its live generation.
    pub backbone: String,
    /// Where `live` points.
    pub live: Vec<Target>,
    /// How many generations it has.
    pub generations: usize,
    /// Whether its live generation has code.
    pub code: bool,
    /// Never evicted.
    pub pinned: bool,
    /// Milliseconds since 1970.
    pub updated_ms: u64,
    /// The record's revision.
    pub revision: Revision,
}

/// A registration's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deployed {
    /// Always `function`.
    pub object: &'static str,
    /// Whose.
    pub tenant: String,
    /// Its name.
    pub function: String,
    /// The generation that the request describes.
    pub generation: Digest,
    /// The alias that points at it now.
    pub alias: String,
    /// Whether anything changed.
    pub changed: bool,
    /// What a person should look at.
    pub warnings: Vec<String>,
    /// Where `live` points.
    pub live: Vec<Target>,
    /// The record's revision: its ETag.
    pub revision: Revision,
}

/// A dry run's answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryRunView {
    /// Whether the registration would work.
    pub fits: bool,
    /// The generation that it would have.
    pub generation: Option<Digest>,
    /// Bytes of all adapters and the module on disk.
    pub disk_bytes: u64,
    /// Bytes of all adapters in memory.
    pub memory_bytes: u64,
    /// What stands in the way.
    pub problems: Vec<ProblemView>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProblemView {
    /// A stable word.
    pub code: String,
    /// In words.
    pub message: String,
    /// The field, file or tensor.
    pub place: Option<String>,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TenantView {
    /// The record.
    #[serde(flatten)]
    pub tenant: Tenant,
    /// The record's revision: its ETag.
    pub revision: Revision,
}

/// A key without its secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KeyView {
    /// Public part.
    pub id: String,
    /// Whose.
    pub tenant: String,
    /// What it may do.
    pub scope: Scope,
    /// For people.
    pub note: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// Milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        let ApiKey { id, tenant, scope, note, created_ms, expires_ms, .. } = key;
        Self { id, tenant, scope, note, created_ms, expires_ms }
    }
}

/// A new key with its secret.
#[derive(Clone, PartialEq, Serialize)]
pub struct KeyMade {
    /// The key.
    #[serde(flatten)]
    pub key: KeyView,
    /// What the caller presents: shown this once, kept nowhere.
    pub secret: String,
}

impl std::fmt::Debug for KeyMade {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyMade").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Something was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// What it was.
    pub object: &'static str,
    /// Its name.
    pub id: String,
    /// Always true.
    pub deleted: bool,
}

/// A collection's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Blobs removed.
    pub blobs_removed: usize,
    /// Blobs kept.
    pub blobs_kept: u64,
    /// Bytes kept.
    pub bytes_kept: u64,
    /// Folders of adapters that were made of removed blobs.
    pub folders_removed: usize,
    /// Remembered Idempotency-Keys that were old enough to forget.
    pub idempotency_keys_removed: usize,
}

/// What an action answers with.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "variants are named after what they hold; the types are documented")]
pub enum Reply {
    Backbones(List<BackboneInfo>),
    Backbone(BackboneInfo),
    Functions(List<FunctionLine>),
    Function(Box<FunctionView>),
    Deployed(Deployed),
    DryRun(DryRunView),
    Generations(List<Generation>),
    Generation(Box<Generation>),
    Tenants(List<TenantView>),
    Tenant(TenantView),
    Keys(List<KeyView>),
    KeyMade(KeyMade),
    Removed(Removed),
    Logs(List<LogRow>),
    Usage(List<UsageRow>),
    Audit(List<AuditRow>),
    Policy(Policy),
    Collected(Collected),
    /// A file.
    File(File),
    /// Snapshots and reports of other parts, as they make them; and answers given again.
    Data(serde_json::Value),
}

/// An action carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// The answer.
    pub reply: Reply,
    /// The revision of the record it is about.
    pub revision: Option<Revision>,
    /// Whether something new came to be.
    pub made: bool,
    /// The work goes on after the answer.
    pub accepted: bool,
}

impl Done {
    /// An answer that is about no record.
    pub fn of(reply: Reply) -> Self {
        Self { reply, revision: None, made: false, accepted: false }
    }

    /// With the revision of its record.
    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }
}
