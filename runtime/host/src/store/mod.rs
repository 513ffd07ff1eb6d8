//! Where what is acknowledged is kept: four small traits, so that no host code assumes one machine.
//!
//! [`Registry`] holds records and changes them by compare-and-swap, [`Blobs`] holds bytes by SHA-256, [`Jobs`] is a
//! queue with leases, [`Fleet`] tells who is there. Errors are of three kinds only: nothing happened, it may have
//! happened, it cannot be tried now. No request path writes to the registry; reads are served from a snapshot.
//! Beside the four stand [`Journal`] (what happened) and [`StateStore`] (what functions keep).
//!
//! [`Store`] is all of them on one machine: SQLite and files in one folder. [`memory`] is the same in memory, [`flaky`]
//! makes any of them answer [`StoreError::Unknown`] at random.

pub mod clock;
pub mod files;
pub mod flaky;
pub mod fleet;
mod hub;
pub mod journal;
pub mod ledger;
mod local;
pub mod memory;
mod open;
mod rules;
mod sqlite;
pub mod state;

pub use journal::Journal;
pub use local::{Checked, Collected, Store};
pub use open::OpenError;
pub use rules::{ATTEMPTS_MAX, IDEMPOTENCY_BYTES_MAX, VALUE_BYTES_MAX};
pub(crate) use rules::{hex, is_digest};
pub use state::StateStore;

use crate::call::Later;
use crate::records::Digest;
use std::path::PathBuf;
use std::time::Duration;

/// Why an operation of a store failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing happened: the expectation did not hold, the input is wrong, the limit is reached.
    #[error("{0}")]
    Rejected(Rejected),
    /// It may have happened: time-out, connection lost. Repeat with the same idempotency key.
    #[error("it is not known whether this was stored: {0}")]
    Unknown(String),
    /// It cannot be tried now (disk full, read-only, no leader).
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// Why nothing happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The record is at another revision, or is there, or is not.
    #[error("{key} changed meanwhile (it is at revision {found:?})")]
    Conflict {
        /// Which.
        key: String,
        /// Its revision; `None` where it is absent.
        found: Option<Revision>,
    },
    /// The idempotency key was used for something else.
    #[error("the idempotency key was used for another change")]
    IdempotencyReused,
    /// Bytes past a limit.
    #[error("more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The bytes do not have the digest that was promised.
    #[error("the bytes have SHA-256 {found}, not {wanted}")]
    WrongDigest {
        /// Promised.
        wanted: Digest,
        /// Measured.
        found: Digest,
    },
    /// A lease was lost to another.
    #[error("the lease is no longer held")]
    LeaseLost,
    /// Not there.
    #[error("{0} is not there")]
    Absent(String),
    /// A key, queue or value that the store does not take.
    #[error("{0}")]
    Invalid(String),
}

/// Result of a store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// A revision: grows with every change of the registry.
pub type Revision = u64;

/// Name of a record: words of `[A-Za-z0-9._-]{1,128}` with `/` between them, such as `function/acme/pirate`.
pub type Key = String;

/// A record as read.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// Its name.
    pub key: Key,
    /// JSON.
    pub value: serde_json::Value,
    /// The revision of its last change.
    pub revision: Revision,
}

/// How fresh a read must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Linearizable.
    Fresh,
    /// At least as new as this revision.
    AtLeast(Revision),
    /// What this process has.
    Snapshot,
}

/// What a write expects to find; there is no blind write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// No record.
    Absent,
    /// The record at this revision.
    At(Revision),
}

/// Names one change, so that a repeat has no second effect and returns the first result: 1 to 128 visible characters.
/// What is expected is not part of the change: a repeat may have read again.
pub type IdempotencyKey = String;

/// A change as watched.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Set.
    Put(Versioned),
    /// Removed.
    Deleted {
        /// Which.
        key: Key,
        /// The revision of the removal.
        revision: Revision,
    },
    /// Changes were missed: list again. Never a silent gap.
    Lagged,
}

