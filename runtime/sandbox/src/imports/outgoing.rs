//! A call's way out, under one set of rules for `coldframe:function/http` and for `wasi:http/outgoing-handler`.

use crate::call::Call;
use crate::end::End;
use crate::function::Rules;
use crate::outbound::{Driver, Refusal, Target};
use crate::sandbox::Inner;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use std::sync::Arc;
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

/// What a call may still send, and where.
pub(crate) struct Outgoing {
    context: WasiHttpCtx,
    hooks: Hooks,
}

/// What `wasi:http` calls when a guest sends.
struct Hooks {
    way: Way,
    calls: u32,
}

/// What is needed to send one request, apart from the call.
#[derive(Clone)]
pub(crate) struct Way {
    sandbox: Arc<Inner>,
    rules: Arc<Rules>,
}

impl Outgoing {
    pub(crate) fn new(sandbox: Arc<Inner>, rules: Arc<Rules>) -> Self {
        Self { context: WasiHttpCtx::new(), hooks: Hooks { way: Way { sandbox, rules }, calls: 0 } }
    }

    /// Requests sent so far, by either way.
    pub(crate) fn calls(&self) -> u32 {
        self.hooks.calls
    }

    /// Counts one more request.
    pub(crate) fn count(&mut self) -> Result<(), End> {
        self.hooks.count()
    }

    pub(crate) fn way(&self) -> Way {
        self.hooks.way.clone()
    }
}

impl Hooks {
    fn count(&mut self) -> Result<(), End> {
        let limit = self.way.rules.limits.http_calls;
        if self.calls >= limit {
            return Err(End::HttpCalls { limit });
        }
        self.calls += 1;
        Ok(())
    }
}

impl Way {
    pub(crate) fn body_bytes_max(&self) -> usize {
        self.rules.limits.http_body_bytes
    }

    pub(crate) fn target(&self, url: &str) -> Result<Target, Refusal> {
        self.rules.grants.outbound.target(url)
    }

    pub(crate) async fn exchange<B>(
        &self,
        target: &Target,
        request: Request<B>,
    ) -> Result<(Response<Incoming>, Driver), Refusal>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        self.sandbox.options.outbound.exchange(target, request).await
    }
}

impl WasiHttpView for Call {
    /// Each host call of `wasi:http` passes here, and is counted and charged here.
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.usage.host_calls += 1;
        self.debt = self.debt.saturating_add(self.sandbox.options.charges.call);
        let outgoing = &mut self.outgoing;
        WasiHttpCtxView { hooks: &mut outgoing.hooks, table: &mut self.table, ctx: &mut outgoing.context }
    }
}

/// What sending for `wasi:http` gives.
pub(crate) type Sent =
    Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _sent: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        if self.count().is_err() {
            return Box::new(async { Err(Error::ConnectionLimitReached) });
        }
        Box::new(send(self.way.clone(), request, options))
    }
}

async fn send(way: Way, request: Request<WasiBody>, options: Option<RequestOptions>) -> Sent {
    let target = way.target(&request.uri().to_string()).map_err(wasi_error)?;
    let most = way.body_bytes_max();
    let (mut head, body) = request.into_parts();
    head.uri = target.path().parse().map_err(|_| Error::HttpRequestUriInvalid)?;
    head.headers.insert(http::header::HOST, target.host_header().map_err(|_| Error::HttpRequestUriInvalid)?);
    let request = Request::from_parts(head, Limited::new(body, most));
    let exchange = way.exchange(&target, request);
    let patience = options.and_then(|options| options.first_byte_timeout);
    let (response, driver) = match patience {
        Some(patience) => {
            tokio::time::timeout(patience, exchange).await.map_err(|_| Error::ConnectionReadTimeout)?
        }
        None => exchange.await,
    }
    .map_err(wasi_error)?;
    let limited = |body| Limited::new(body, most).map_err(body_error).boxed_unsync();
    // The connection is driven as long as wasmtime keeps this future, which is as long as the response.
    let io = async move {
        driver.run().await;
        Ok(())
    };
    Ok((response.map(limited), Box::new(io)))
}

fn body_error(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    if error.is::<http_body_util::LengthLimitError>() {
        Error::HttpResponseBodySize(None)
    } else {
        Error::HttpResponseIncomplete
    }
}

fn wasi_error(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Url(_) => Error::HttpRequestUriInvalid,
        Refusal::NotAllowed { .. } => Error::HttpRequestDenied,
        Refusal::Address { .. } => Error::DestinationIpProhibited,
        Refusal::Resolve { .. } => Error::DnsError { rcode: None, info_code: None },
        Refusal::Connect { .. } => Error::ConnectionRefused,
        Refusal::Tls { .. } => Error::TlsProtocolError,
        Refusal::Exchange { .. } => Error::HttpProtocolError,
        Refusal::Timeout => Error::ConnectionTimeout,
    }
}
