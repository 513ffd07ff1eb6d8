//! A real socket and clients that are slow, rude or gone; the server's end.

use super::scripted::{Seen, app_with, chat, with};
use coldframe_host::http::{Limits, Settings, server};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Limits that make slowness show within a test's time.
fn short() -> Limits {
    let ms = Duration::from_millis;
    Limits {
        header_time: ms(300),
        body_time: ms(300),
        idle: ms(400),
        write_idle: ms(500),
        grace: ms(300),
        keep_alive: ms(100),
        reserved_time: ms(300),
        ..Limits::default()
    }
}

/// A server under test; it stops when `stop` is sent or dropped.
struct Serving {
    address: SocketAddr,
    seen: Arc<Seen>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<()>,
}

async fn serve(limits: Limits) -> Serving {
    let (app, seen) = app_with(Settings { limits, ..Settings::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stop, stopped) = oneshot::channel();
    let shutdown = async move { drop(stopped.await) };
    let done = tokio::spawn(server::run(listener, app, None, shutdown));
    Serving { address, seen, stop, done }
}

impl Serving {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Waits until no call runs.
    async fn quiet(&self) {
        for _ in 0..500 {
            if self.seen.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("a call goes on without a client");
    }
}

fn post(body: &serde_json::Value) -> String {
    let body = body.to_string();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer acme-invoke\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Everything until the server closes, within ten seconds.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes)).await;
    // A reset is an end as well.
    let _ = read.expect("the server closes the connection");
    String::from_utf8_lossy(&bytes).into_owned()
}

fn endless() -> serde_json::Value {
    with(chat("pirate", "endless"), json!({"stream": true}))
}

#[tokio::test]
async fn a_client_that_says_nothing_or_drips_is_closed() {
    let server = serve(short()).await;
    let mut silent = server.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    let mut dripping = server.connect().await;
    let drip = async {
        loop {
            // One header line after another, never the end.
            if dripping.write_all(b"GET /health HTTP/1.1\r\nx-a: b\r\n").await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), drip).await.expect("the server closes the connection");
    assert!(server.seen.closed.lock().unwrap().contains(&"idle"));
}

#[tokio::test]
async fn a_body_that_drips_is_refused() {
    let server = serve(short()).await;
    let mut stream = server.connect().await;
    let head = post(&json!({})).replace("content-length: 2", "content-length: 1000");
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = rest(&mut stream).await;
    assert!(text.starts_with("HTTP/1.1 408") && text.contains("request_timeout"), "{text}");
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while_and_then_closed() {
    let server = serve(short()).await;
    let mut stream = server.connect().await;
    for _ in 0..2 {
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut bytes = [0; 1024];
        let count = stream.read(&mut bytes).await.unwrap();
        assert!(bytes[..count].starts_with(b"HTTP/1.1 200"));
    }
    assert_eq!(rest(&mut stream).await, "");
}

#[tokio::test]
async fn a_client_that_goes_ends_its_call() {
    let server = serve(short()).await;
    let mut stream = server.connect().await;
    stream.write_all(post(&endless()).as_bytes()).await.unwrap();
    let mut bytes = [0; 4096];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    assert_eq!(server.seen.running.load(Ordering::SeqCst), 1);
    drop(stream);
    server.quiet().await;
}

#[tokio::test]
async fn a_client_that_goes_before_its_answer_ends_its_call() {
    let server = serve(short()).await;
    let mut stream = server.connect().await;
    stream.write_all(post(&chat("pirate", "endless")).as_bytes()).await.unwrap();
    while server.seen.running.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(stream);
    server.quiet().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_cut_off() {
    let server = serve(short()).await;
    let mut stream = server.connect().await;
    stream.write_all(post(&endless()).as_bytes()).await.unwrap();
    let mut bytes = [0; 16];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    server.quiet().await;
    assert!(server.seen.closed.lock().unwrap().contains(&"write_idle"));
}

#[tokio::test]
async fn a_quiet_stream_gets_comments() {
    let limits = Limits { keep_alive: Duration::from_millis(20), ..short() };
    let server = serve(limits).await;
    let mut stream = server.connect().await;
    let body = with(chat("pirate", "slowly"), json!({"stream": true}));
    stream
        .write_all(post(&body).replace("\r\nhost", "\r\nconnection: close\r\nhost").as_bytes())
        .await
        .unwrap();
    let text = rest(&mut stream).await;
    assert!(text.contains(": still at work") && text.contains("data: [DONE]"), "{text}");
}

#[tokio::test]
async fn a_full_server_still_answers_its_probes() {
    let server =
        serve(Limits { connections: 2, reserved: 1, header_time: Duration::from_secs(5), ..short() }).await;
    let held = [server.connect().await, server.connect().await];
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut probe = server.connect().await;
    probe.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(rest(&mut probe).await.starts_with("HTTP/1.1 200"));
    let mut other = server.connect().await;
    other.write_all(post(&chat("pirate", "hi")).as_bytes()).await.unwrap();
    let text = rest(&mut other).await;
    assert!(text.starts_with("HTTP/1.1 503") && text.contains("retry-after"), "{text}");
    drop(held);
}

#[tokio::test]
async fn a_server_that_stops_lets_answers_finish() {
    let server = serve(Limits { grace: Duration::from_secs(10), ..short() }).await;
    let mut stream = server.connect().await;
    stream
        .write_all(post(&with(chat("pirate", "slowly"), json!({"stream": true}))).as_bytes())
        .await
        .unwrap();
    let mut bytes = [0; 16];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    server.stop.send(()).unwrap();
    assert!(rest(&mut stream).await.contains("data: [DONE]"));
    server.done.await.expect("an end");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn a_stream_that_outlasts_the_grace_is_told_so() {
    let server = serve(Limits { write_idle: Duration::from_secs(20), ..short() }).await;
    let mut stream = server.connect().await;
    let body = with(endless(), json!({"messages": [{"role": "user", "content": "slowly"}], "n": 16}));
    stream.write_all(post(&body).as_bytes()).await.unwrap();
    let mut bytes = [0; 16];
    assert!(stream.read(&mut bytes).await.unwrap() > 0);
    server.stop.send(()).unwrap();
    let text = rest(&mut stream).await;
    assert!(text.contains("\"code\":\"draining\"") && !text.contains("[DONE]"), "{text}");
    server.done.await.expect("an end");
}
