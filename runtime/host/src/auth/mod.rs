//! Who asks, and what they may do: keys, principals, scopes.
//!
//! A key reads `cf_<id>_<secret>`; the id finds the record, the secret's SHA-256 is compared in constant time. Secrets
//! redact themselves when printed. [`limiter`] slows whoever guesses. Nothing here knows HTTP or the store; the
//! [`catalog`](crate::catalog) holds the keys.

pub mod limiter;

use crate::records::{ApiKey, Scope};
use crate::store::{hex, is_digest};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq as _;

/// Every key starts so, so that scanners for leaked secrets can know it.
const PREFIX: &str = "cf_";
/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;
/// Random bytes of an id.
const ID_BYTES: usize = 8;
/// Shortest key that an operator may choose. Arbitrary: out of reach of guessing through the limiter.
const CHOSEN_CHARACTERS_MIN: usize = 16;
/// Longest key that is looked at.
const KEY_BYTES_MAX: usize = 512;
/// Name of the key that the operator gave at start.
pub const BOOTSTRAP_KEY: &str = "bootstrap";

/// Something that must not be printed; its debug form says only that.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("[secret]")
    }
}

/// Who asks, as far as a key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Whose functions they mean by a bare name.
    pub tenant: String,
    /// What they may do.
    pub scope: Scope,
    /// The key's public id, for logs and the audit.
    pub key: String,
}

impl Principal {
    /// Whether they may do what takes `scope` on what belongs to `tenant`. What is refused for the tenant's sake is
    /// answered as if it were not there.
    pub fn may(&self, scope: Scope, tenant: &str) -> bool {
        self.scope == Scope::Operator
            || (self.scope >= scope && scope != Scope::Operator && self.tenant == tenant)
    }
}

/// Why a key is refused; a client is told the same for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No key, or none of ours.
    #[error("the API key is not known: check it, or ask the operator for one")]
    Unknown,
    /// Past its time.
    #[error("the API key has expired: ask for a new one")]
    Expired,
}

/// SHA-256 of a secret, as records keep it.
pub fn secret_sha256(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// The public id and the secret of a presented key; `None` where it has another form.
pub fn split(presented: &str) -> Option<(&str, &str)> {
    if presented.len() > KEY_BYTES_MAX {
        return None;
    }
    let (id, secret) = presented.strip_prefix(PREFIX)?.split_once('_')?;
    let word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (word(id) && word(secret)).then_some((id, secret))
}

/// Whether a secret is the one that was hashed. Takes the same time for every wrong one.
pub fn is_secret(presented: &str, sha256: &str) -> bool {
    secret_sha256(presented).as_bytes().ct_eq(sha256.as_bytes()).into() && is_digest(sha256)
}

/// What a new key is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyOrder {
    /// Whose.
    pub tenant: String,
    /// What it may do.
    pub scope: Scope,
    /// For people.
    pub note: String,
    /// Milliseconds since 1970; past it the key is refused.
    pub expires_ms: Option<u64>,
}

/// Makes a key: the record to keep, and the text to show once.
///
/// # Errors
/// The machine has no randomness.
pub fn issue(order: KeyOrder, now_ms: u64) -> Result<(ApiKey, Secret), getrandom::Error> {
    let (mut id, mut secret) = ([0; ID_BYTES], [0; SECRET_BYTES]);
    getrandom::fill(&mut id)?;
    getrandom::fill(&mut secret)?;
    let (id, secret) = (hex(&id), hex(&secret));
    let text = Secret::new(format!("{PREFIX}{id}_{secret}"));
    let KeyOrder { tenant, scope, note, expires_ms } = order;
    let secret_sha256 = secret_sha256(&secret);
    Ok((ApiKey { id, tenant, scope, secret_sha256, note, created_ms: now_ms, expires_ms }, text))
}

/// The operator's own key, given at start and never stored; any text that is long enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    sha256: String,
}

/// Why an operator's key is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// Too easy to guess.
    #[error("the operator's key has fewer than {CHOSEN_CHARACTERS_MIN} characters: choose a longer one")]
    Short,
    /// Others can read it.
    #[error("{} can be read by others: run `chmod 600 {}`", .0.display(), .0.display())]
    Open(PathBuf),
    /// It could not be read.
    #[error("{}: {problem}", path.display())]
    Unread {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
}

impl Bootstrap {
    /// From a text, such as an environment variable.
    ///
    /// # Errors
    /// It is too short.
    pub fn from_text(text: &str) -> Result<Self, BootstrapError> {
        let text = text.trim();
        if text.chars().count() < CHOSEN_CHARACTERS_MIN {
            return Err(BootstrapError::Short);
        }
        Ok(Self { sha256: secret_sha256(text) })
    }

    /// From a file that nobody else can read.
    ///
    /// # Errors
    /// Others can read it, it cannot be read, the key is too short.
    pub fn from_file(path: &Path) -> Result<Self, BootstrapError> {
        let unread = |problem: std::io::Error| BootstrapError::Unread {
            path: path.to_owned(),
            problem: problem.to_string(),
        };
        let open = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        let file = open.map_err(unread)?;
        if file.metadata().map_err(unread)?.permissions().mode() & 0o077 != 0 {
            return Err(BootstrapError::Open(path.to_owned()));
        }
        let mut text = String::new();
        file.take(KEY_BYTES_MAX as u64).read_to_string(&mut text).map_err(unread)?;
        Self::from_text(&text)
    }

    /// The operator, where this is the key.
    pub fn identify(&self, presented: &str) -> Option<Principal> {
        let known = presented.len() <= KEY_BYTES_MAX && is_secret(presented, &self.sha256);
        known.then(|| Principal {
            tenant: "default".to_owned(),
            scope: Scope::Operator,
            key: BOOTSTRAP_KEY.to_owned(),
        })
    }
}
