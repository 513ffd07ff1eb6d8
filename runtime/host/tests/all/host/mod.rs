//! A whole server on a tiny model: started, asked over a socket, stopped, started again.

mod disk;
mod functions;
mod ingest;
mod money;
mod observing;
mod reloading;
mod serving;
mod tenancy;
mod tracing;
mod walls;

use crate::tiny::Tiny;
use coldframe_host::auth::Secret;
use coldframe_host::host::{BackboneConfig, Host, HostConfig, Reloaded, Reloader, StartError};
use serde_json::Value;
use std::path::Path;
use std::sync::{Arc, Weak};
use tokio::sync::oneshot;

/// The operator's key of these tests.
pub const OPERATOR: &str = "an-operator-key-of-tests";

/// A server at work.
pub struct Server {
    pub url: String,
    pub tiny: Arc<Tiny>,
    /// What it was started with.
    pub config: HostConfig,
    reloader: Weak<Reloader>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What it said.
#[derive(Debug)]
pub struct Said {
    pub status: u16,
    pub value: Value,
    pub etag: Option<String>,
    pub retry_after: Option<u64>,
    pub text: String,
}

impl Said {
    /// `error.code`.
    pub fn code(&self) -> &str {
        self.value["error"]["code"].as_str().unwrap_or_default()
    }

    /// Itself, where the status is the expected one.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }
}

impl Server {
    /// Starts one on a data folder.
    pub fn start(
        tiny: Arc<Tiny>,
        data: &Path,
        change: impl FnOnce(&mut HostConfig) + Send + 'static,
    ) -> Self {
        let mut config = HostConfig {
            port: 0,
            data_dir: data.to_owned(),
            models_dir: Some(tiny.home()),
            backbones: vec![BackboneConfig {
                model: tiny.model().display().to_string(),
                name: Some("tiny".to_owned()),
                served_names: Vec::new(),
            }],
            api_key: Some(Secret::new(OPERATOR)),
            measure_tokens: 8,
            ..HostConfig::default()
        };
        config.engine.kv_mib = 16;
        config.engine.threads = Some(1);
        config.engine.device_mib = Some(512);
        config.artifacts.roots = vec![tiny.adapter("a"), tiny.adapter("b"), tiny.adapter("c")];
        config.limits.grace_s = Some(5);
        change(&mut config);
        let given = config.clone();
        let (told, started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let host = Host::start(config, None).await.expect("a host");
                told.send((host.address, host.reloader())).expect("a test that waits");
                host.run(async { drop(stopped.await) }).await;
            });
        });
        let (address, reloader) = started.recv().expect("a started host");
        let url = format!("http://{address}");
        Self { url, tiny, config: given, reloader, stop: Some(stop), thread: Some(thread) }
    }

    /// Gives it another configuration while it works.
    pub fn reload(&self, config: HostConfig) -> Result<Reloaded, StartError> {
        let reloader = self.reloader.upgrade().expect("it works");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(reloader.reload(config))
    }

    /// Asks with a key; no key where it is empty.
    pub fn ask(&self, key: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Said {
        let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !key.is_empty() {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let typed = headers.iter().any(|(name, _)| *name == "content-type");
        if !body.is_empty() && !typed {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_owned()).expect("a request");
        let reply = agent.configure_request(request);
        let reply = agent.run(reply.allow_non_standard_methods(true).build()).expect("an answer");
        let status = reply.status().as_u16();
        let etag = reply.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned());
        let retry_after = reply.headers().get("retry-after");
        let retry_after = retry_after.and_then(|text| text.to_str().ok()?.parse().ok());
        let text = reply.into_body().read_to_string().expect("a body");
        Said { status, value: serde_json::from_str(&text).unwrap_or_default(), etag, retry_after, text }
    }

    /// Asks as the operator.
    pub fn operator(&self, method: &str, path: &str, body: &Value) -> Said {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask(OPERATOR, method, path, &[], &body)
    }

    /// Registers an adapter of the tiny model by reference.
    pub fn register(&self, function: &str, adapter: &str) -> Said {
        let uri = format!("file://{}", self.tiny.adapter(adapter).display());
        let body = serde_json::json!({"adapters": [{"uri": uri}]});
        self.operator("PUT", &format!("/admin/v1/functions/{function}"), &body)
    }

    /// What a model says to a prompt, always the same.
    pub fn say(&self, model: &str) -> Said {
        let body = serde_json::json!({"model": model, "prompt": "hello", "max_tokens": 8, "temperature": 0});
        self.operator("POST", "/v1/completions", &body)
    }

    /// Makes a key.
    pub fn key(&self, tenant: &str, scope: &str) -> String {
        let body = serde_json::json!({"scope": scope});
        let made = self.operator("POST", &format!("/admin/v1/keys?tenant={tenant}"), &body).expect(201);
        made.value["secret"].as_str().expect("a secret").to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // A host that failed has gone already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("a host that ends well");
            }
        }
    }
}
