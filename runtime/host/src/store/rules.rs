//! What every back end takes and refuses: names, sizes, and when two changes are the same change.
//!
//! One place, so that a record accepted by one back end is accepted by all. It stores nothing.

use super::{Rejected, Result, StoreError};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Longest value of a record, bytes of JSON; what one message of the clustered back end may carry.
pub const VALUE_BYTES_MAX: u64 = 1 << 20;
/// Longest idempotency key.
pub const IDEMPOTENCY_BYTES_MAX: usize = 128;
/// Times a job is tried before it is dead.
pub const ATTEMPTS_MAX: u32 = 4;
/// Changes that stay readable for watchers; who is further behind lists again. Arbitrary: minutes of heavy change.
pub(super) const HISTORY: u64 = 10_000;
/// Days an idempotency key is remembered. Arbitrary: longer than any client keeps trying.
pub(super) const IDEMPOTENCY_DAYS: u64 = 7;
/// Longest word of a key.
const WORD_BYTES_MAX: usize = 128;
/// Longest key.
const KEY_BYTES_MAX: usize = 512;

fn invalid<T>(problem: String) -> Result<T> {
    Err(StoreError::Rejected(Rejected::Invalid(problem)))
}

fn is_word(word: &str) -> bool {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=WORD_BYTES_MAX).contains(&word.len()) && word.bytes().all(taken) && word != "." && word != ".."
}

/// Refuses what is no name of a record.
pub(super) fn check_key(key: &str) -> Result<()> {
    if key.len() <= KEY_BYTES_MAX && key.split('/').all(is_word) {
        return Ok(());
    }
    invalid(format!("{key:?} is no record's name: use words of A-Z a-z 0-9 . _ - with / between them"))
}

/// Refuses what no name of a record can start with.
pub(super) fn check_prefix(prefix: &str) -> Result<()> {
    let taken = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    if prefix.len() <= KEY_BYTES_MAX && prefix.bytes().all(taken) {
        return Ok(());
    }
    invalid(format!("no record's name starts with {prefix:?}"))
}

/// Refuses what is no name of a queue.
pub(super) fn check_queue(queue: &str) -> Result<()> {
    if is_word(queue) {
        return Ok(());
    }
    invalid(format!("{queue:?} is no queue's name: use A-Z a-z 0-9 . _ -"))
}

/// Refuses an idempotency key that could not be shown in a log.
pub(super) fn check_idempotency(key: &str) -> Result<()> {
    if (1..=IDEMPOTENCY_BYTES_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    invalid("an idempotency key has 1 to 128 visible characters".to_owned())
}

/// A value as it is stored; refuses one that is too long.
pub(super) fn to_text(value: &Value) -> Result<String> {
    let text = value.to_string();
    if text.len() as u64 > VALUE_BYTES_MAX {
        return Err(StoreError::Rejected(Rejected::TooLarge { limit: VALUE_BYTES_MAX }));
    }
    Ok(text)
}

/// The first string after every string that starts with `prefix`; record names are ASCII.
pub(super) fn after_prefix(prefix: &str) -> String {
    let mut bytes = prefix.as_bytes().to_owned();
    match bytes.last_mut() {
        Some(last) => *last += 1,
        None => bytes.push(0x7f),
    }
    String::from_utf8(bytes).expect("an ASCII character below 0x7f has a successor in ASCII")
}

/// Tells one change from another: SHA-256 over its parts, each with its length.
pub(super) fn fingerprint(parts: &[&str]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().into()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes every write");
        text
    })
}

/// Whether this is a SHA-256 in lower-case hexadecimal.
pub(crate) fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) fn check_digest(text: &str) -> Result<()> {
    if is_digest(text) {
        return Ok(());
    }
    invalid(format!("{text:?} is no SHA-256: use 64 lower-case hexadecimal digits"))
}
