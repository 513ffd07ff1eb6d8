//! One connection: TLS, HTTP/1.1 or HTTP/2, and every way in which a client may be too slow.
//!
//! hyper's own timer of headers is set as well, but it does not see a connection that has sent nothing yet, and it does
//! not tell an idle connection from a dripping one. [`Activity`] does both.

use super::app::{App, Stage};
use super::body::{Body, BodyError, Reply};
use super::pace::Paced;
use super::problem::{Dialect, Problem};
use super::tls::Certificates;
use bytes::Bytes;
use http::{HeaderValue, Request, Version, header};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// Routes that a connection of the reserve is answered.
const PROBES: [&str; 4] = ["/health", "/ready", "/startup", "/ping"];
/// How long a connection that was told to close may take for it.
const GOODBYE: Duration = Duration::from_secs(1);

/// A connection's place among those that are let in.
pub(super) struct Place {
    /// Probes only, briefly: the server is full.
    pub(super) reserved: bool,
    /// Given back with the connection's end.
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    app: Arc<App>,
    certificates: Option<Arc<Certificates>>,
    place: Place,
) {
    // Tokens are small and must not wait for more.
    let _ = stream.set_nodelay(true);
    let Some(certificates) = certificates else {
        return speak(stream, peer.ip(), &app, &place).await;
    };
    let limit = app.limits().handshake_time;
    match tokio::time::timeout(limit, certificates.accept(stream)).await {
        Ok(Ok(stream)) => speak(stream, peer.ip(), &app, &place).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => app.behind.observe.closed("handshake"),
    }
}

async fn speak<S>(stream: S, peer: IpAddr, app: &Arc<App>, place: &Place)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &app.limits();
    let activity = Arc::new(Activity::default());
    let io =
        TokioIo::new(Paced::new(stream, limits.write_idle, activity.clone(), app.behind.observe.clone()));
    let reserved = place.reserved;
    let (serving, busy) = (app.clone(), activity.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, exchange) = (serving.clone(), busy.enter(request.version()));
        async move {
            let reply = answer(&app, request, peer, reserved).await;
            Ok::<_, Infallible>(reply.map(|body| Held { body, _exchange: exchange }))
        }
    });
    let builder = builder(app);
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let mut stage = app.stage();
    let mut life = std::pin::pin!(tokio::time::sleep(limits.reserved_time));
    let mut draining = *stage.borrow_and_update() != Stage::Serving;
    if draining {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = activity.idle(limits.header_time, limits.idle) => {
                app.behind.observe.closed("idle");
                connection.as_mut().graceful_shutdown();
                let _ = tokio::time::timeout(GOODBYE, connection).await;
                return;
            }
            _ = stage.changed(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut life, if reserved => return,
        }
    }
}

fn builder(app: &App) -> auto::Builder<TokioExecutor> {
    let limits = &app.limits();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_headers(limits.headers)
        .max_buf_size(limits.header_bytes);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.idle)
        .keep_alive_timeout(limits.write_idle);
    builder
}

async fn answer(app: &Arc<App>, request: Request<Incoming>, peer: IpAddr, reserved: bool) -> Reply {
    let request = request.map(|body| body.map_err(BodyError::from).boxed_unsync());
    if !reserved {
        return app.handle(request, peer).await;
    }
    let mut reply = if PROBES.contains(&request.uri().path()) {
        app.handle(request, peer).await
    } else {
        let message = "the server has as many connections as it takes; try again";
        Problem::overloaded("connections", message, Duration::from_secs(1)).reply(Dialect::OpenAi)
    };
    reply.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    reply
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Exchanges under way.
    busy: u32,
    /// When the last one ended, or the connection began.
    since: Instant,
    /// When the first byte came that belongs to no exchange yet.
    read: Option<Instant>,
    /// Whether there was an exchange at all.
    spoken: bool,
    /// HTTP/2 reads frames that belong to no exchange.
    frames: bool,
}

impl Default for Activity {
    fn default() -> Self {
        let since = Instant::now();
        Self(Mutex::new(State { busy: 0, since, read: None, spoken: false, frames: false }))
    }
}

impl Activity {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came.
    pub(super) fn read(&self) {
        let mut state = self.state();
        if state.busy == 0 && !state.frames {
            state.read.get_or_insert_with(Instant::now);
        }
    }

    fn enter(self: &Arc<Self>, version: Version) -> Exchange {
        let mut state = self.state();
        state.busy += 1;
        (state.read, state.spoken, state.frames) = (None, true, version == Version::HTTP_2);
        Exchange(self.clone())
    }

    /// Ready once a head has taken longer than `head`, or nothing at all came for `quiet`.
    async fn idle(&self, head: Duration, quiet: Duration) {
        loop {
            let left = {
                let state = self.state();
                match (state.busy, state.read) {
                    (0, Some(read)) => head.saturating_sub(read.elapsed()),
                    (0, None) if !state.spoken => head.saturating_sub(state.since.elapsed()),
                    (0, None) => quiet.saturating_sub(state.since.elapsed()),
                    _ => head,
                }
            };
            if left.is_zero() {
                return;
            }
            // At most `head`, since a byte that comes meanwhile starts a shorter time.
            tokio::time::sleep(left.min(head)).await;
        }
    }
}

/// An exchange under way.
struct Exchange(Arc<Activity>);

impl Drop for Exchange {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.busy -= 1;
        state.since = Instant::now();
    }
}

/// A reply's body that keeps its exchange under way.
struct Held {
    body: Body,
    _exchange: Exchange,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
