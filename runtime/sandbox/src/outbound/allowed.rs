//! The hosts of a manifest's `allowed_outbound_hosts`, and a URL that was found among them.

use super::Refusal;
use crate::error::Error;
use http::HeaderValue;
use std::sync::Arc;
use url::{Host, Url};

/// Longest URL.
const URL_BYTES_MAX: usize = 8 << 10;

/// Hosts that may be called; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    patterns: Arc<[Pattern]>,
}

#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    scheme: String,
    /// The name, or what follows the star.
    host: String,
    /// `*.example.com`: any name below, not the name itself.
    is_below: bool,
    /// `None` is any port.
    port: Option<u16>,
}

impl Allowed {
    /// Reads patterns: `https://api.example.com`, `http://10.0.0.1:8080`, `https://*.example.com`, `https://example.com:*`.
    ///
    /// A star stands for one or more whole labels at the front of the name, or for any port. A missing port is the scheme's own.
    /// Naming an address of a private network allows the name, not the address: those are never connected to.
    ///
    /// # Errors
    /// A pattern cannot be read, or allows every host.
    pub fn parse<T: AsRef<str>>(patterns: &[T]) -> Result<Self, Error> {
        let patterns: Result<Vec<_>, _> = patterns.iter().map(|pattern| parse(pattern.as_ref())).collect();
        Ok(Self { patterns: patterns?.into() })
    }

    /// No host is allowed.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Reads a URL and looks whether its host is allowed.
    ///
    /// # Errors
    /// [`Refusal::Url`] or [`Refusal::NotAllowed`].
    pub fn target(&self, url: &str) -> Result<Target, Refusal> {
        let target = Target::parse(url)?;
        match self.patterns.iter().any(|pattern| pattern.matches(&target)) {
            true => Ok(target),
            false => Err(Refusal::NotAllowed { origin: target.origin() }),
        }
    }
}

impl Pattern {
    fn matches(&self, target: &Target) -> bool {
        let name = target.host();
        let below =
            || name.strip_suffix(&self.host).is_some_and(|front| front.len() > 1 && front.ends_with('.'));
        let host = if self.is_below { below() } else { name == self.host };
        host && self.scheme == target.url.scheme() && self.port.is_none_or(|port| port == target.port())
    }
}

fn parse(pattern: &str) -> Result<Pattern, Error> {
    let wrong = |why: &str| Error::Pattern { pattern: pattern.to_owned(), why: why.to_owned() };
    let (any_port, rest) = match pattern.strip_suffix(":*") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (scheme, host) = rest.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
    let (is_below, host) = match host.strip_prefix("*.") {
        Some(host) => (true, host),
        None => (false, host),
    };
    if host.contains('*') {
        return Err(wrong("a star may stand for the front of a name or for the port"));
    }
    let target =
        Target::parse(&format!("{scheme}://{host}")).map_err(|refusal| wrong(&refusal.to_string()))?;
    if target.path() != "/" {
        return Err(wrong("it has a path"));
    }
    if is_below && (!matches!(target.url.host(), Some(Host::Domain(_))) || !target.host().contains('.')) {
        return Err(wrong("a star needs a name of at least two labels after it"));
    }
    let port = if any_port { None } else { Some(target.port()) };
    Ok(Pattern { scheme: scheme.to_ascii_lowercase(), host: target.host().to_owned(), is_below, port })
}

/// A URL that was read once.
#[derive(Debug, Clone)]
pub struct Target {
    url: Url,
}

impl Target {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::Url(why.to_owned());
        if text.len() > URL_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let url = Url::parse(text).map_err(|error| Refusal::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("only http and https are called"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it names a user"));
        }
        match url.host_str() {
            Some(host) if !host.is_empty() => Ok(Self { url }),
            _ => Err(wrong("it has no host")),
        }
    }

    /// The host in its normal form: lower case, addresses as numbers.
    pub fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default().trim_end_matches('.')
    }

    /// The host as an address, where the URL has one instead of a name.
    pub(super) fn address(&self) -> Option<std::net::IpAddr> {
        match self.url.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// The port, the scheme's own where the URL has none.
    pub fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Path and query.
    pub fn path(&self) -> &str {
        &self.url[url::Position::BeforePath..url::Position::AfterQuery]
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("{}://{}:{}", self.url.scheme(), self.host(), self.port())
    }

    /// The `Host` header.
    pub(crate) fn host_header(&self) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
        match self.url.port() {
            Some(port) => HeaderValue::from_str(&format!("{}:{port}", self.host())),
            None => HeaderValue::from_str(self.host()),
        }
    }
}
