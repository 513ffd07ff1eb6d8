//! A server in a process of its own, on a free port of this machine, that can be killed as a crash would.

use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a request calls the backbone.
pub const BASE: &str = "base";

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The model: a name of the store, or a path.
    pub model: String,
    /// Folder of the registry, blobs and books.
    pub data: PathBuf,
    /// Folders that adapters lie in.
    pub roots: Vec<PathBuf>,
    /// MiB for weights, adapters and KV pages; the host's default without.
    pub device_mib: Option<u64>,
    /// MiB for what left the device; the host's default without.
    pub host_mib: Option<u64>,
    /// MiB of KV pages.
    pub kv_mib: u64,
    /// Threads of a step.
    pub threads: Option<usize>,
}

impl Settings {
    /// Settings with the host's own budgets.
    pub fn new(model: &str, data: &Path, roots: Vec<PathBuf>, threads: Option<usize>) -> Self {
        let (model, data) = (model.to_owned(), data.to_owned());
        Self { model, data, roots, device_mib: None, host_mib: None, kv_mib: 256, threads }
    }

    /// Writes the configuration file beside the data.
    fn file(&self) -> Result<PathBuf> {
        let mut engine = toml::Table::new();
        let mib = |mib: u64| toml::Value::Integer(i64::try_from(mib).unwrap_or(i64::MAX));
        engine.insert("kv_mib".to_owned(), mib(self.kv_mib));
        engine.extend(self.device_mib.map(|value| ("device_mib".to_owned(), mib(value))));
        engine.extend(self.host_mib.map(|value| ("host_mib".to_owned(), mib(value))));
        engine.extend(self.threads.map(|value| ("threads".to_owned(), mib(value as u64))));
        let config = toml::Table::from_iter([("engine".to_owned(), toml::Value::Table(engine))]);
        std::fs::create_dir_all(&self.data)?;
        let path = self.data.join("bench.toml");
        std::fs::write(&path, config.to_string()).with_context(|| format!("{}", path.display()))?;
        Ok(path)
    }
}

/// A running server; it ends with this value.
pub struct Server {
    child: Child,
    log: PathBuf,
    /// Its address.
    pub url: String,
    /// From the start of the process to its first word, which is said when it answers.
    pub ready: Duration,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub fn start(settings: &Settings) -> Result<Self> {
        let begun = Instant::now();
        let (mut child, log) = spawn(settings)?;
        let out = child.stdout.take().context("the server's stdout")?;
        let mut url = String::new();
        BufReader::new(out).read_line(&mut url)?;
        let mut server = Self { child, log, url: url.trim().to_owned(), ready: begun.elapsed() };
        if server.url.is_empty() {
            server.kill9()?;
            bail!("the server did not start:\n{}", server.last_words());
        }
        Ok(server)
    }

    /// Starts a server, lets it go on for `time` and kills it, wherever it is then.
    pub fn start_and_kill(settings: &Settings, time: Duration) -> Result<()> {
        let (mut child, _log) = spawn(settings)?;
        std::thread::sleep(time);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGKILL to this very process, and its end.
    pub fn kill9(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Resident memory that is its own, not of a file: bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that ended by itself is as gone as one that was killed.
        let _ = self.kill9();
    }
}

fn spawn(settings: &Settings) -> Result<(Child, PathBuf)> {
    let config = settings.file()?;
    let log = settings.data.join("bench.log");
    let program = std::env::current_exe().context("this program's own file")?;
    let mut command = Command::new(program);
    command.arg("serve").arg("--config").arg(config);
    command.args(["--backbone", &settings.model, "--served-model-name", BASE, "--port", "0"]);
    command.arg("--data-dir").arg(&settings.data);
    for root in &settings.roots {
        command.arg("--artifact-root").arg(root);
    }
    for name in ["COLDFRAME_CONFIG", "COLDFRAME_POLICY", "COLDFRAME_OPERATOR_KEY", "COLDFRAME_HOST"] {
        command.env_remove(name);
    }
    let child = command
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?)
        .spawn()
        .context("starting the server")?;
    Ok((child, log))
}
