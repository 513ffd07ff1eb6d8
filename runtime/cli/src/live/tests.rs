//! A live replay against a small HTTP server: times, lengths, refusals, lost and wrong answers as they are.

use super::*;
use crate::ui::Ui;
use clap::Parser;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: ReplayArgs,
}

/// What a model of the server does.
fn answer(model: &str, wanted: usize, out: &mut TcpStream) -> std::io::Result<()> {
    if model == "full" {
        let head = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return out.write_all(head.as_bytes());
    }
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nserver-timing: parked;dur=1, adapter_read;dur=5\r\n\
                connection: close\r\n\r\n";
    std::thread::sleep(Duration::from_millis(20));
    out.write_all(head.as_bytes())?;
    let text = if model == "liar" { "{\"json\": 1}" } else { "arr" };
    for n in 0..wanted {
        let piece = if n == 0 { text } else { " x" };
        let chunk = serde_json::json!({ "choices": [{ "index": 0, "text": piece, "finish_reason": null }] });
        write!(out, "data: {chunk}\n\n")?;
        std::thread::sleep(Duration::from_millis(2));
    }
    if model == "lossy" {
        return Ok(());
    }
    let end = serde_json::json!({ "choices": [{ "index": 0, "text": "", "finish_reason": "length" }] });
    let usage =
        serde_json::json!({ "choices": [], "usage": { "prompt_tokens": 7, "completion_tokens": wanted } });
    write!(out, "data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

fn serve(mut stream: TcpStream, models: &[&str]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let json = |value: serde_json::Value, stream: &mut TcpStream| {
        let text = value.to_string();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
    };
    match first.split(' ').nth(1).unwrap_or_default() {
        "/v1/models" => {
            let mut data = vec![serde_json::json!({ "id": "base", "parent": null })];
            data.extend(models.iter().map(|id| serde_json::json!({ "id": id, "parent": "base" })));
            json(serde_json::json!({ "data": data }), &mut stream)
        }
        "/tokenize" => json(serde_json::json!({ "tokens": (50..150).collect::<Vec<u32>>() }), &mut stream),
        "/v1/completions" => {
            assert!(
                body["ignore_eos"] == true && body["prompt"].as_array().is_some_and(|p| p.len() == 7),
                "{body}"
            );
            let wanted = body["max_tokens"].as_u64().unwrap_or(0) as usize;
            answer(body["model"].as_str().unwrap_or_default(), wanted, &mut stream)
        }
        other => panic!("asked for {other}"),
    }
}

/// A server on a port of its own; its thread ends with the test's process.
fn server(models: &'static [&'static str]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, models));
        }
    });
    format!("http://{address}")
}

fn replayed(models: &'static [&'static str], functions: &[&str], more: &[&str]) -> Outcome {
    let folder = tempfile::tempdir().expect("a folder");
    let trace = folder.path().join("trace.csv");
    let mut text = "arrival_s,function,adapter,base_model,prompt_tokens,output_tokens\n".to_owned();
    for (n, function) in functions.iter().enumerate() {
        text += &format!("{}.{},{function},{function},base,7,4\n", n / 10, n % 10);
    }
    std::fs::write(&trace, text).expect("written");
    let (trace, url) = (trace.to_string_lossy().into_owned(), server(models));
    let line = ["x", "--trace", &trace, "--live", &url, "--time-scale", "0.2"];
    let args = Line::try_parse_from(line.into_iter().chain(more.iter().copied())).expect("a good line").args;
    let ui = Ui { json: false, quiet: true, stop: Default::default() };
    replay(&args, &ui).expect("the server answers")
}

#[test]
fn answers_become_a_sound_report() {
    let outcome = replayed(&["pirate", "json"], &["pirate", "json", "pirate", "pirate"], &[]);
    let run = &outcome.report.policies[0].runs[0];
    assert_eq!(coldframe_simulator::report::check::check(&outcome.report), Vec::<String>::new());
    assert_eq!((run.requests.completed, run.prompt_tokens, run.output_tokens), (4, 28, 16));
    assert!(run.ttft_s.p50 >= 0.02, "the server thinks for 20 ms: {:?}", run.ttft_s);
    assert!(run.stages[4].mean_s > 0.0049 && run.stages[4].stage == "adapter", "{:?}", run.stages);
    assert_eq!(run.functions[0].name, "pirate");
    assert_eq!((outcome.ledger.sent, outcome.ledger.answered, outcome.ledger.off_length), (4, 4, 0));
    assert!(outcome.ledger.sound());
}

#[test]
fn refused_and_lost_are_told_apart() {
    let outcome = replayed(&["full", "lossy", "pirate"], &["full", "lossy", "pirate", "full"], &[]);
    let ledger = &outcome.ledger;
    assert_eq!((ledger.sent, ledger.answered, ledger.refused, ledger.lost), (4, 1, 2, 1));
    assert!(!ledger.sound() && outcome.report.warnings.iter().any(|w| w.contains("end mark")));
    assert_eq!(coldframe_simulator::report::check::check(&outcome.report), Vec::<String>::new());
}

#[test]
fn an_answer_of_another_adapter_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let markers = folder.path().join("markers.csv");
    std::fs::write(&markers, "pirate,arr\njson,{\"\n").expect("written");
    let path = markers.to_string_lossy().into_owned();
    let outcome = replayed(&["pirate", "liar"], &["pirate", "liar"], &["--expect", &path]);
    assert_eq!((outcome.ledger.signed, outcome.ledger.wrong), (1, 1), "{}", outcome.ledger.text());
    assert!(!outcome.ledger.sound());
}

#[test]
fn a_slow_host_does_not_slow_the_sender() {
    // Ten requests 20 ms apart take the server about 30 ms each: sent one after the other they would take 300 ms, so the
    // last one's wait would be over 100 ms.
    let outcome = replayed(&["pirate"], &["pirate"; 10], &["--seeds", "2"]);
    assert_eq!(outcome.report.policies[0].runs.len(), 2);
    assert_eq!(outcome.ledger.answered, 20);
}
