//! Who asks, and whether that is enough for the route.
//!
//! A secret comes as `Authorization: Bearer …` or `x-api-key: …`. Whose it is, [`Identify`](super::app::Identify) says.

use super::app::{Denied, Principal, Settings};
use super::problem::{Problem, Result};
use super::router::Access;
use http::{HeaderMap, StatusCode, header};
use std::net::{IpAddr, SocketAddr};

/// A server that would answer strangers was refused its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0} can be reached from other machines, and there are no keys: make one (`coldframe key create`), or listen on 127.0.0.1"
)]
pub struct Exposed(pub SocketAddr);

/// Refuses to serve without keys where others than this machine could ask.
///
/// # Errors
/// [`Exposed`].
pub fn check_exposure(address: SocketAddr, open: bool) -> Result<(), Exposed> {
    if open && !address.ip().to_canonical().is_loopback() { Err(Exposed(address)) } else { Ok(()) }
}

/// The secret of a request.
///
/// # Errors
/// 400 where two headers disagree, 401 where it is none.
pub fn secret(headers: &HeaderMap) -> Result<Option<&str>> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let text = value.to_str().ok()?;
        let (scheme, secret) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim()).filter(|secret| !secret.is_empty())
    });
    let key = headers.get("x-api-key").map(|value| value.to_str().ok().filter(|key| !key.is_empty()));
    match (bearer, key) {
        (Some(None), _) | (_, Some(None)) => Err(denied(Denied::Wrong)),
        (Some(bearer), Some(key)) if bearer != key => {
            let message = "`Authorization` and `x-api-key` differ; send one of them";
            Err(Problem::new(StatusCode::BAD_REQUEST, "ambiguous_credentials", message)
                .about("authorization"))
        }
        (bearer, key) => Ok(bearer.or(key).flatten()),
    }
}

/// Holds a principal against a route's access.
///
/// # Errors
/// 403 `scope_required`.
pub fn check_scope(access: Access, who: &Principal) -> Result<()> {
    match access.scope() {
        Some(needed) if who.scope < needed => {
            let needed = format!("{needed:?}").to_ascii_lowercase();
            let message = format!("this needs a key with scope `{needed}`");
            Err(Problem::new(StatusCode::FORBIDDEN, "scope_required", message))
        }
        _ => Ok(()),
    }
}

/// What a client is told that nobody recognised.
pub fn denied(why: Denied) -> Problem {
    match why {
        Denied::Missing => {
            let message = "a key is needed: send `Authorization: Bearer …`";
            Problem::new(StatusCode::UNAUTHORIZED, "missing_api_key", message)
        }
        Denied::Wrong => Problem::new(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "the key is not known or not valid any more",
        ),
        Denied::Blocked(after) => {
            let message = "too many wrong keys from this address; try again later";
            Problem::overloaded("too_many_failures", message, after)
        }
    }
}

/// Refuses what a web page has a user's browser send to an open server: another site's `Origin`, or a `Host` that is
/// a name made to point here.
///
/// # Errors
/// 403 `foreign_origin`.
pub fn check_origin(settings: &Settings, headers: &HeaderMap, authority: Option<&str>) -> Result<()> {
    if !settings.open {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok()).or(authority);
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or(""));
    let same = |origin: &str| origin.split_once("://").is_some_and(|(_, from)| Some(from) == host);
    if host.is_none_or(is_loopback) && origin.is_none_or(same) {
        return Ok(());
    }
    let message = "a server without keys answers its own machine only; make a key to reach it otherwise";
    Err(Problem::new(StatusCode::FORBIDDEN, "foreign_origin", message))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(""),
        None => host.split(':').next().unwrap_or(""),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}
