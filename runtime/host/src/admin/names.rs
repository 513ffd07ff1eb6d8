//! Names that callers choose: one small alphabet each, so that no name ever needs escaping.
//!
//! They become parts of keys, paths of routes, labels of metrics and lines of logs; what is outside the alphabet is
//! refused here, once.

use super::error::{AdminError, Result};

/// Bytes of a function's, alias's or adapter's name.
pub const NAME_MAX: usize = 128;

/// Checks a tenant's name: `[a-z0-9-]{1,32}`.
///
/// # Errors
/// `invalid_request`.
pub fn tenant(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    check("tenant", name, name.len() <= 32 && name.chars().all(plain), "1 to 32 of a-z, 0-9 and -")
}

/// Checks a function's name: `[A-Za-z0-9._-]{1,128}`, not beginning with a dot.
///
/// # Errors
/// `invalid_request`.
pub fn function(name: &str) -> Result<()> {
    word("function", name)
}

/// Checks an alias.
///
/// # Errors
/// `invalid_request`.
pub fn alias(name: &str) -> Result<()> {
    word("alias", name)?;
    // `function@…` takes either; a name that looks like an id would hide one.
    let hexadecimal = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    check("alias", name, !hexadecimal, "no 64 hexadecimal digits: those name generations")
}

/// Checks the name of an adapter inside its function.
///
/// # Errors
/// `invalid_request`.
pub fn adapter(name: &str) -> Result<()> {
    word("adapters.name", name)
}

/// Checks the public part of a key.
///
/// # Errors
/// `invalid_request`.
pub fn key(name: &str) -> Result<()> {
    word("key", name)
}

/// Checks a SHA-256 in lower-case hexadecimal.
///
/// # Errors
/// `invalid_request`.
pub fn digest(param: &str, text: &str) -> Result<()> {
    let plain = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    check(param, text, text.len() == 64 && text.bytes().all(plain), "64 lower-case hexadecimal digits")
}

fn word(param: &str, name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = name.len() <= NAME_MAX && !name.starts_with('.') && name.chars().all(plain);
    check(param, name, good, "1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`, not beginning with a dot")
}

fn check(param: &str, text: &str, good: bool, form: &str) -> Result<()> {
    if good && !text.is_empty() {
        return Ok(());
    }
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    Err(AdminError::invalid(param, format!("`{shown}` is not a name of this kind: give {form}")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn names() {
        for good in ["a", "Pirate-2.1_x", "0"] {
            assert!(super::function(good).is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", "..%2f", "a/b", "a\0", "a b", "é", "a\r\nb", &"x".repeat(129), "a@b", "a:b"]
        {
            assert!(super::function(bad).is_err(), "{bad:?}");
        }
        assert!(super::tenant("acme-1").is_ok() && super::tenant("Acme").is_err());
        assert!(super::digest("d", &"a".repeat(64)).is_ok() && super::digest("d", &"A".repeat(64)).is_err());
    }
}
