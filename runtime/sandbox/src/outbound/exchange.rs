//! Resolves, checks, connects and exchanges one request for one response. No connection is kept for the next.

use super::{Refusal, Target, is_global};
use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// Time to resolve and connect, TLS included. The exchange itself is bounded by the call's own time.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 4;

/// Response headers of one exchange.
const HEADERS_MAX: usize = 128;

/// Finds the addresses of a name.
pub trait Resolver: Send + Sync + std::fmt::Debug {
    /// Its addresses, in the order they should be tried; none when the name leads nowhere.
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> crate::services::Later<'a, Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug)]
struct System;

impl Resolver for System {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> crate::services::Later<'a, Vec<IpAddr>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, port)).await;
            found.map(|addresses| addresses.map(|address| address.ip()).collect()).unwrap_or_default()
        })
    }
}

/// How requests of guests leave this machine.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Finds addresses.
    pub resolver: Arc<dyn Resolver>,
    /// Loopback may be connected to. For tests and for local runs against a service of one's own; never on a shared host.
    pub loopback: bool,
}

impl Default for Outbound {
    /// The system's resolver and the public internet only.
    fn default() -> Self {
        Self { resolver: Arc::new(System), loopback: false }
    }
}

/// A connection at work. Dropping it closes the connection.
#[derive(Debug)]
pub struct Driver {
    task: JoinHandle<()>,
}

impl Driver {
    /// Waits until the connection is done.
    pub async fn run(mut self) {
        let _broken_off = (&mut self.task).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Outbound {
    /// Sends a request to a target that was found allowed.
    pub(crate) async fn exchange<B>(
        &self,
        target: &Target,
        request: Request<B>,
    ) -> Result<(Response<Incoming>, Driver), Refusal>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let stream = tokio::time::timeout(CONNECT_TIME, self.connect(target)).await;
        let stream = stream.map_err(|_| Refusal::Timeout)??;
        if target.is_tls() {
            let stream = tokio::time::timeout(CONNECT_TIME, secure(stream, target)).await;
            return converse(stream.map_err(|_| Refusal::Timeout)??, target, request).await;
        }
        converse(stream, target, request).await
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream, Refusal> {
        let host = target.host();
        let addresses = match target.address() {
            Some(address) => vec![address],
            None => self.resolver.resolve(host, target.port()).await,
        };
        if addresses.is_empty() {
            return Err(Refusal::Resolve { host: host.to_owned() });
        }
        // One address inside makes the whole answer suspect: a name that mixes both is rebinding.
        if let Some(&address) = addresses.iter().find(|address| !self.may_reach(**address)) {
            return Err(Refusal::Address { host: host.to_owned(), address });
        }
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            if let Ok(stream) = TcpStream::connect(SocketAddr::new(address, target.port())).await {
                return Ok(stream);
            }
        }
        Err(Refusal::Connect { host: host.to_owned() })
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        is_global(address) || (self.loopback && address.is_loopback())
    }
}

async fn secure(
    stream: TcpStream,
    target: &Target,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Refusal> {
    let refused = || Refusal::Tls { host: target.host().to_owned() };
    let name = match target.address() {
        Some(address) => ServerName::IpAddress(address.into()),
        None => ServerName::try_from(target.host().to_owned()).map_err(|_| refused())?,
    };
    TlsConnector::from(roots()).connect(name, stream).await.map_err(|_| refused())
}

/// Mozilla's roots, as they were when this was built: a guest's trust does not depend on the machine.
fn roots() -> Arc<rustls::ClientConfig> {
    static CONFIG: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let make = || {
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().expect("ring speaks TLS 1.2 and 1.3");
        Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
    };
    CONFIG.get_or_init(make).clone()
}

async fn converse<S, B>(
    stream: S,
    target: &Target,
    request: Request<B>,
) -> Result<(Response<Incoming>, Driver), Refusal>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let broken = |_: hyper::Error| Refusal::Exchange { host: target.host().to_owned() };
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_headers(HEADERS_MAX).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(broken)?;
    let task = tokio::spawn(async move {
        let _broken_off = Box::pin(connection).await;
    });
    let driver = Driver { task };
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok((response, driver))
}
