//! A web server for tests: one thread per connection, an answer per request, every request noted.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came.
#[derive(Clone)]
pub struct Asked {
    /// How many requests came before.
    pub number: usize,
    /// Path with query.
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}

/// What to send.
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    cut: usize,
    slow: bool,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), cut: usize::MAX, slow: false }
    }

    /// A file with a tag, whole or from where `Range` says, as servers do it.
    pub fn file(asked: &Asked, bytes: &[u8]) -> Self {
        let sum = bytes.iter().fold(0_u64, |sum, &b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
        let tag = format!("\"{sum:x}\"");
        let same = asked.header("if-range").is_none_or(|wanted| wanted == tag);
        let range = asked.header("range").filter(|_| same);
        let start =
            range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        let answer = match start {
            Some(start) if start >= bytes.len() => {
                Self::new(416, "").header("content-range", &format!("bytes */{}", bytes.len()))
            }
            Some(start) => Self::new(206, &bytes[start..])
                .header("content-range", &format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len())),
            None => Self::new(200, bytes),
        };
        answer.header("etag", &tag)
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Closes the connection after that many bytes of the body.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.cut = bytes;
        self
    }

    /// Sends piece by piece, with pauses.
    pub fn slow(mut self) -> Self {
        self.slow = true;
        self
    }
}

/// A running server; it ends with the process.
pub struct Web {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Web {
    pub fn new(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (noted, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, answer) = (noted.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream, &noted, &*answer));
            }
        });
        Self { port, asked }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no test panics in here").clone()
    }
}

/// Answers one request and closes.
fn serve(stream: &TcpStream, noted: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers.filter_map(|line| {
        let (key, value) = line.split_once(':')?;
        Some((key.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let headers = headers.collect();
    let asked = {
        let mut noted = noted.lock().expect("no test panics in here");
        let asked = Asked { number: noted.len(), path, headers };
        noted.push(asked.clone());
        asked
    };
    let answer = answer(&asked);
    let mut out = stream;
    let mut head = format!(
        "HTTP/1.1 {} x\r\ncontent-length: {}\r\nconnection: close\r\n",
        answer.status,
        answer.body.len()
    );
    for (key, value) in &answer.headers {
        head += &format!("{key}: {value}\r\n");
    }
    out.write_all((head + "\r\n").as_bytes()).ok()?;
    let body = &answer.body[..answer.body.len().min(answer.cut)];
    for piece in body.chunks(if answer.slow { 100_000 } else { usize::MAX }) {
        out.write_all(piece).ok()?;
        if answer.slow {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    out.flush().ok()
}
