//! One request: sent when due, its stream read to the end, every time taken on the way.

use super::client::Client;
use super::plan::Planned;
use super::sse::Events;
use super::timing::phases;
use coldframe_simulator::observed::{End, Observed};
use http_body_util::BodyExt;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Instant;

/// Bytes of an answer's text that are kept for the checker.
const TEXT_MAX: usize = 64 << 10;

/// What came of a request.
#[derive(Debug, Default)]
pub struct Answered {
    /// As the simulator sees it.
    pub observed: Observed,
    /// The text.
    pub text: String,
    /// Ends beyond the first, and events after the end.
    pub extra_ends: u32,
    /// When each piece with a token came, ns from the run's start, where somebody asks.
    pub at: Option<Vec<u64>>,
}

/// The body of a request for a completion of token ids.
pub fn completion(planned: &Planned, prompt: &[u32], seed: u64) -> Value {
    json!({
        "model": planned.model, "prompt": prompt, "max_tokens": planned.output, "ignore_eos": true, "temperature": 0,
        "seed": seed, "stream": true, "stream_options": { "include_usage": true },
    })
}

/// The body of a request that asks something in a chat.
pub fn chat(planned: &Planned, ask: &str, seed: u64) -> Value {
    json!({
        "model": planned.model, "messages": [{ "role": "user", "content": ask }], "max_tokens": planned.output,
        "temperature": 0, "seed": seed, "stream": true, "stream_options": { "include_usage": true },
    })
}

/// Sends a body and reads its answer into `answered`, which knows the request; `start` is the run's.
pub async fn send(client: &Client, path: &str, body: Value, answered: Answered, start: Instant) -> Answered {
    let now = || start.elapsed().as_nanos() as u64;
    let mut reading = Reading { answered, ..Reading::default() };
    reading.answered.observed.sent_ns = now();
    let failed = match client.send(Method::POST, path, body.to_string().into()).await {
        Ok(response) => reading.read(response, &now).await.err(),
        Err(error) => Some(error.to_string()),
    };
    reading.finish(failed, now())
}

/// An answer being read.
#[derive(Default)]
struct Reading {
    answered: Answered,
    last_ns: u64,
    finished: bool,
    done: bool,
    refused: bool,
}

impl Reading {
    async fn read(
        &mut self,
        response: hyper::Response<hyper::body::Incoming>,
        now: &impl Fn() -> u64,
    ) -> Result<(), String> {
        let status = response.status();
        self.refused = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        self.phases(response.headers());
        let mut body = response.into_body();
        let mut events = Events::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("the answer broke off: {error}"))?;
            if let Some(trailers) = frame.trailers_ref() {
                self.phases(trailers);
            }
            let Some(piece) = frame.data_ref() else { continue };
            if !status.is_success() {
                continue;
            }
            for data in events.push(piece) {
                self.event(&data, now())?;
            }
        }
        if status.is_success() { Ok(()) } else { Err(format!("the host answered {status}")) }
    }

    fn phases(&mut self, headers: &hyper::HeaderMap) {
        for header in headers.get_all("server-timing").iter().filter_map(|value| value.to_str().ok()) {
            self.answered.observed.phases.extend(phases(header));
        }
    }

    fn event(&mut self, data: &str, now: u64) -> Result<(), String> {
        if self.done {
            self.answered.extra_ends += 1;
            return Ok(());
        }
        if data == "[DONE]" {
            self.done = true;
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(data).map_err(|_| "the stream holds no JSON".to_owned())?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            return Err(format!("the host ended the stream: {error}"));
        }
        if let Some(choice) = chunk["choices"].get(0) {
            self.choice(choice, now);
        }
        let count = |key: &str| chunk["usage"][key].as_u64().and_then(|n| u32::try_from(n).ok());
        let observed = &mut self.answered.observed;
        observed.prompt_tokens = count("prompt_tokens").unwrap_or(observed.prompt_tokens);
        observed.output_tokens = count("completion_tokens").unwrap_or(observed.output_tokens);
        Ok(())
    }

    fn choice(&mut self, choice: &Value, now: u64) {
        let text = choice["text"].as_str().or_else(|| choice["delta"]["content"].as_str());
        let ended = choice["finish_reason"].is_string();
        // A chat's first piece holds only the role: no token came yet.
        let role_only = choice["delta"].get("role").is_some() && text.is_none_or(str::is_empty) && !ended;
        if !role_only {
            let observed = &mut self.answered.observed;
            if observed.first_ns == 0 {
                observed.first_ns = now;
            } else {
                observed.worst_gap_ns = observed.worst_gap_ns.max(now - self.last_ns);
            }
            observed.end_ns = now;
            self.last_ns = now;
            if let Some(at) = self.answered.at.as_mut().filter(|_| !ended) {
                at.push(now);
            }
        }
        if let Some(text) = text.filter(|_| self.answered.text.len() < TEXT_MAX) {
            self.answered.text.push_str(text);
        }
        if ended {
            self.answered.extra_ends += u32::from(self.finished);
            self.finished = true;
        }
    }

    fn finish(mut self, failed: Option<String>, now: u64) -> Answered {
        let observed = &mut self.answered.observed;
        observed.end = match failed {
            _ if self.refused => End::Refused,
            Some(reason) => End::Failed(reason),
            None if self.finished && self.done => End::Completed,
            None => End::Failed("the stream ended without its end mark".to_owned()),
        };
        if observed.end != End::Completed {
            observed.end_ns = now;
        }
        self.answered
    }
}
