//! Talking to a server: its address and key from flags, environment or file, requests and their errors in words.
//!
//! `~/.config/coldframe/config.toml` holds `url` and `api_key`; `COLDFRAME_URL` and `COLDFRAME_API_KEY` win over it,
//! flags over both.

mod multipart;

pub use multipart::{Form, Part};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// Where a server is expected.
const DEFAULT_URL: &str = "http://127.0.0.1:8000";

/// Which server, and as whom.
#[derive(Args, Clone)]
pub struct ServerArg {
    /// The server's address [default: the configuration's, else http://127.0.0.1:8000]
    #[arg(long, env = "COLDFRAME_URL", value_name = "URL")]
    url: Option<String>,
    /// An API key [default: the configuration's]
    #[arg(long, env = "COLDFRAME_API_KEY", value_name = "KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Another tenant; operators only
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    url: Option<String>,
    api_key: Option<String>,
}

/// A server.
pub struct Server {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    tenant: Option<String>,
}

/// What a server said.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, where it is JSON.
    pub value: Value,
}

impl ServerArg {
    /// The server that is meant.
    ///
    /// # Errors
    /// Where the configuration file is not as it should be.
    pub fn server(&self) -> Result<Server> {
        let file = configuration()?;
        let url = self.url.clone().or(file.url).unwrap_or_else(|| DEFAULT_URL.to_owned());
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("`{url}` is no address: give http://host:port or https://host:port");
        }
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .max_redirects(0)
            .build()
            .new_agent();
        let key = self.api_key.clone().or(file.api_key);
        Ok(Server { agent, url: url.trim_end_matches('/').to_owned(), key, tenant: self.tenant.clone() })
    }
}

fn configuration() -> Result<File> {
    let home = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    let Some(path) = home.map(|home| home.join("coldframe/config.toml")) else { return Ok(File::default()) };
    match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(File::default()),
        Err(error) => Err(error).with_context(|| format!("{}", path.display())),
    }
}

impl Server {
    fn address(&self, path: &str) -> String {
        match &self.tenant {
            Some(tenant) if path.starts_with("/admin/") => {
                let joint = if path.contains('?') { '&' } else { '?' };
                format!("{}{path}{joint}tenant={tenant}", self.url)
            }
            _ => format!("{}{path}", self.url),
        }
    }

    fn bearer(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("Bearer {key}"))
    }

    /// Asks for something.
    ///
    /// # Errors
    /// What the server says against it, or that there is none.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut request = self.agent.get(self.address(path));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.good(request.call())
    }

    /// Asks for something that is no JSON.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut request = self.agent.get(self.address(path));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        let reply = request.call().map_err(|error| self.unreachable(&error))?;
        if !reply.status().is_success() {
            return Err(refusal(&answer(reply)?));
        }
        let body = reply.into_body().into_with_config().limit(u64::MAX).read_to_vec();
        body.context("the server's answer broke off")
    }

    /// Removes something.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn delete(&self, path: &str) -> Result<Value> {
        let mut request = self.agent.delete(self.address(path));
        if let Some(bearer) = self.bearer() {
            request = request.header("authorization", bearer);
        }
        self.good(request.call())
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        self.good(self.request(method, path, "application/json").send(body.to_string()))
    }

    /// Sends a form.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn send_form(&self, method: &str, path: &str, form: Form) -> Result<Value> {
        let media = form.media();
        let mut reader = form.reader()?;
        self.good(self.request(method, path, &media).send(ureq::SendBody::from_reader(&mut reader)))
    }

    /// Sends JSON and gives the body as it comes.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub fn stream(&self, path: &str, body: &Value) -> Result<Box<dyn Read>> {
        let reply = self.request("POST", path, "application/json").send(body.to_string());
        let reply = reply.map_err(|error| self.unreachable(&error))?;
        if reply.status().is_success() {
            return Ok(Box::new(reply.into_body().into_with_config().limit(u64::MAX).reader()));
        }
        Err(refusal(&answer(reply)?))
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        media: &str,
    ) -> ureq::RequestBuilder<ureq::typestate::WithBody> {
        let address = self.address(path);
        let request = if method == "PUT" { self.agent.put(address) } else { self.agent.post(address) };
        let request = request.header("content-type", media);
        match self.bearer() {
            Some(bearer) => request.header("authorization", bearer),
            None => request,
        }
    }

    fn good(&self, reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
        let answer = answer(reply.map_err(|error| self.unreachable(&error))?)?;
        if (200..300).contains(&answer.status) { Ok(answer.value) } else { Err(refusal(&answer)) }
    }

    fn unreachable(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow!("{}: {error}; is `coldframe serve` running there? --url names another server", self.url)
    }
}

fn answer(reply: ureq::http::Response<ureq::Body>) -> Result<Answer> {
    let status = reply.status().as_u16();
    let text = reply.into_body().read_to_string().context("the server's answer broke off")?;
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Answer { status, value })
}

/// The envelope's words, with what stands in the way one by one.
fn refusal(answer: &Answer) -> anyhow::Error {
    let error = &answer.value["error"];
    let Some(message) = error["message"].as_str() else {
        return anyhow!("the server answered {}: {}", answer.status, answer.value);
    };
    let code = error["code"].as_str().unwrap_or_default();
    let mut text = format!("{message} [{code}]");
    for problem in error["details"]["problems"].as_array().into_iter().flatten() {
        let part = |name: &str| problem[name].as_str().unwrap_or_default();
        text.push_str(&format!("\n  {}: {}", part("place"), part("problem")));
    }
    if answer.status == 401 {
        text.push_str("\nset COLDFRAME_API_KEY, or api_key in ~/.config/coldframe/config.toml");
    }
    anyhow!(text)
}
