//! A function's manifest, `coldframe.toml`: read strictly, so that a misspelt key or value is named with its line.
//!
//! Paths in it are relative to its folder. What it says is handed on as it stands: whether the files are there and the
//! code keeps to the grants is `check`'s business, and whether the server allows it the server's.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Name of the file in a function's folder.
pub const FILE: &str = "coldframe.toml";

/// Longest name of a function or an adapter, bytes: a label of a metric and of a host name holds no more.
const NAME_MAX: usize = 63;

/// What a function is and how it runs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name, which callers give as `model`.
    pub name: Name,
    /// The model it was made for: a name of the store or of the server, or a path.
    pub backbone: String,
    /// Its adapters, the default first; none serves the backbone as it is.
    #[serde(default)]
    pub adapters: Vec<Adapter>,
    /// Its component, where it has code.
    pub module: Option<PathBuf>,
    /// How the component is made.
    pub build: Option<Build>,
    /// TTFT promised, milliseconds.
    pub slo_ttft_ms: Option<u64>,
    /// Seconds an idle function stays in device memory.
    pub keep_alive_s: Option<u64>,
    /// What its code may use beside the model, the reply and the log.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Hosts its code may call.
    #[serde(default)]
    pub allowed_outbound_hosts: Vec<Host>,
    /// What a call may use; what is absent takes the server's default.
    #[serde(default)]
    pub limits: Limits,
    /// Sampling where the caller leaves it open.
    #[serde(default)]
    pub defaults: Defaults,
}

/// An adapter of a function.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RawAdapter")]
pub struct Adapter {
    /// Its name inside the function.
    pub name: Name,
    /// Where it is.
    pub place: Place,
}

/// Where an adapter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A PEFT folder or a GGUF file beside the manifest.
    Path(PathBuf),
    /// Somewhere the server gets it from: `hf://org/repo@revision`, `https://…#sha256=…`, `oci://…@sha256:…`.
    Uri(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdapter {
    name: Name,
    path: Option<PathBuf>,
    uri: Option<String>,
}

impl TryFrom<RawAdapter> for Adapter {
    type Error = String;

    fn try_from(raw: RawAdapter) -> Result<Self, String> {
        let place = match (raw.path, raw.uri) {
            (Some(path), None) => Place::Path(path),
            (None, Some(uri)) => Place::Uri(uri),
            _ => return Err(format!("adapter `{}` needs `path` or `uri`, one of the two", raw.name.0)),
        };
        // The guest says `base` for no adapter at all.
        match raw.name.0.as_str() {
            "base" => Err("`base` means no adapter: give this one another name".to_owned()),
            _ => Ok(Self { name: raw.name, place }),
        }
    }
}

/// How a component is made from its source.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The language.
    pub lang: Lang,
    /// Source files; a folder with `Cargo.toml` for Rust.
    pub sources: Vec<PathBuf>,
    /// JavaScript and Python: whether the source has a token hook. Rust and C say so themselves.
    #[serde(default)]
    pub hook: bool,
}

/// A language that functions are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Lang {
    /// Rust, with cargo and the target wasm32-wasip2
    Rust,
    /// JavaScript, with componentize-js from npm
    Js,
    /// Python, with componentize-py from PyPI
    Py,
    /// C, with clang and lld
    C,
}

impl Lang {
    /// Its name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Py => "py",
            Self::C => "c",
        }
    }
}

/// Something that code may use when its manifest asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// The function's own key-value store.
    State,
    /// The time of day.
    Clock,
    /// Chance.
    Random,
}

impl Capability {
    /// Its name in manifests and in `function.wit`.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Clock => "clock",
            Self::Random => "random",
        }
    }
}

/// What a call may use.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Calls at once.
    pub max_concurrency: Option<u32>,
    /// Guest memory, MiB.
    pub memory_limit_mb: Option<u32>,
    /// Guest CPU of a call, in fuel.
    pub fuel: Option<u64>,
    /// Wall time of a call, milliseconds.
    pub timeout_ms: Option<u64>,
    /// Tokens a call may generate, over all its generations.
    pub token_budget: Option<u64>,
    /// Generations a call may run at once.
    pub max_generations: Option<u32>,
    /// Bytes a call may write.
    pub output_bytes: Option<u64>,
    /// Bytes a call may log.
    pub log_bytes: Option<u64>,
}

/// Sampling defaults by OpenAI's and vLLM's names.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_p: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repetition_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop: Vec<String>,
}

/// A name: lower-case letters, digits and hyphens, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(pub String);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
        match begins && name.len() <= NAME_MAX && name.chars().all(fits) {
            true => Ok(Self(name)),
            false => Err(format!(
                "`{name}` is no name: a letter first, then lower-case letters, digits and `-`, {NAME_MAX} at most"
            )),
        }
    }
}

/// A host that code may call: scheme, host and perhaps a port, and nothing behind them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Host(pub String);

impl TryFrom<String> for Host {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let fits = |c: char| c.is_ascii_alphanumeric() || "-.:*".contains(c);
        match rest.is_some_and(|rest| !rest.is_empty() && rest.chars().all(fits)) {
            true => Ok(Self(text)),
            false => {
                Err(format!("`{text}` is no host to allow: write `https://api.example.com`, without a path"))
            }
        }
    }
}

