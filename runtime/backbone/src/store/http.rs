//! HTTP as the store needs it: redirects that stay safe, retries with patience, bodies that a Ctrl-C can leave.
//!
//! Certificates are checked against the system's (`SSL_CERT_FILE` is honoured), proxies come from the environment. A
//! reply is read on a thread of its own, so that neither a stalled server nor a slow name lookup holds up a stop.

use super::Watch;
use super::address::Address;
use crate::error::{Error, Result};
use std::io::Read;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Redirects followed before giving up; browsers stop at 20, hubs need 2: arbitrary.
const REDIRECTS_MAX: usize = 8;
/// Requests for one file, the first included, that may fail in a row: arbitrary.
const TRIES_MAX: u32 = 5;
/// Longest wait that a server's `Retry-After` is believed for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Silence after which a transfer counts as broken.
const STALL: Duration = Duration::from_secs(60);
/// How often a waiting reader looks at the stop flag.
const LOOK: Duration = Duration::from_millis(50);
/// Bytes of a page (an index, a listing) that are read at most.
const PAGE_MAX: u64 = 64 << 20;

/// Asks servers.
pub struct Client {
    agent: ureq::Agent,
    insecure: bool,
}

/// What is asked for.
#[derive(Clone)]
pub struct Ask {
    /// Where.
    pub address: Address,
    /// Extra headers.
    pub headers: Vec<(&'static str, String)>,
    /// A bearer token, sent to the first host only.
    pub token: Option<String>,
}

impl Ask {
    /// A plain request.
    pub fn new(address: Address) -> Self {
        Self { address, headers: Vec::new(), token: None }
    }
}

/// A reply with a body still to be read.
pub struct Reply {
    /// Where it came from, after redirects.
    pub address: Address,
    /// HTTP status.
    pub status: u16,
    /// Headers by lower-case name.
    headers: Vec<(String, String)>,
    body: Receiver<std::io::Result<Vec<u8>>>,
}

impl Reply {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Bytes the body will have, if the server says so.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the watch says stop; [`Error::Network`] where the transfer breaks or stalls.
    pub fn next(&mut self, watch: &Watch<'_>) -> Result<Option<Vec<u8>>> {
        match received(&self.body, &self.address, watch)? {
            Some(Ok(bytes)) => Ok(Some(bytes)),
            Some(Err(error)) => Err(broken(&self.address, format!("the transfer broke: {error}"))),
            None => Ok(None),
        }
    }

    /// The whole body of a small page.
    ///
    /// # Errors
    /// As [`Reply::next`]; [`Error::TooLarge`] beyond 64 MiB.
    pub fn page(mut self, watch: &Watch<'_>) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next(watch)? {
            all.extend(bytes);
            if all.len() as u64 > PAGE_MAX {
                let what = self.address.to_string();
                return Err(Error::TooLarge { what, size: all.len() as u64, limit: PAGE_MAX });
            }
        }
        Ok(all)
    }
}

/// What a thread sends first.
type Head = std::result::Result<(u16, Vec<(String, String)>), String>;

