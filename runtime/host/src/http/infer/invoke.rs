//! `/invoke/{function}`: a raw request for a function's own code, and whatever it answers.
//!
//! The reply is a stranger's: headers that would speak for this server are left out, and a page it answers runs in a
//! sandbox of the browser, since it shares its origin with the dashboard.

use super::merged::Merged;
use super::request::deadline;
use super::{sse, timing};
use crate::call::{Call, CallEvent, Shape, Work};
use crate::http::ask::Ask;
use crate::http::body::{BodyError, Reply};
use crate::http::problem::{FUNCTION_ERROR, Problem, Result};
use bytes::Bytes;
use coldframe_backbone::sample::SamplingParams;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

/// Headers that neither side may pass through: of the connection, of credentials, of this server's own voice.
const OWN: [&str; 22] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
    "authorization",
    "x-api-key",
    "cookie",
    "set-cookie",
    "server-timing",
    "x-request-id",
    "traceparent",
    "strict-transport-security",
    "content-security-policy",
    "access-control-allow-origin",
    "access-control-allow-credentials",
];

/// Answers a raw request.
///
/// # Errors
/// 404 for an unknown function, 400 for one without code, and what the call says.
pub async fn answer(mut ask: Ask) -> Result<Reply> {
    let name = ask.values[0].clone();
    let bound = ask.app.behind.functions.resolve(&ask.who().tenant, &name, &ask.id);
    let bound = bound.ok_or_else(|| Problem::no_model(&name).about("function"))?;
    ask.note_model(&bound);
    if bound.generation.as_ref().is_none_or(|generation| generation.module.is_none()) {
        let problem = "has no code of its own; use /v1/chat/completions";
        return Err(Problem::unsupported("function", problem));
    }
    let read = ask.read().await?;
    let call = Call {
        id: ask.id.clone(),
        names: bound.names,
        generation: bound.generation,
        adapter: bound.adapter,
        work: work(&ask),
        body: read.bytes.clone(),
        params: SamplingParams::default(),
        choices: 1,
        shape: Shape::Free,
        include_stop: false,
        arrived: ask.arrived,
        deadline: deadline(&ask),
    };
    drop(read);
    let merged = sse::unless_ending(&ask.app, Merged::open(&ask.app, vec![call], deadline(&ask))).await?;
    reply(merged).await
}

fn work(ask: &Ask) -> Work {
    let rest = ask.values.get(1).map_or("", String::as_str);
    let query = ask.parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        let text = value.to_str().ok()?.to_owned();
        (!OWN.contains(&name.as_str())).then(|| (name.as_str().to_owned(), text))
    };
    Work::Invoke {
        method: ask.parts.method.as_str().to_owned(),
        path: format!("/{rest}{query}"),
        headers: ask.headers().iter().filter_map(text).collect(),
    }
}

async fn reply(mut merged: Merged) -> Result<Reply> {
    let (mut status, mut headers) = (StatusCode::OK, HeaderMap::new());
    let mut first = Bytes::new();
    while let Some((_, event)) = merged.next().await? {
        match event {
            CallEvent::Head { status: code, headers: given } => (status, headers) = head(code, given)?,
            CallEvent::First { .. } => {}
            event => {
                first = bytes_of(event);
                break;
            }
        }
    }
    timing::mark(&mut headers, merged.opening);
    headers.insert("content-security-policy", HeaderValue::from_static("sandbox"));
    let stream = futures_util::stream::unfold((Some(first), merged), |(first, mut merged)| async move {
        if let Some(first) = first {
            return Some((Ok(Frame::data(first)), (None, merged)));
        }
        match merged.next().await {
            Ok(Some((_, event))) => Some((Ok(Frame::data(bytes_of(event))), (None, merged))),
            Ok(None) => None,
            // The status is long gone: breaking off is the only way left to say that the reply is not whole.
            Err(problem) => Some((Err(BodyError::from(problem.message)), (None, merged))),
        }
    });
    let mut reply = Response::new(StreamBody::new(stream).boxed_unsync());
    (*reply.status_mut(), *reply.headers_mut()) = (status, headers);
    Ok(reply)
}

fn bytes_of(event: CallEvent) -> Bytes {
    match event {
        CallEvent::Bytes(bytes) => bytes,
        CallEvent::Text { text, .. } => text.into(),
        _ => Bytes::new(),
    }
}

fn head(code: u16, given: Vec<(String, String)>) -> Result<(StatusCode, HeaderMap)> {
    let bad = |what: &str| {
        let message = format!("the function answered with {what}");
        Problem::new(StatusCode::BAD_GATEWAY, "invalid_reply", message).of_kind(FUNCTION_ERROR)
    };
    let status = StatusCode::from_u16(code).ok().filter(|status| status.as_u16() >= 200);
    let status = status.ok_or_else(|| bad("a status that is none"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad("a header name that is none"))?;
        let value = HeaderValue::from_str(&value).map_err(|_| bad("a header value that is none"))?;
        if !OWN.contains(&name.as_str()) {
            headers.append(name, value);
        }
    }
    Ok((status, headers))
}
