//! `coldframe:function/http`: one request out, one response back, to the hosts of the manifest only.

use super::interface;
use super::outgoing::Way;
use super::small::granted;
use crate::bindings::{http, types};
use crate::call::{Call, copied, enter};
use crate::convert::failure_out;
use crate::outbound::{Refusal, Target};
use crate::services::Failure;
use ::http::{HeaderName, HeaderValue, Method, Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use wasmtime::component::Linker;
use wasmtime::{Result, StoreContextMut};

type Store<'a> = StoreContextMut<'a, Call>;

/// Headers a guest may not set: they speak of the connection or of where it goes.
const OURS: [&str; 9] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "te",
];

pub(super) fn link(linker: &mut Linker<Call>) -> Result<()> {
    linker
        .instance(&interface("http"))?
        .func_wrap_async("send", |store, (request,)| Box::new(send(store, request)))
}

async fn send(
    mut store: Store<'_>,
    request: http::HttpRequest,
) -> Result<(Result<http::HttpResponse, types::Failure>,)> {
    let headers: usize = request.headers.iter().map(|field| field.name.len() + field.value.len()).sum();
    enter(&mut store, request.url.len() + headers + request.body.len())?;
    granted(!store.data().rules.grants.outbound.is_empty(), "http")?;
    let outgoing = &mut store.data_mut().outgoing;
    outgoing.count()?;
    let response = exchange(outgoing.way(), request).await;
    copied(&mut store, response.as_ref().map_or(0, |response| response.body.len()))?;
    Ok((response.map_err(failure_out),))
}

async fn exchange(way: Way, request: http::HttpRequest) -> Result<http::HttpResponse, Failure> {
    let most = way.body_bytes_max();
    if request.body.len() > most {
        return Err(Failure::new("too_large", format!("the body of a request has at most {most} bytes")));
    }
    let target = way.target(&request.url).map_err(refused)?;
    let request = outgoing(request, &target)?;
    let (response, driver) = way.exchange(&target, request).await.map_err(refused)?;
    let response = incoming(response, most).await;
    drop(driver);
    response
}

fn refused(refusal: Refusal) -> Failure {
    Failure::new(refusal.code(), refusal.to_string())
}

fn outgoing(request: http::HttpRequest, target: &Target) -> Result<Request<Full<Bytes>>, Failure> {
    let invalid = |what: &str| Failure::new("invalid", format!("{what} of the request cannot be sent"));
    let method = Method::from_bytes(request.method.as_bytes()).map_err(|_| invalid("the method"))?;
    if method == Method::CONNECT {
        return Err(invalid("the method CONNECT"));
    }
    let mut built = Request::new(Full::new(Bytes::from(request.body)));
    *built.method_mut() = method;
    *built.uri_mut() = target.path().parse().map_err(|_| invalid("the path"))?;
    for field in request.headers {
        let name =
            HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| invalid("the name of a header"))?;
        if OURS.contains(&name.as_str()) {
            return Err(Failure::new("invalid", format!("the header `{name}` is the host's")));
        }
        let value = HeaderValue::from_str(&field.value).map_err(|_| invalid("the value of a header"))?;
        built.headers_mut().append(name, value);
    }
    built.headers_mut().insert(::http::header::HOST, target.host_header().map_err(|_| invalid("the host"))?);
    Ok(built)
}

async fn incoming(
    response: Response<hyper::body::Incoming>,
    most: usize,
) -> Result<http::HttpResponse, Failure> {
    let (head, body) = response.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let field = |(name, value): (&HeaderName, &HeaderValue)| types::Field {
        name: name.to_string(),
        value: text(value),
    };
    let headers = head.headers.iter().map(field).collect();
    let body =
        Limited::new(body, most).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
            true => Failure::new("too_large", format!("the response has more than {most} bytes")),
            false => Failure::new("unavailable", format!("the response broke off: {error}")),
        })?;
    Ok(http::HttpResponse { status: head.status.as_u16(), headers, body: body.to_bytes().to_vec() })
}