impl Client {
    /// A client; `insecure` allows plain http beyond this machine.
    pub fn new(insecure: bool) -> Self {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(STALL))
            .user_agent(concat!("coldframe/", env!("CARGO_PKG_VERSION")))
            // A compressed transfer has no length to check and no range to resume.
            .accept_encoding("identity")
            .build()
            .new_agent();
        Self { agent, insecure }
    }

    /// Asks, follows redirects, and waits and asks again where a server is busy or out of reach. Replies other than
    /// 2xx and 416 are errors.
    ///
    /// # Errors
    /// [`Error::Network`] with the status and what to do, [`Error::Interrupted`].
    pub fn get(&self, ask: &Ask, watch: &Watch<'_>) -> Result<Reply> {
        let mut tries = 1;
        loop {
            let (wait, error) = match self.follow(ask, watch) {
                Ok(reply) if (200..300).contains(&reply.status) || reply.status == 416 => return Ok(reply),
                Ok(reply) if !busy(reply.status) => return Err(refused(&reply, ask.token.is_some())),
                Ok(reply) => (asked_wait(&reply), refused(&reply, ask.token.is_some())),
                Err(error @ Error::Network { .. }) if passing(&error) => (None, error),
                Err(error) => return Err(error),
            };
            if tries == TRIES_MAX {
                return Err(error);
            }
            pause(wait.unwrap_or_else(|| backoff(tries)), watch)?;
            tries += 1;
        }
    }

    fn follow(&self, ask: &Ask, watch: &Watch<'_>) -> Result<Reply> {
        let mut address = ask.address.clone();
        for _ in 0..=REDIRECTS_MAX {
            self.allowed(&address)?;
            let reply = self.once(ask, &address, watch)?;
            let onward = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
            let Some(link) = onward.then(|| reply.header("location")).flatten() else { return Ok(reply) };
            let next = address.join(link)?;
            if address.secure() && !next.secure() {
                return Err(refusal(&address, format!("it redirects to {next}, which is not https")));
            }
            address = next;
        }
        Err(refusal(&ask.address, format!("it redirects more than {REDIRECTS_MAX} times")))
    }

    fn allowed(&self, address: &Address) -> Result<()> {
        if address.secure() || address.loopback() || self.insecure {
            return Ok(());
        }
        Err(refusal(
            address,
            "plain http is readable and changeable on its way: use https, or --insecure".into(),
        ))
    }

    /// One request on its own thread.
    fn once(&self, ask: &Ask, address: &Address, watch: &Watch<'_>) -> Result<Reply> {
        let scheme = if address.secure() { "https" } else { "http" };
        let mut request = self.agent.get(format!("{scheme}://{}{}", address.host(), address.path()));
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        let same_host = address.host() == ask.address.host() && address.secure() >= ask.address.secure();
        let bearer = ask.token.as_ref().filter(|_| same_host).map(|token| format!("Bearer {token}"));
        if let Some(value) = bearer.or_else(|| address.basic()) {
            request = request.header("authorization", value);
        }
        let (head_out, head_in) = sync_channel::<Head>(1);
        // Four buffers in flight keep the wire busy while the disk writes.
        let (body_out, body) = sync_channel(4);
        std::thread::spawn(move || transfer(request, &head_out, &body_out));
        match received(&head_in, address, watch)? {
            Some(Ok((status, headers))) => Ok(Reply { address: address.clone(), status, headers, body }),
            Some(Err(problem)) => Err(broken(address, problem)),
            None => Err(broken(address, "the transfer ended without a reply".into())),
        }
    }
}

fn transfer(
    request: ureq::RequestBuilder<ureq::typestate::WithoutBody>,
    head: &SyncSender<Head>,
    body: &SyncSender<std::io::Result<Vec<u8>>>,
) {
    let reply = match request.call() {
        Ok(reply) => reply,
        Err(error) => return drop(head.send(Err(error.to_string()))),
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
                body.send(Ok(buffer))
            }
            Err(error) => return drop(body.send(Err(error))),
        };
        // The reader went away: stopped, or the rest is not wanted.
        if sent.is_err() {
            return;
        }
    }
}

/// Waits for a message, with an eye on the stop flag; `None` when the sender is gone.
fn received<T>(from: &Receiver<T>, address: &Address, watch: &Watch<'_>) -> Result<Option<T>> {
    let started = Instant::now();
    loop {
        watch.check()?;
        match from.recv_timeout(LOOK) {
            Ok(message) => return Ok(Some(message)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) if started.elapsed() > STALL + LOOK => {
                return Err(broken(address, format!("no answer for {} s", STALL.as_secs())));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Waits, unless told to stop.
pub fn pause(time: Duration, watch: &Watch<'_>) -> Result<()> {
    let until = Instant::now() + time;
    loop {
        watch.check()?;
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK));
    }
}

/// Wait before try `tries + 1`: 0.25 s, doubled each time.
pub fn backoff(tries: u32) -> Duration {
    Duration::from_millis(250 << tries.saturating_sub(1).min(6))
}

fn busy(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Whether trying again may help: name lookups, connections and transfers break, certificates do not heal.
fn passing(error: &Error) -> bool {
    let text = error.to_string();
    text.contains(BROKEN) && !text.contains("certificate")
}

fn asked_wait(reply: &Reply) -> Option<Duration> {
    let seconds = reply.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

const BROKEN: &str = "; check the network and try again";

fn broken(address: &Address, problem: String) -> Error {
    Error::Network { address: address.to_string(), problem: problem + BROKEN }
}

fn refusal(address: &Address, problem: String) -> Error {
    Error::Network { address: address.to_string(), problem }
}

fn refused(reply: &Reply, token: bool) -> Error {
    let hint = match reply.status {
        401 | 403 if token => "the token may not read this; ask its owner for access",
        401 | 403 => {
            "access is restricted; set HF_TOKEN for a gated model, or put credentials in the index's address"
        }
        404 | 410 => "there is nothing here; check name, version and path",
        429 => "the server is busy; try again later",
        500.. => "the server failed; try again later",
        _ => "an answer this program does not expect",
    };
    refusal(&reply.address, format!("HTTP {}: {hint}", reply.status))
}