/// A manifest and the folder that its paths are relative to.
pub struct Project {
    /// The folder.
    pub folder: PathBuf,
    /// What its manifest says.
    pub manifest: Manifest,
}

impl Project {
    /// Reads the manifest of a folder, or the one that is named itself.
    pub fn open(path: &Path) -> Result<Self> {
        let file = if path.is_dir() { path.join(FILE) } else { path.to_owned() };
        let shown = file.display();
        let text = std::fs::read_to_string(&file).with_context(|| {
            format!(
                "cannot read {shown}: name a function's folder, or make one with `coldframe function new`"
            )
        })?;
        let manifest = parse(&text).with_context(|| format!("{shown} is not right"))?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Ok(Self { folder: folder.map_or_else(|| PathBuf::from("."), Path::to_owned), manifest })
    }

    /// Path of the component, where the function has code.
    pub fn module(&self) -> Option<PathBuf> {
        self.manifest.module.as_ref().map(|module| self.folder.join(module))
    }

    /// The component's bytes, where the function has code.
    pub fn component(&self) -> Result<Option<Vec<u8>>> {
        let Some(path) = self.module() else { return Ok(None) };
        let hint = "make it with `coldframe function build`";
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}: {hint}", path.display()))?;
        Ok(Some(bytes))
    }
}

/// Reads a manifest.
pub fn parse(text: &str) -> Result<Manifest> {
    let manifest: Manifest = toml::from_str(text)?;
    let mut names: Vec<&str> = manifest.adapters.iter().map(|adapter| adapter.name.0.as_str()).collect();
    names.sort_unstable();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    ensure!(twice.is_none(), "two adapters are called `{}`", twice.map_or("", |pair| pair[0]));
    if let Some(build) = &manifest.build {
        ensure!(
            manifest.module.is_some(),
            "[build] makes a component: say with `module = \"…\"` where it goes"
        );
        let one = build.sources.len() == 1 || build.lang == Lang::C;
        ensure!(one && !build.sources.is_empty(), "`sources` of [build] names one file; several only for C");
    }
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::parse;

    const LEAST: &str = "name = \"a\"\nbackbone = \"b\"\n";

    /// What is wrong with the least manifest and these lines.
    fn wrong(lines: &str) -> String {
        format!("{:#}", parse(&format!("{LEAST}{lines}")).expect_err(lines))
    }

    #[test]
    fn the_least_manifest_and_a_whole_one() {
        let least = parse(LEAST).expect("a manifest");
        assert!(least.adapters.is_empty() && least.module.is_none());
        let whole = format!(
            "{LEAST}module = \"m.wasm\"\nslo_ttft_ms = 500\nkeep_alive_s = 60\ncapabilities = [\"state\", \"clock\"]\n\
             allowed_outbound_hosts = [\"https://a.example:8443\"]\n[build]\nlang = \"c\"\nsources = [\"a.c\", \"b.s\"]\n\
             [[adapters]]\nname = \"x\"\npath = \"x\"\n[[adapters]]\nname = \"y\"\nuri = \"hf://o/r\"\n\
             [limits]\nfuel = 5\n[defaults]\ntop_k = 3\nstop = [\"x\"]\n"
        );
        let whole = parse(&whole).expect("a manifest");
        assert_eq!((whole.adapters.len(), whole.limits.fuel), (2, Some(5)));
        let defaults = serde_json::to_value(&whole.defaults).expect("JSON");
        assert_eq!(defaults, serde_json::json!({ "top_k": 3, "stop": ["x"] }));
    }

    #[test]
    fn what_is_misspelt_is_named_with_its_line() {
        for (lines, says) in [
            ("modul = \"x\"", "unknown field `modul`"),
            ("capabilities = [\"files\"]", "unknown variant `files`"),
            ("[limits]\nfuel = 1\nmemory = 5", "unknown field `memory`"),
            ("[defaults]\ntop_q = 1", "unknown field `top_q`"),
            ("allowed_outbound_hosts = [\"example.com\"]", "is no host to allow"),
            ("allowed_outbound_hosts = [\"https://example.com/path\"]", "is no host to allow"),
            ("[[adapters]]\nname = \"A\"\npath = \"x\"", "is no name"),
            ("[[adapters]]\nname = \"a\"", "needs `path` or `uri`"),
            ("[[adapters]]\nname = \"base\"\npath = \"x\"", "`base` means no adapter"),
        ] {
            let text = wrong(lines);
            assert!(text.contains(says), "{text}");
            let at = lines.lines().count() + 2;
            // An adapter is judged as a whole, so its error stands at its first line.
            let line = (3..=at).any(|line| text.contains(&format!("line {line}")));
            assert!(line, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        assert!(wrong("[build]\nlang = \"c\"\nsources = [\"a.c\"]").contains("say with `module"));
        let two = "module = \"m\"\n[build]\nlang = \"js\"\nsources = [\"a.js\", \"b.js\"]";
        assert!(wrong(two).contains("names one file"));
        let twice = "[[adapters]]\nname = \"x\"\npath = \"x\"\n[[adapters]]\nname = \"x\"\npath = \"y\"";
        assert!(wrong(twice).contains("two adapters are called `x`"));
    }
}
