//! The way out: which hosts a function may call, and that no name leads to an address inside.
//!
//! One parser reads a URL; what it found is matched, resolved once, checked and connected to. Nothing reads the URL again, so
//! nothing can read it differently, and nothing resolves the name again, so a second answer cannot lead elsewhere. Redirects are
//! never followed: a function that wants to sends a second request, which is looked at like the first.

mod address;
mod allowed;
mod exchange;

pub use address::is_global;
pub use allowed::{Allowed, Target};
pub use exchange::{Driver, Outbound, Resolver};

use std::net::IpAddr;

/// Why a request does not go out, or nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The URL cannot be read, or has a user in it, or is no `http` or `https`.
    #[error("the URL is refused: {0}")]
    Url(String),
    /// The manifest does not name the host.
    #[error(
        "`{origin}` is not among the function's allowed hosts; add it to `allowed_outbound_hosts` of the manifest"
    )]
    NotAllowed {
        /// Scheme, host and port.
        origin: String,
    },
    /// The name leads to an address that is not of the public internet.
    #[error("`{host}` leads to {address}, which is not an address of the public internet")]
    Address {
        /// The name.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// The name leads nowhere.
    #[error("the name `{host}` could not be resolved")]
    Resolve {
        /// The name.
        host: String,
    },
    /// Nobody answers there.
    #[error("`{host}` could not be connected to")]
    Connect {
        /// The name.
        host: String,
    },
    /// It is not who it should be.
    #[error("`{host}` did not pass the check of its certificate")]
    Tls {
        /// The name.
        host: String,
    },
    /// It answered something that is no HTTP, or not at all.
    #[error("`{host}` broke off")]
    Exchange {
        /// The name.
        host: String,
    },
    /// It took too long.
    #[error("the other side took too long")]
    Timeout,
}

impl Refusal {
    /// A stable word, for the guest.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Url(_) => "invalid",
            Self::NotAllowed { .. } => "not_allowed",
            Self::Address { .. } => "forbidden_address",
            Self::Resolve { .. } | Self::Connect { .. } | Self::Exchange { .. } => "unavailable",
            Self::Tls { .. } => "tls",
            Self::Timeout => "timeout",
        }
    }
}