/// Records by name.
pub trait Registry: Send + Sync + 'static {
    /// A record.
    fn get<'a>(&'a self, key: &'a str, read: Read) -> Later<'a, Result<Option<Versioned>>>;
    /// Records whose names start with `prefix`, in order of name, after `after`, at most `limit`.
    fn list<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> Later<'a, Result<Vec<Versioned>>>;
    /// Sets a record.
    fn put<'a>(
        &'a self,
        key: &'a str,
        value: serde_json::Value,
        expect: Expect,
        idem: &'a str,
    ) -> Later<'a, Result<Revision>>;
    /// Removes a record.
    fn delete<'a>(&'a self, key: &'a str, expect: Revision, idem: &'a str) -> Later<'a, Result<Revision>>;
    /// The revision of the last change. Read it, watch from it, then list: nothing is missed.
    fn revision(&self) -> Later<'_, Result<Revision>>;
    /// Changes of records whose names start with `prefix`, after revision `from`, in order. Of several changes of one
    /// record that lie in the past, the last may stand for all.
    fn watch<'a>(
        &'a self,
        prefix: &'a str,
        from: Revision,
    ) -> Later<'a, Result<tokio::sync::mpsc::Receiver<Change>>>;
}

/// A blob on this machine's disk: whole, checked, read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: Digest,
}

/// A source of bytes for a blob.
pub type Source = std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>>;

/// Bytes by SHA-256.
pub trait Blobs: Send + Sync + 'static {
    /// Stores bytes; they are durable and whole when this returns. At most `limit`; `wanted` refuses any other digest.
    fn put<'a>(&'a self, source: Source, limit: u64, wanted: Option<&'a str>)
    -> Later<'a, Result<LocalFile>>;
    /// A blob on the local disk; its bytes are checked when they come from afar and when `verify` asks for it.
    fn open<'a>(&'a self, digest: &'a str, verify: bool) -> Later<'a, Result<LocalFile>>;
    /// Removes blobs that are not in `keep` and were stored longer ago than `age`. Returns their digests.
    fn delete_unreferenced<'a>(&'a self, keep: &'a [Digest], age: Duration)
    -> Later<'a, Result<Vec<Digest>>>;
    /// Bytes and number of all blobs.
    fn usage(&self) -> Later<'_, Result<(u64, u64)>>;
}

/// A piece of work in a queue.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Its number in its queue.
    pub id: u64,
    /// What to do.
    pub payload: serde_json::Value,
    /// How often it was leased.
    pub attempts: u32,
}

/// A job held for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct Leased {
    /// The job.
    pub job: Job,
    /// Its queue.
    pub queue: String,
    /// Grows with every lease of the job: an older holder's `ack` is refused.
    pub token: u64,
}

/// Queues with leases; at least once, never exactly once.
pub trait Jobs: Send + Sync + 'static {
    /// Adds a job. Returns its number.
    fn enqueue<'a>(
        &'a self,
        queue: &'a str,
        payload: serde_json::Value,
        idem: &'a str,
    ) -> Later<'a, Result<u64>>;
    /// Takes up to `n` jobs for `ttl`.
    fn lease<'a>(&'a self, queue: &'a str, n: usize, ttl: Duration) -> Later<'a, Result<Vec<Leased>>>;
    /// Holds a job longer.
    fn extend<'a>(&'a self, leased: &'a Leased, ttl: Duration) -> Later<'a, Result<()>>;
    /// A job is done.
    fn ack<'a>(&'a self, leased: &'a Leased) -> Later<'a, Result<()>>;
    /// A job failed; it comes again after a while, or is dead after its last attempt.
    fn nack<'a>(&'a self, leased: &'a Leased, after: Duration) -> Later<'a, Result<()>>;
    /// Jobs that will not be tried again.
    fn dead<'a>(&'a self, queue: &'a str) -> Later<'a, Result<Vec<Job>>>;
}

/// A host of the fleet.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NodeInfo {
    /// Its name.
    pub node: String,
    /// Where its API answers.
    pub address: String,
    /// Generations whose adapters are in its device memory.
    pub resident: Vec<Digest>,
    /// Calls at work.
    pub load: u32,
}

/// Who is there.
pub trait Fleet: Send + Sync + 'static {
    /// Tells others of this host; repeated before `ttl` passes.
    fn announce(&self, me: NodeInfo, ttl: Duration) -> Later<'_, Result<()>>;
    /// Hosts that are there now.
    fn members(&self) -> tokio::sync::watch::Receiver<Vec<NodeInfo>>;
    /// Asks a host for something (JSON in, JSON out).
    fn call<'a>(&'a self, node: &'a str, request: serde_json::Value) -> Later<'a, Result<serde_json::Value>>;
}
