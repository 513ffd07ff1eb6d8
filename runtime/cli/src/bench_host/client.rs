//! A client that notes when each token came and what the server said of its own time.

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as lost. Arbitrary, far beyond the host's own patience.
const PATIENCE: Duration = Duration::from_secs(120);

/// A client of one server; clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

/// A reply to something else than a stream.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Its JSON, or its text.
    pub value: Value,
}

/// A streamed answer, as it came.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The answer's text.
    pub text: String,
    /// The answer's id.
    pub id: String,
    /// The generation that answered.
    pub generation: Option<String>,
    /// From the moment before sending to the first event.
    pub ttft: Duration,
    /// When each event with a token came.
    pub at: Vec<Instant>,
    /// Phases in the order told, milliseconds; `ttft` is not among them.
    pub phases: Vec<(String, f64)>,
    /// The server's own sum.
    pub server_ttft_ms: f64,
    /// How cold the function was.
    pub cold: String,
}

/// What became of a streamed request.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was answered to its end.
    Answered(Box<Told>),
    /// It was refused: status, code, whether `Retry-After` was there.
    Refused { status: u16, code: String, retry_after: bool },
    /// It broke off, ended with an error, or never came.
    Lost(String),
}

impl Outcome {
    /// The answer.
    ///
    /// # Errors
    /// What came instead.
    pub fn answered(self) -> Result<Told> {
        match self {
            Self::Answered(told) => Ok(*told),
            Self::Refused { status, code, .. } => Err(anyhow!("refused: {status} {code}")),
            Self::Lost(why) => Err(anyhow!("no answer: {why}")),
        }
    }
}

impl Client {
    /// A client of the server at `url`.
    pub fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_idle_connections_per_host(256)
            .max_idle_connections(256)
            .max_redirects(0)
            .build()
            .new_agent();
        Self { agent, url: url.to_owned() }
    }

    /// Sends JSON and reads JSON.
    ///
    /// # Errors
    /// Where no whole reply came.
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Reply> {
        let address = format!("{}{path}", self.url);
        let reply = match method {
            "GET" => self.agent.get(address).call(),
            "DELETE" => self.agent.delete(address).call(),
            "PUT" => {
                self.agent.put(address).header("content-type", "application/json").send(body.to_string())
            }
            _ => self.agent.post(address).header("content-type", "application/json").send(body.to_string()),
        }?;
        let status = reply.status().as_u16();
        let text = reply.into_body().read_to_string()?;
        Ok(Reply { status, value: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
    }

    /// Sends JSON and expects success.
    ///
    /// # Errors
    /// Where the reply is none or an error.
    pub fn good(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let reply = self.send(method, path, body)?;
        ensure!((200..300).contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.value);
        Ok(reply.value)
    }

    /// Registers the adapter in `folder` as `function`, and returns its generation.
    ///
    /// # Errors
    /// As [`Client::good`].
    pub fn register(&self, function: &str, folder: &Path) -> Result<String> {
        let folder = std::path::absolute(folder)?;
        let body = json!({"adapters": [{"uri": format!("file://{}", folder.display())}]});
        let value = self.good("PUT", &format!("/admin/v1/functions/{function}"), &body)?;
        Ok(value["generation"].as_str().context("a generation")?.to_owned())
    }

    /// Completes a prompt of token ids to exactly `tokens` tokens, likeliest first.
    pub fn complete(&self, model: &str, prompt: &[u32], tokens: u32) -> Outcome {
        let body = json!({
            "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "stream": true,
        });
        self.stream("/v1/completions", &body)
    }

    /// Asks a question, likeliest tokens first.
    pub fn chat(&self, model: &str, question: &str, tokens: u32) -> Outcome {
        let body = json!({
            "model": model, "messages": [{"role": "user", "content": question}], "max_tokens": tokens,
            "temperature": 0, "stream": true,
        });
        self.stream("/v1/chat/completions", &body)
    }

    fn stream(&self, path: &str, body: &Value) -> Outcome {
        let body = body.to_string();
        let sent = Instant::now();
        let request =
            self.agent.post(format!("{}{path}", self.url)).header("content-type", "application/json");
        let reply = match request.send(body) {
            Ok(reply) => reply,
            Err(error) => return Outcome::Lost(error.to_string()),
        };
        let status = reply.status().as_u16();
        if status != 200 {
            let retry_after = reply.headers().contains_key("retry-after");
            let text = reply.into_body().read_to_string().unwrap_or_default();
            let value: Value = serde_json::from_str(&text).unwrap_or_default();
            let code = value["error"]["code"].as_str().unwrap_or("none").to_owned();
            return Outcome::Refused { status, code, retry_after };
        }
        let mut told = Told::default();
        let timing = reply.headers().get("server-timing").and_then(|value| value.to_str().ok());
        told.hear_timing(timing.unwrap_or_default());
        let reader = BufReader::new(reply.into_body().into_with_config().limit(u64::MAX).reader());
        match told.hear(reader, sent) {
            Ok(()) => Outcome::Answered(Box::new(told)),
            Err(error) => Outcome::Lost(format!("{error:#}")),
        }
    }
}

impl Told {
    /// Reads the stream to its `[DONE]`.
    fn hear(&mut self, mut reader: impl BufRead, sent: Instant) -> Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(reader.read_line(&mut line)? > 0, "the stream broke off after {:?}", self.text);
            let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                return Ok(());
            }
            let now = Instant::now();
            if self.at.is_empty() && self.id.is_empty() {
                self.ttft = now.duration_since(sent);
            }
            let event: Value = serde_json::from_str(data)?;
            ensure!(event.get("error").is_none(), "{}", event["error"]);
            self.hear_event(&event, now)?;
        }
    }

    fn hear_event(&mut self, event: &Value, now: Instant) -> Result<()> {
        let id = event["id"].as_str().context("an id")?;
        ensure!(self.id.is_empty() || self.id == id, "two ids in one stream: {} and {id}", self.id);
        id.clone_into(&mut self.id);
        self.generation = event["adapter_generation"].as_str().map(str::to_owned);
        let choice = &event["choices"][0];
        let text = choice["text"].as_str().or_else(|| choice["delta"]["content"].as_str());
        if let Some(text) = text {
            self.text.push_str(text);
            // The first event of a chat has a role and no token.
            if choice["delta"].get("role").is_none() && choice["finish_reason"].is_null() {
                self.at.push(now);
            }
        }
        Ok(())
    }

    fn hear_timing(&mut self, header: &str) {
        for part in header.split(", ") {
            if let Some(cold) = part.strip_prefix("cold;desc=") {
                cold.trim_matches('"').clone_into(&mut self.cold);
            } else if let Some((name, ms)) = part.split_once(";dur=") {
                let ms = ms.parse().unwrap_or(0.0);
                match name {
                    "ttft" => self.server_ttft_ms = ms,
                    _ => self.phases.push((name.to_owned(), ms)),
                }
            }
        }
    }

    /// The sum of the phases, milliseconds.
    pub fn phases_ms(&self) -> f64 {
        self.phases.iter().map(|(_, ms)| ms).sum()
    }

    /// Time to the first event, milliseconds.
    pub fn ttft_ms(&self) -> f64 {
        self.ttft.as_secs_f64() * 1e3
    }
}
