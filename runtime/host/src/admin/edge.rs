//! From a request of HTTP to an action and back: headers, bodies, statuses; nothing is decided here.

use super::action::Terms;
use super::error::{AdminError, Kind};
use super::ingest::BodyStream;
use super::routes::{Given, Line};
use super::{Admin, Done, Principal};
use crate::http::ask::Ask;
use crate::http::body::{self, Reply};
use crate::http::problem::{Problem, Result};
use crate::http::router::Route;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// When trying again makes sense.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A route of a line of the table.
pub fn route(admin: Arc<Admin>, line: Line) -> Route {
    let Line { method, pattern, access, decode, query, upload, describe } = line;
    let answer = move |ask: Ask| {
        let admin = admin.clone();
        async move {
            let mut given = given(&admin, ask, query, upload).await?;
            let who = given.1;
            let action = decode(&mut given.0)?;
            let done = admin.run(&who, action, &given.0.terms).await?;
            Ok(reply(&done))
        }
    };
    Route::new(method, pattern, access, answer, describe)
}

async fn given(admin: &Admin, mut ask: Ask, allowed: &[&str], upload: bool) -> Result<(Given, Principal)> {
    let who = ask.who();
    let who = Principal { tenant: who.tenant.clone(), scope: who.scope, key: who.key.clone() };
    let terms = terms(ask.headers(), &ask.id)?;
    let query = parameters(ask.query()?, allowed)?;
    let values = std::mem::take(&mut ask.values);
    let media = ask.header("content-type").unwrap_or_default().to_owned();
    let multipart = media.to_ascii_lowercase().starts_with("multipart/form-data");
    let (body, upload) = if multipart {
        if !upload {
            let message = "this route takes application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid_content_type", message));
        }
        (Bytes::new(), Some(admin.ingest().upload(&media, pieces(&mut ask)).await?))
    } else {
        let bytes = ask.read().await?.bytes;
        if !bytes.is_empty() {
            crate::http::json::check_media(ask.headers())?;
            // The same bounds as of any body: depth, duplicate keys.
            crate::http::json::object(&bytes)?;
        }
        (bytes, None)
    };
    Ok((Given { values, query, body, upload, terms }, who))
}

/// The body as the ingestion reads it; a problem of the edge survives inside the error.
fn pieces(ask: &mut Ask) -> BodyStream {
    let stream = ask.pieces().map(|piece| {
        piece.map_err(|problem| {
            let kind = match problem.status {
                StatusCode::PAYLOAD_TOO_LARGE => Kind::TooLarge,
                _ => Kind::Invalid,
            };
            io::Error::other(AdminError::new(kind, "request_body_too_large", problem.message))
        })
    });
    Box::pin(stream)
}

/// Every parameter once, and only those that the route has.
fn parameters(pairs: Vec<(String, String)>, allowed: &[&str]) -> Result<BTreeMap<String, String>> {
    let mut query = BTreeMap::new();
    for (name, value) in pairs {
        if !allowed.contains(&name.as_str()) {
            let shown: String = name.chars().take(40).flat_map(char::escape_default).collect();
            let known = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            return Err(Problem::invalid(
                shown,
                format!("this route has no such parameter; it has: {known}"),
            ));
        }
        if query.insert(name.clone(), value).is_some() {
            return Err(Problem::invalid(name, "it stands there twice"));
        }
    }
    Ok(query)
}

fn terms(headers: &HeaderMap, id: &str) -> Result<Terms> {
    let text = |name: &'static str| match headers.get(name).map(HeaderValue::to_str) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text.trim())),
        Some(Err(_)) => Err(Problem::invalid(name, "it is no text")),
    };
    let if_match = match text("if-match")? {
        None | Some("*") => None,
        Some(tag) => Some(
            revision(tag)
                .ok_or_else(|| Problem::invalid("If-Match", "give one ETag of this server, as it came"))?,
        ),
    };
    let if_none_match = match text("if-none-match")? {
        None => false,
        Some("*") => true,
        Some(_) => return Err(Problem::unsupported("If-None-Match", "only `*` is meant here")),
    };
    let idempotency_key = text("idempotency-key")?.map(str::to_owned);
    Ok(Terms { if_match, if_none_match, idempotency_key, request_id: id.to_owned() })
}

/// An ETag is the revision in quotes.
fn revision(tag: &str) -> Option<u64> {
    tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

fn reply(done: &Done) -> Reply {
    let status = match (done.made, done.accepted) {
        (_, true) => StatusCode::ACCEPTED,
        (true, _) => StatusCode::CREATED,
        _ => StatusCode::OK,
    };
    let mut reply = match &done.reply {
        super::reply::Reply::File(file) => body::bytes(status, file.media, file.bytes.clone()),
        reply => body::json(status, &serde_json::to_value(reply).unwrap_or_default()),
    };
    let headers = reply.headers_mut();
    // Answers hold what belongs to one tenant, and once a secret.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(tag) = done.revision.and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok()) {
        headers.insert(header::ETAG, tag);
    }
    reply
}

impl From<AdminError> for Problem {
    fn from(error: AdminError) -> Self {
        let status = match error.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Forbidden => StatusCode::FORBIDDEN,
            Kind::Absent => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Precondition => StatusCode::PRECONDITION_FAILED,
            Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Unsupported => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Kind::Unprocessable => StatusCode::UNPROCESSABLE_ENTITY,
            Kind::Quota => StatusCode::TOO_MANY_REQUESTS,
            Kind::Upstream => StatusCode::BAD_GATEWAY,
            Kind::Storage => StatusCode::INSUFFICIENT_STORAGE,
            Kind::Unknown | Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Internal => return Self::internal(&error.message),
        };
        let retry = matches!(error.kind, Kind::Unknown | Kind::Busy).then_some(RETRY_AFTER);
        Self {
            param: error.param,
            details: error.details,
            retry_after: retry,
            ..Self::new(status, error.code, error.message)
        }
    }
}
