//! Traces of a whole server at a collector of this test, and that no secret is written anywhere.

use super::{OPERATOR, Server};
use crate::tiny::Tiny;
use coldframe_host::auth::Secret;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const CANARY: &str = "canary-of-the-collector";

/// A collector: takes one request a connection, passes on its head and its body.
fn collector() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            reader.get_mut().write_all(answer).expect("it listens");
            if sender.send((head, serde_json::from_slice(&body).expect("JSON"))).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

/// Spans until there is one of this name, or a long time has passed.
fn spans(batches: &Receiver<(String, Value)>, name: &str) -> (String, Vec<Value>) {
    let (mut heads, mut all) = (String::new(), Vec::new());
    for _ in 0..20 {
        let Ok((head, batch)) = batches.recv_timeout(Duration::from_secs(20)) else { break };
        heads.push_str(&head);
        all.extend(
            batch["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().expect("spans").iter().cloned(),
        );
        if all.iter().any(|span| span["name"] == name) {
            return (heads, all);
        }
    }
    panic!("no span `{name}` came: {all:#?}");
}

fn number(span: &Value, field: &str) -> u64 {
    span[field].as_str().expect("a text").parse().expect("a number")
}

#[test]
fn a_call_is_one_trace_with_its_phases_in_order() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let (endpoint, batches) = collector();
    let server = Server::start(tiny, data.path(), move |config| {
        config.traces.endpoint = Some(endpoint);
        config.traces.headers = Some(Secret::new(format!("x-collector-key={CANARY}")));
    });
    server.register("f-a", "a").expect(201);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let body = json!({"model": "f-a", "prompt": "hello", "max_tokens": 4, "temperature": 0}).to_string();
    let unsampled = [("traceparent", "00-11111111111111111111111111111111-b7ad6b7169203331-00")];
    server.ask(OPERATOR, "POST", "/v1/completions", &unsampled, &body).expect(200);
    let sampled = format!("00-{trace}-b7ad6b7169203331-01");
    server.ask(OPERATOR, "POST", "/v1/completions", &[("traceparent", &sampled)], &body).expect(200);
    let (heads, all) = spans(&batches, "generate");
    assert!(heads.contains(CANARY), "the collector's own key goes to the collector");
    assert!(!format!("{all:?}").contains(OPERATOR) && !format!("{all:?}").contains("1111111111111111"));
    let root = all.iter().find(|span| span["name"] == "POST /v1/completions").expect("the exchange");
    assert_eq!(
        (root["traceId"].as_str(), root["parentSpanId"].as_str()),
        (Some(trace), Some("b7ad6b7169203331"))
    );
    assert_eq!(root["kind"], 2);
    let parts: Vec<&Value> = all.iter().filter(|span| span["parentSpanId"] == root["spanId"]).collect();
    let names: Vec<&str> = parts.iter().filter_map(|span| span["name"].as_str()).collect();
    assert!(names.contains(&"prefill") && names.last() == Some(&"generate"), "{names:?}");
    assert_eq!(number(parts[0], "startTimeUnixNano"), number(root, "startTimeUnixNano"));
    for pair in parts.windows(2) {
        assert_eq!(number(pair[0], "endTimeUnixNano"), number(pair[1], "startTimeUnixNano"), "{names:?}");
    }
    let function = json!({"key": "coldframe.function", "value": {"stringValue": "f-a"}});
    let last = parts.last().expect("a generation");
    assert!(last["attributes"].as_array().expect("a list").contains(&function), "{last:#}");
}

/// Whether a file below a folder holds a text.
fn holds(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).expect("a folder").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return holds(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[test]
fn no_secret_is_written_anywhere() {
    let (tiny, data) = (Arc::new(Tiny::new()), tempfile::tempdir().expect("a folder"));
    let server = Server::start(tiny, data.path(), |_| {});
    server.register("f-a", "a").expect(201);
    server.operator("PUT", "/admin/v1/tenants/acme", &json!({})).expect(201);
    let key = server.key("acme", "admin");
    server.ask(&key, "GET", "/admin/v1/functions", &[], "").expect(200);
    server.ask("wrong-canary-key-of-tests", "GET", "/admin/v1/functions", &[], "").expect(401);
    server.say("f-a").expect(200);
    let mut said = String::new();
    for path in
        ["/metrics", "/info", "/admin/v1/overview", "/admin/v1/keys?tenant=acme", "/admin/v1/audit", "/"]
    {
        said += &server.operator("GET", path, &Value::Null).expect(200).text;
    }
    drop(server);
    assert!(holds(data.path(), "f-a"), "the search finds what is there");
    let secret = key.rsplit('_').next().expect("a secret");
    for canary in [OPERATOR, secret, "wrong-canary-key-of-tests"] {
        assert!(!said.contains(canary) && !holds(data.path(), canary), "{canary}");
    }
}
