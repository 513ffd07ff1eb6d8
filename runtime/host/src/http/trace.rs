//! Names of a request: `x-request-id` taken over or made, `traceparent` carried on.

use http::HeaderMap;
use std::fmt;

/// Longest `x-request-id` that is taken over. Arbitrary; UUIDs have 36 characters.
const ID_BYTES_MAX: usize = 128;

/// The client's `x-request-id`, or a new one where it has none or one that could not stand in a log line.
pub fn request_id(headers: &HeaderMap) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/+=-".contains(&byte);
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
    match given {
        Some(id) if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(allowed) => id.to_owned(),
        _ => hex(&random::<16>()),
    }
}

/// A trace and this server's span in it, as W3C Trace Context has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// The caller's span, 16 digits; `None` where the trace starts here.
    pub parent: Option<String>,
    /// This server's span.
    pub span: String,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl Trace {
    /// The trace that the headers name, or a new one.
    pub fn of(headers: &HeaderMap) -> Self {
        let span = hex(&random::<8>());
        let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(parse);
        match given {
            Some((trace, parent, sampled)) => Self { trace, parent: Some(parent), span, sampled },
            None => Self { trace: hex(&random::<16>()), parent: None, span, sampled: false },
        }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

fn parse(value: &str) -> Option<(String, String, bool)> {
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = digits(version, 2) && digits(trace, 32) && digits(span, 16) && digits(flags, 2);
    // Version 00 has four parts exactly; later versions may add some. All zeros mean nothing, version ff is forbidden.
    let known = version != "ff" && (version != "00" || parts.next().is_none());
    let named = trace.bytes().any(|b| b != b'0') && span.bytes().any(|b| b != b'0');
    if !(whole && known && named) {
        return None;
    }
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some((trace.to_owned(), span.to_owned(), sampled))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random numbers");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
