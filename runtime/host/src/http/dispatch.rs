//! From a request to a reply: names, route, access, handler, and what every reply carries.
//!
//! A panic of a handler is a 500 and a count, never the end of the connection's neighbours. The exchange is over when
//! the reply's body is: only then it is counted.

use super::app::{App, Denied, Ended, Exchange};
use super::ask::Ask;
use super::body::{self, Body, BodyError, Reply};
use super::problem::{Dialect, Problem, Result};
use super::router::{Access, Found, Route, allow};
use super::trace::{self, Trace};
use super::{auth, router};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Instant;

/// Headers that tell of a gateway in front.
const GATEWAY: &str = "x-gateway-";

impl App {
    /// Answers a request.
    pub async fn handle(self: &Arc<Self>, request: Request<Body>, peer: IpAddr) -> Reply {
        let (parts, body) = request.into_parts();
        let (id, trace) = (trace::request_id(&parts.headers), Trace::of(&parts.headers));
        let fronted = parts.headers.keys().any(|name| name.as_str().starts_with(GATEWAY));
        let head = parts.method == Method::HEAD;
        let mut watch = Watch::new(self.clone(), parts.method.clone(), id.clone(), trace.clone());
        let ask = Ask {
            app: self.clone(),
            parts,
            body: std::sync::Mutex::new(body),
            who: None,
            values: Vec::new(),
            id: id.clone(),
            trace: trace.clone(),
            peer,
            arrived: watch.begun,
            model: watch.model.clone(),
        };
        let mut reply = match self.find(&ask) {
            Ok(To::Route(route, values)) => {
                watch.route = Some(route.pattern);
                self.run(route, Ask { values, ..ask }).await
            }
            Ok(To::Methods(pattern, allow)) => {
                watch.route = Some(pattern);
                methods(&ask.parts.method, &allow)
            }
            Err(problem) => problem.reply(Dialect::OpenAi),
        };
        self.mark(reply.headers_mut(), &id, &trace, fronted);
        watch.status = reply.status();
        reply.map(|body| {
            let body = if head { body::full(Bytes::new()) } else { body };
            if body.is_end_stream() {
                watch.ended = Ended::Whole;
            }
            Watched { body, watch }.boxed_unsync()
        })
    }

    fn find(&self, ask: &Ask) -> Result<To<'_>> {
        let path = ask.parts.uri.path();
        match self.router.find(&ask.parts.method, path)? {
            Found::Route(route, values) => Ok(To::Route(route, values)),
            Found::OtherMethods(pattern, methods) => Ok(To::Methods(pattern, allow(&methods))),
            Found::Nothing => {
                Err(Problem::not_found("there is no such route; GET /api-doc/openapi.json lists them"))
            }
        }
    }

    async fn run(&self, route: &Route, mut ask: Ask) -> Reply {
        let admitted = self.admit(route, &ask);
        let handler = match admitted {
            Ok(who) => {
                ask.who = who;
                // A handler that panics while it makes its future is caught as well.
                let handler = route.handler.clone();
                AssertUnwindSafe(async move { handler(ask).await }).catch_unwind()
            }
            Err(problem) => return problem.reply(route.dialect),
        };
        match handler.await {
            Ok(Ok(reply)) => reply,
            Ok(Err(problem)) => problem.reply(route.dialect),
            Err(_) => {
                self.behind.observe.panicked(Some(route.pattern));
                Problem::internal(&format!("the handler of {} panicked", route.pattern)).reply(route.dialect)
            }
        }
    }

    fn admit(&self, route: &Route, ask: &Ask) -> Result<Option<super::app::Principal>> {
        let authority = ask.parts.uri.authority().map(http::uri::Authority::as_str);
        auth::check_origin(&self.settings, &ask.parts.headers, authority)?;
        if route.access == Access::Public {
            return Ok(None);
        }
        let secret = auth::secret(&ask.parts.headers);
        let who = match secret {
            Ok(secret) => self.behind.identify.identify(secret, ask.peer).map_err(auth::denied)?,
            // A header that holds no secret counts as a wrong one.
            Err(problem) if problem.status == StatusCode::UNAUTHORIZED => {
                let denied = self.behind.identify.identify(Some(""), ask.peer).err().unwrap_or(Denied::Wrong);
                return Err(auth::denied(denied));
            }
            Err(problem) => return Err(problem),
        };
        auth::check_scope(route.access, &who)?;
        Ok(Some(who))
    }

    fn mark(&self, headers: &mut HeaderMap, id: &str, trace: &Trace, fronted: bool) {
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        set("x-request-id", id);
        set("traceparent", &trace.to_string());
        set("x-content-type-options", "nosniff");
        if let (true, Some(endpoint)) = (fronted, &self.settings.endpoint) {
            set("x-gateway-destination-endpoint-served", endpoint);
        }
    }
}

enum To<'a> {
    Route(&'a Route, router::Values),
    Methods(&'static str, String),
}

fn methods(method: &Method, allow: &str) -> Reply {
    let mut reply = if *method == Method::OPTIONS {
        body::empty(StatusCode::NO_CONTENT)
    } else {
        let message = format!("this route answers {allow}");
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        problem.reply(Dialect::OpenAi)
    };
    if let Ok(allow) = HeaderValue::from_str(allow) {
        reply.headers_mut().insert(http::header::ALLOW, allow);
    }
    reply
}

/// Counts an exchange when it is dropped.
struct Watch {
    app: Arc<App>,
    id: String,
    trace: Trace,
    method: Method,
    route: Option<&'static str>,
    model: Arc<OnceLock<String>>,
    status: StatusCode,
    begun: Instant,
    ended: Ended,
}

impl Watch {
    fn new(app: Arc<App>, method: Method, id: String, trace: Trace) -> Self {
        app.behind.observe.begun();
        Self {
            app,
            id,
            trace,
            method,
            route: None,
            model: Arc::default(),
            status: StatusCode::INTERNAL_SERVER_ERROR,
            begun: Instant::now(),
            ended: Ended::Dropped,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.app.behind.observe.ended(&Exchange {
            id: self.id.clone(),
            trace: self.trace.clone(),
            method: self.method.clone(),
            route: self.route,
            model: self.model.get().cloned(),
            status: self.status.as_u16(),
            took: self.begun.elapsed(),
            ended: self.ended,
        });
    }
}

/// A reply's body that ends the exchange with itself.
struct Watched {
    body: Body,
    watch: Watch,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // hyper does not ask again once a body says that it is at its end.
        if matches!(polled, Poll::Ready(None)) || self.body.is_end_stream() {
            self.watch.ended = Ended::Whole;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
