//! Calls a component of `wasi:http/incoming-handler`, so that components made for other hosts answer `/invoke`.
//!
//! The guest's response streams to the caller while the guest still runs; both are one future, so that dropping the call ends both.

use super::{Call, instantiating};
use crate::end::End;
use crate::imports::reply;
use crate::request::{Request, Route};
use crate::services::Failure;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use std::pin::pin;
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// The host name a guest sees: that of no machine.
const AUTHORITY: &str = "function.invalid";

type Response = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

pub(super) async fn handle(
    store: &mut Store<Call>,
    proxy: &ProxyPre<Call>,
    request: Request,
) -> wasmtime::Result<Result<(), Failure>> {
    if request.route != Route::Invoke {
        return Ok(Err(Failure::new("unsupported", "a component of wasi:http answers /invoke only")));
    }
    let request = match incoming(request) {
        Ok(request) => request,
        Err(error) => return Ok(Err(Failure::new("invalid", error.to_string()))),
    };
    let mut caller = reply::Caller::take(store.data_mut());
    let (sender, receiver) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let out = store.data_mut().http().new_response_outparam(sender)?;
    let guest = async {
        let proxy = proxy.instantiate_async(&mut *store).await.map_err(instantiating)?;
        proxy.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await
    };
    let (ran, sent) = both(guest, forward(receiver, &mut caller)).await;
    let written = caller.give_back(store.data_mut());
    store.data_mut().usage.output_bytes = written;
    ran?;
    Ok(sent?)
}

/// Runs the guest and the forwarding of its response; a guest that traps, or a limit of the response, ends both.
async fn both(
    guest: impl Future<Output = wasmtime::Result<()>>,
    forward: impl Future<Output = Result<Result<(), Failure>, End>>,
) -> (wasmtime::Result<()>, Result<Result<(), Failure>, End>) {
    let (mut guest, mut forward) = (pin!(guest), pin!(forward));
    tokio::select! {
        ran = &mut guest => match ran {
            Ok(()) => (Ok(()), forward.await),
            Err(error) => (Err(error), Ok(Ok(()))),
        },
        sent = &mut forward => match sent {
            Ok(Ok(())) => (guest.await, Ok(Ok(()))),
            // The caller has gone or the limit is reached: the guest has nothing left to do.
            ended => (Ok(()), ended),
        },
    }
}

async fn forward(
    receiver: oneshot::Receiver<Response>,
    caller: &mut reply::Caller,
) -> Result<Result<(), Failure>, End> {
    let Ok(response) = receiver.await else {
        return Ok(Err(Failure::new("no_response", "the function ended without a response")));
    };
    let response = match response {
        Ok(response) => response,
        Err(code) => return Ok(Err(Failure::new("failed", format!("the function answered with {code:?}")))),
    };
    let (head, mut body) = response.into_parts();
    if let Err(failure) = caller.start(head.status.as_u16(), &head.headers) {
        return Ok(Err(failure));
    }
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return Ok(Err(Failure::new("failed", "the function's response broke off")));
        };
        let Ok(data) = frame.into_data() else { continue };
        if let Err(failure) = caller.write(data.to_vec()).await? {
            return Ok(Err(failure));
        }
    }
    Ok(Ok(()))
}

fn incoming(request: Request) -> Result<http::Request<Full<Bytes>>, http::Error> {
    let path = if request.path.starts_with('/') { request.path } else { format!("/{}", request.path) };
    let mut builder = http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("http://{AUTHORITY}{path}"))
        .header(http::header::HOST, AUTHORITY);
    for (name, value) in &request.headers {
        if !name.eq_ignore_ascii_case("host") {
            builder = builder.header(name, value);
        }
    }
    builder.body(Full::new(Bytes::from(request.body)))
}
