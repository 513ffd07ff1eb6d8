//! Addresses of the web: just enough of RFC 3986 to follow redirects, join links and print without credentials.
//!
//! It percent-decodes nothing and knows http and https only.

use crate::error::{Error, Result};
use std::fmt;

/// An http or https address.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Whether it is https.
    secure: bool,
    /// `user:password`, as written.
    credentials: Option<String>,
    /// `host` or `host:port`.
    host: String,
    /// Path with query, opening with `/`; the fragment is gone.
    path: String,
}

impl Address {
    /// Reads an address.
    ///
    /// # Errors
    /// [`Error::Network`] where it is neither http nor https, or holds spaces or control characters.
    pub fn parse(text: &str) -> Result<Self> {
        let shown = text.rsplit('@').next().unwrap_or_default();
        let wrong = |problem: &str| Error::Network { address: shown.to_owned(), problem: problem.to_owned() };
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("an address holds no spaces; write them as %20"));
        }
        let (secure, rest) = if let Some(rest) = text.strip_prefix("https://") {
            (true, rest)
        } else if let Some(rest) = text.strip_prefix("http://") {
            (false, rest)
        } else {
            return Err(wrong("an address starts with https:// (or http://)"));
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let split = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(split);
        let (credentials, host) = match authority.rsplit_once('@') {
            Some((credentials, host)) => (Some(credentials.to_owned()), host),
            None => (None, authority),
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { secure, credentials, host: host.to_ascii_lowercase(), path })
    }

    /// The address that `link`, found at this one, leads to. Credentials stay on the same host only.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn join(&self, link: &str) -> Result<Self> {
        let scheme = if self.secure { "https:" } else { "http:" };
        let mut joined = if link.contains("://") {
            Self::parse(link)?
        } else if link.starts_with("//") {
            Self::parse(&format!("{scheme}{link}"))?
        } else {
            let folder =
                self.path.split('?').next().unwrap_or_default().rsplit_once('/').map_or("", |(f, _)| f);
            let path = if link.starts_with('/') { link.to_owned() } else { format!("{folder}/{link}") };
            Self::parse(&format!("{scheme}//{}{}", self.host, flat(&path)))?
        };
        if joined.host == self.host && joined.credentials.is_none() && joined.secure >= self.secure {
            joined.credentials.clone_from(&self.credentials);
        }
        Ok(joined)
    }

    /// Whether it is https.
    pub fn secure(&self) -> bool {
        self.secure
    }

    /// Host with port, if one is written.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Path with query.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether the host is this machine.
    pub fn loopback(&self) -> bool {
        let host = match self.host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.host.split(':').next().unwrap_or_default(),
        };
        let ip = host.parse::<std::net::IpAddr>();
        host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    }

    /// The value of an `Authorization` header for the credentials in the address, if it has some.
    pub fn basic(&self) -> Option<String> {
        let credentials = percent_decoded(self.credentials.as_deref()?);
        Some(format!("Basic {}", base64(&credentials)))
    }

    /// The last part of the path, without the query; empty where the path ends in a slash.
    pub fn file_name(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.rsplit('/').next().unwrap_or_default()
    }
}

/// Without credentials and without the query, which may hold a signature.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.host, self.path.split('?').next().unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A path without `.` and `..`; the query is left as it is.
fn flat(path: &str) -> String {
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("/{}{query}", parts.join("/"))
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => (out.push(byte), at += 3).1,
            None => (out.push(bytes[at]), at += 1).1,
        }
    }
    out
}

/// A path with everything but letters, digits, `-._~/` percent-encoded.
pub fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word = three.iter().enumerate().fold(0_u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            out.push(if place <= three.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Address {
        Address::parse(text).expect("an address")
    }

    #[test]
    fn links_join() {
        let base = at("https://user:p%40ss@pypi.example/simple/name/?x=1");
        for (link, expected) in [
            ("../../packages/a.whl#sha256=00", "https://pypi.example/packages/a.whl"),
            ("/packages/a.whl", "https://pypi.example/packages/a.whl"),
            ("a.whl", "https://pypi.example/simple/name/a.whl"),
            ("//other.example/a", "https://other.example/a"),
            ("http://other.example:8080", "http://other.example:8080/"),
        ] {
            assert_eq!(base.join(link).expect("joins").to_string(), expected);
        }
        assert_eq!(base.basic().as_deref(), Some("Basic dXNlcjpwQHNz"));
        assert_eq!(base.join("/x").expect("joins").basic(), base.basic(), "same host");
        assert_eq!(base.join("https://evil.example/x").expect("joins").basic(), None, "another host");
        assert_eq!(base.join("http://pypi.example/x").expect("joins").basic(), None, "in the clear");
        assert!(!format!("{base} {base:?}").contains("ss@"), "credentials are never printed");
    }

    #[test]
    fn loopback_is_this_machine_only() {
        for (text, expected) in [
            ("http://127.0.0.1:8080/x", true),
            ("http://[::1]:80/x", true),
            ("http://localhost/x", true),
            ("http://localhost.evil.example/x", false),
            ("http://127.0.0.1.evil.example/x", false),
            ("http://10.0.0.1/x", false),
        ] {
            assert_eq!(at(text).loopback(), expected, "{text}");
        }
        for bad in ["ftp://x/y", "https:///x", "https://a b/", "x"] {
            Address::parse(bad).expect_err(bad);
        }
    }
}
