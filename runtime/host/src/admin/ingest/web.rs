//! HTTP for artifacts: https only, public addresses only, each name looked up once for its connection, redirects only
//! where they are expected.
//!
//! The name is resolved by us and the connection goes to exactly what was checked, so that a second answer of the name
//! server changes nothing. A transfer runs on a thread of its own and stops when nobody reads.

use super::IngestOptions;
use super::address::is_global;
use super::stream::ByteReader;
use crate::admin::error::{AdminError, Kind, Result};
use bytes::Bytes;
use std::io::{self, Read};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use url::Url;

/// Redirects followed; hubs need two.
const REDIRECTS_MAX: usize = 4;

/// Bytes of a listing or manifest.
const PAGE_MAX: usize = 4 << 20;

/// Asks servers.
pub struct Web {
    agent: ureq::Agent,
    private: bool,
}

/// Hosts that a redirect may lead to.
#[derive(Debug, Clone)]
pub struct Redirects {
    /// The host that was asked.
    pub own: String,
    /// Endings of others.
    pub also: Vec<String>,
}

impl Redirects {
    fn allow(&self, host: &str) -> bool {
        host == self.own || self.also.iter().any(|ending| host.ends_with(ending.as_str()))
    }
}

/// A reply with its body still to come.
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    body: mpsc::Receiver<io::Result<Bytes>>,
    shown: String,
}

impl Reply {
    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The reply, where it is one of success.
    ///
    /// # Errors
    /// `upstream_refused`.
    pub fn success(self) -> Result<Self> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let hint = match self.status {
            401 | 403 => ": it wants credentials that this server does not have",
            404 => ": there is nothing at this address",
            _ => "",
        };
        Err(upstream("upstream_refused", format!("{} answered {}{hint}", self.shown, self.status)))
    }

    /// The body as a reader.
    pub fn into_reader(self) -> ByteReader {
        let stream = futures_util::stream::unfold(self.body, async |mut body| {
            body.recv().await.map(|next| (next, body))
        });
        ByteReader::new(Box::pin(stream))
    }

    /// The whole of a small body.
    ///
    /// # Errors
    /// `upstream_broken`.
    pub async fn page(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.body.recv().await {
            all.extend_from_slice(&bytes.map_err(|error| broken(&self.shown, &error.to_string()))?);
            if all.len() > PAGE_MAX {
                return Err(broken(&self.shown, "it sends more than a listing has"));
            }
        }
        Ok(all)
    }
}

impl Web {
    /// With these bounds.
    pub fn new(options: &IngestOptions) -> Self {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_per_read(Some(options.stall))
            .user_agent(concat!("coldframe/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .max_idle_connections(0);
        let config = if options.proxy { config } else { config.proxy(None) };
        let resolver = Checked {
            // A proxy of the environment usually has a private address of its own.
            private: options.private_addresses || options.proxy,
            inner: DefaultResolver::default(),
        };
        let agent = ureq::Agent::with_parts(config.build(), DefaultConnector::default(), resolver);
        Self { agent, private: options.private_addresses }
    }

    /// Asks, and follows redirects to hosts that are allowed. Headers go to the first host only.
    ///
    /// # Errors
    /// `address_forbidden`, `redirect_forbidden`, `upstream_broken`.
    pub async fn get(&self, url: &Url, headers: &[(&str, String)], redirects: Redirects) -> Result<Reply> {
        let mut url = url.clone();
        for step in 0..=REDIRECTS_MAX {
            self.allowed(&url)?;
            let headers = if step == 0 { headers } else { &[] };
            let reply = self.once(&url, headers).await?;
            let onward = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            let Some(link) = onward.then(|| reply.header("location")).flatten() else { return Ok(reply) };
            let next = url.join(link).map_err(|error| broken(&reply.shown, &error.to_string()))?;
            let host = next.host_str().unwrap_or_default();
            if !redirects.allow(host) || (url.scheme() == "https" && next.scheme() != "https") {
                let problem = format!("{} redirects to {host}, which is not followed", reply.shown);
                return Err(AdminError::new(Kind::Unprocessable, "redirect_forbidden", problem).about("uri"));
            }
            url = next;
        }
        Err(upstream("redirect_forbidden", format!("{} redirects too often", shown(&url))))
    }

    fn allowed(&self, url: &Url) -> Result<()> {
        if url.scheme() == "https" || (url.scheme() == "http" && self.private) {
            return Ok(());
        }
        Err(AdminError::invalid("uri", "only https:// is fetched: plain http can be changed on its way"))
    }

    async fn once(&self, url: &Url, headers: &[(&str, String)]) -> Result<Reply> {
        let mut request = self.agent.get(url.as_str());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let shown = shown(url);
        let (head_out, head) = oneshot::channel();
        // Four buffers in flight keep the wire busy while the disk writes.
        let (body_out, body) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || transfer(request, head_out, &body_out));
        match head.await {
            Ok(Ok((status, headers))) => Ok(Reply { status, headers, body, shown }),
            Ok(Err(error)) => Err(refused(&shown, &error)),
            Err(_) => Err(broken(&shown, "the transfer ended without a reply")),
        }
    }
}

type Head = Result<(u16, Vec<(String, String)>), ureq::Error>;

fn transfer(
    request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    head: oneshot::Sender<Head>,
    body: &mpsc::Sender<io::Result<Bytes>>,
) {
    let reply = match request.call() {
        Ok(reply) => reply,
        Err(error) => return drop(head.send(Err(error))),
    };
    let text = |value: &ureq::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = reply.headers().iter().map(|(key, value)| (key.as_str().to_owned(), text(value))).collect();
    if head.send(Ok((reply.status().as_u16(), headers))).is_err() {
        return;
    }
    let mut reader = reply.into_body().into_with_config().limit(u64::MAX).reader();
    loop {
        let mut buffer = vec![0; 1 << 18];
        let sent = match reader.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                buffer.truncate(count);
                body.blocking_send(Ok(buffer.into()))
            }
            Err(error) => return drop(body.blocking_send(Err(error))),
        };
        // Whoever asked went away, or has enough.
        if sent.is_err() {
            return;
        }
    }
}

/// Resolves a name and refuses all of it where any address is not public.
#[derive(Debug)]
struct Checked {
    private: bool,
    inner: DefaultResolver,
}

/// The mark of our own refusal among the errors of a connection.
const FORBIDDEN: &str = "address is not public";

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let addresses = self.inner.resolve(uri, config, timeout)?;
        if !self.private && !addresses.iter().all(|address| is_global(address.ip())) {
            return Err(ureq::Error::Io(io::Error::new(io::ErrorKind::PermissionDenied, FORBIDDEN)));
        }
        Ok(addresses)
    }
}

fn refused(shown: &str, error: &ureq::Error) -> AdminError {
    match error {
        ureq::Error::Io(inner) if inner.to_string() == FORBIDDEN => AdminError::new(
            Kind::Forbidden,
            "address_forbidden",
            format!("{shown} is not at a public address, and nothing else is fetched"),
        )
        .about("uri"),
        other => broken(shown, &other.to_string()),
    }
}

fn broken(shown: &str, problem: &str) -> AdminError {
    upstream("upstream_broken", format!("{shown}: {problem}"))
}

fn upstream(code: &'static str, problem: String) -> AdminError {
    AdminError::new(Kind::Upstream, code, problem).about("uri")
}

/// An address without its query, which may be a signature.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.authority(), url.path())
}
