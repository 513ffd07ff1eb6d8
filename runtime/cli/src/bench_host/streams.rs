//! Streams that are counted at two moments and otherwise left alone.
//!
//! The client shares its cores with the server that it measures, so it must cost nothing: it asks by hand over plain
//! sockets, sleeps while the tokens gather in the sockets' buffers, and counts events instead of reading them. One
//! stream, read as it comes, says when a step's tokens have arrived.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Time in which the other streams' tokens of a step arrive after the first one's: far less than a step.
const BEHIND: Duration = Duration::from_millis(4);
/// How often the streams are looked at while nothing has to be exact.
const LOOK: Duration = Duration::from_millis(50);
/// Events before the end of the measure from which on every one is watched.
const NEAR: usize = 16;
/// How long nothing may come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A streamed answer whose events are counted.
pub struct Stream {
    socket: TcpStream,
    events: usize,
    /// The last byte ended a line.
    line_ended: bool,
    head: Option<Vec<u8>>,
}

impl Stream {
    /// Asks; the answer is not waited for.
    pub fn ask(url: &str, path: &str, body: &Value) -> Result<Self> {
        let host = url.strip_prefix("http://").context("an http:// address")?;
        let mut socket = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes())?;
        Ok(Self { socket, events: 0, line_ended: false, head: Some(Vec::new()) })
    }

    /// Takes all that is there, or waits for something.
    fn take(&mut self, wait: bool) -> Result<()> {
        self.socket.set_nonblocking(!wait)?;
        let mut chunk = [0; 16 << 10];
        loop {
            match self.socket.read(&mut chunk) {
                Ok(0) => anyhow::bail!("a stream broke off after {} events", self.events),
                Ok(read) => self.count(&chunk[..read])?,
                Err(error) if !wait && error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("a stream says nothing"),
            }
            if wait {
                return Ok(());
            }
        }
    }

    /// Events end with an empty line; a chunk's own lines end in two bytes and make none.
    fn count(&mut self, mut bytes: &[u8]) -> Result<()> {
        if let Some(head) = &mut self.head {
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(()) };
            let text = String::from_utf8_lossy(&head[..end]).into_owned();
            ensure!(text.starts_with("HTTP/1.1 200"), "not answered: {}", String::from_utf8_lossy(head));
            let rest = head.split_off(end + 4);
            self.head = None;
            return self.count(&rest);
        }
        while let Some((byte, rest)) = bytes.split_first() {
            bytes = rest;
            self.events += usize::from(self.line_ended && *byte == b'\n');
            self.line_ended = *byte == b'\n' && !self.line_ended;
        }
        Ok(())
    }
}

/// Events a second of all streams together over about `events` of each, from the moment when all have begun.
pub fn rate(mut streams: Vec<Stream>, events: usize) -> Result<f64> {
    while streams.iter().any(|stream| stream.events == 0) {
        std::thread::sleep(BEHIND);
        streams.iter_mut().try_for_each(|stream| stream.take(false))?;
    }
    let (from, before) = step(&mut streams)?;
    let until = streams[0].events + events;
    while streams[0].events + NEAR < until {
        std::thread::sleep(LOOK);
        streams[0].take(false)?;
    }
    while streams[0].events + 1 < until {
        streams[0].take(true)?;
    }
    let (to, after) = step(&mut streams)?;
    Ok((after - before) as f64 / to.duration_since(from).as_secs_f64())
}

/// What is asked of a stream.
pub struct Ask {
    /// The route.
    pub path: &'static str,
    /// The body.
    pub body: Value,
}

/// What callers in a closed loop got.
pub struct Done {
    /// Answers that began.
    pub begun: usize,
    /// Events that tell of a token.
    pub events: usize,
    /// How long it took.
    pub took: Duration,
}

/// Callers that each ask anew when their answer of `tokens` events has ended.
pub fn closed_loop(
    url: &str,
    mut ask: impl FnMut() -> Ask,
    callers: usize,
    tokens: usize,
    time: Duration,
) -> Result<Done> {
    let mut next = || {
        let Ask { path, body } = ask();
        Stream::ask(url, path, &body)
    };
    let mut streams = (0..callers).map(|_| next()).collect::<Result<Vec<_>>>()?;
    let (mut begun, mut events, start) = (0, 0, Instant::now());
    while start.elapsed() < time {
        std::thread::sleep(BEHIND);
        for stream in &mut streams {
            let before = stream.events.min(tokens);
            stream.take(false)?;
            begun += usize::from(before == 0 && stream.events > 0);
            events += stream.events.min(tokens) - before;
            // The reason why it ended and the end of the stream are events too.
            if stream.events == tokens + 2 {
                *stream = next()?;
            }
        }
    }
    Ok(Done { begun, events, took: start.elapsed() })
}

/// Waits for a step's tokens; when they came, and all events until then.
fn step(streams: &mut [Stream]) -> Result<(Instant, usize)> {
    let events = streams[0].events;
    // What lies there already is of a step before.
    streams[0].take(false)?;
    let old = streams[0].events.max(events);
    while streams[0].events == old {
        streams[0].take(true)?;
    }
    let at = Instant::now();
    std::thread::sleep(BEHIND);
    streams.iter_mut().try_for_each(|stream| stream.take(false))?;
    Ok((at, streams.iter().map(|stream| stream.events).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn events_are_counted_wherever_the_bytes_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mut stream = Stream::ask(&url, "/", &Value::Null).expect("a connection");
        let answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n12\r\ndata: 2\n\ndata: 3\n\n\r\n";
        for cut in 1..answer.len() {
            stream.events = 0;
            stream.line_ended = false;
            stream.head = Some(Vec::new());
            stream.count(&answer[..cut]).expect("well formed");
            stream.count(&answer[cut..]).expect("well formed");
            assert_eq!(stream.events, 3, "cut at {cut}");
        }
        stream.head = Some(Vec::new());
        assert!(stream.count(b"HTTP/1.1 503 busy\r\n\r\n").is_err());
    }
}
