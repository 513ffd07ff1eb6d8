//! What lies at an adapter's path: a PEFT-like folder or a GGUF file. Opens everything small, reads no tensor.

use super::config::{self, Config, Method};
use super::limits::{Findings, Limits, OtherBase};
use super::plan::Plan;
use super::tensors::TensorFile;
use super::{llama_cpp, mos, peft};
use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::mapping::{open_regular, read_regular};
use crate::model::ModelConfig;
use crate::safetensors::refuse_foreign;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

/// The tensors of a folder.
const TENSORS: &str = "adapter_model.safetensors";

/// Bytes of `adapter_config.json`; arbitrary, hundreds of times a real one.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Bytes of `tokenizer_config.json`; arbitrary, some times the largest in use (Gemma's, 1.2 MB).
const TOKENIZER_CONFIG_BYTES_MAX: u64 = 8 << 20;

/// Entries of a folder that are looked at in search of the adapter's subfolder; arbitrary.
const ENTRIES_MAX: usize = 1024;

/// An opened adapter, planned.
#[derive(Debug)]
pub(crate) struct Opened {
    pub file: TensorFile,
    pub plan: Plan,
    pub template: Option<String>,
    pub task: Option<String>,
    /// Name of the base that it says it was made for.
    pub base: Option<String>,
    /// Bytes of the files that were read.
    pub disk_bytes: u64,
}

/// Opens and plans; `None`, and always a finding, where there is nothing to plan.
pub(crate) fn open(
    path: &Path,
    model: &ModelConfig,
    limits: &Limits,
    findings: &mut Findings,
) -> Option<Opened> {
    let opened = locate(path, limits).and_then(|place| match place {
        Place::File => gguf(path, model, limits, findings),
        Place::Folder { folder, adapter } => in_folder(&folder, adapter.as_deref(), model, limits, findings),
    });
    let opened = opened.unwrap_or_else(|error| {
        findings.push(error);
        None
    })?;
    opened.plan.check(limits, findings);
    compare_base(opened.base.as_deref(), model, limits, findings);
    Some(opened)
}

enum Place {
    File,
    Folder { folder: PathBuf, adapter: Option<String> },
}

/// Tells a folder from a file, and finds the subfolder of an adapter that was saved under a name of its own.
fn locate(path: &Path, limits: &Limits) -> Result<Place> {
    let kind = fs::symlink_metadata(path).map_err(Error::io(path))?.file_type();
    let forbidden = |problem: &str| Error::Forbidden { path: path.to_owned(), problem: problem.to_owned() };
    if kind.is_symlink() {
        return Err(forbidden("it is a symbolic link; give the adapter's own path"));
    }
    if let Some(root) = &limits.root {
        let (root_real, real) = (
            fs::canonicalize(root).map_err(Error::io(root))?,
            fs::canonicalize(path).map_err(Error::io(path))?,
        );
        if !real.starts_with(&root_real) {
            return Err(forbidden("it lies outside the folder that adapters are loaded from"));
        }
    }
    if !kind.is_dir() {
        return Ok(Place::File);
    }
    if fs::symlink_metadata(path.join(config::FILE)).is_ok() {
        return Ok(Place::Folder { folder: path.to_owned(), adapter: None });
    }
    let mut found = subfolders(path)?;
    match (found.pop(), found.len()) {
        (Some(adapter), 0) => Ok(Place::Folder { folder: path.join(&adapter), adapter: Some(adapter) }),
        (None, _) => Err(Error::NotFound {
            what: format!("{} in {}", config::FILE, path.display()),
            hint: "give a folder that PEFT saved, or a GGUF adapter".to_owned(),
        }),
        (Some(last), more) => Err(Error::adapter(
            path,
            "folder",
            format!("holds {} adapters ({}, {last}, …); give one of them", more + 1, found.join(", ")),
        )),
    }
}

/// Folders of a folder that hold a configuration, by name; links are not followed.
fn subfolders(path: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::io(path))?.take(ENTRIES_MAX) {
        let entry = entry.map_err(Error::io(path))?;
        let folder = entry.file_type().map_err(Error::io(path))?.is_dir();
        if folder && fs::symlink_metadata(entry.path().join(config::FILE)).is_ok() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    Ok(found)
}

/// A file by itself: GGUF, or a format that is named and refused.
fn gguf(
    path: &Path,
    model: &ModelConfig,
    limits: &Limits,
    findings: &mut Findings,
) -> Result<Option<Opened>> {
    let mut head = Vec::new();
    open_regular(path)?.take(512).read_to_end(&mut head).map_err(Error::io(path))?;
    if !head.starts_with(b"GGUF") {
        refuse_foreign(path, &head)?;
        let problem = format!("it is no GGUF file; give the folder with {} and {TENSORS}", config::FILE);
        return Err(Error::Forbidden { path: path.to_owned(), problem });
    }
    let gguf = Gguf::open_strict(path, limits.file_bytes_max)?;
    let file = TensorFile::gguf(&gguf, path)?;
    let Some(metadata) = llama_cpp::metadata(&gguf, model, limits, findings) else { return Ok(None) };
    let plan = llama_cpp::plan(&metadata, model, &file.tensors, limits, findings);
    let disk_bytes = file.size();
    Ok(Some(Opened { file, plan, template: None, task: None, base: metadata.base, disk_bytes }))
}

fn in_folder(
    folder: &Path,
    adapter: Option<&str>,
    model: &ModelConfig,
    limits: &Limits,
    findings: &mut Findings,
) -> Result<Option<Opened>> {
    let bytes = read_regular(&folder.join(config::FILE), CONFIG_BYTES_MAX)?;
    let Some(config) = config::parse(&bytes, limits, findings) else { return Ok(None) };
    let template = template(folder, limits, findings)?;
    let file = TensorFile::safetensors(&tensor_file(folder)?, limits)?;
    let plan = match config.method {
        Method::Mos => mos::plan(&config, model, &file.tensors, limits, findings),
        Method::Lora | Method::AdaMix => peft::plan(&config, model, &file.tensors, adapter, limits, findings),
    };
    let disk_bytes = file.size() + bytes.len() as u64 + template.as_ref().map_or(0, |text| text.len() as u64);
    let Config { task, base, .. } = config;
    Ok(Some(Opened { file, plan, template, task, base, disk_bytes }))
}

/// The path of the tensors; a pickle in their place is named and not opened.
fn tensor_file(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(TENSORS);
    if fs::symlink_metadata(&path).is_ok() {
        return Ok(path);
    }
    for name in ["adapter_model.bin", "adapter_model.pt", "adapter_model.pth"] {
        let pickle = folder.join(name);
        if fs::symlink_metadata(&pickle).is_ok() {
            let problem =
                "it is a Python pickle, which can run code, and is not opened; save with safetensors"
                    .to_owned();
            return Err(Error::Forbidden { path: pickle, problem });
        }
    }
    Err(Error::NotFound {
        what: format!("{TENSORS} in {}", folder.display()),
        hint: "save the adapter with safe_serialization".to_owned(),
    })
}

#[derive(Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    chat_template: Option<ChatTemplate>,
}

/// One template, or several by name; anything else is not ours to judge.
#[derive(Deserialize)]
#[serde(untagged)]
enum ChatTemplate {
    One(String),
    Many(Vec<BTreeMap<String, String>>),
    Other(IgnoredAny),
}

/// The adapter's own chat template: `chat_template.jinja`, else the one in `tokenizer_config.json`.
fn template(folder: &Path, limits: &Limits, findings: &mut Findings) -> Result<Option<String>> {
    if let Some(bytes) = optional(&folder.join("chat_template.jinja"), limits.template_bytes_max as u64)? {
        return match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => {
                findings.invalid("chat_template.jinja", "is no UTF-8 text");
                Ok(None)
            }
        };
    }
    let Some(bytes) = optional(&folder.join("tokenizer_config.json"), TOKENIZER_CONFIG_BYTES_MAX)? else {
        return Ok(None);
    };
    let found = match serde_json::from_slice::<TokenizerConfig>(&bytes) {
        Ok(config) => config.chat_template,
        Err(error) => {
            findings.invalid("tokenizer_config.json", format!("no JSON object of that kind: {error}"));
            None
        }
    };
    let text = match found {
        Some(ChatTemplate::One(text)) => Some(text),
        Some(ChatTemplate::Many(list)) => list
            .into_iter()
            .find(|entry| entry.get("name").is_some_and(|name| name == "default"))
            .and_then(|mut entry| entry.remove("template")),
        Some(ChatTemplate::Other(_)) | None => None,
    };
    if let Some(text) = text.as_ref().filter(|text| text.len() > limits.template_bytes_max) {
        let (size, limit) = (text.len() as u64, limits.template_bytes_max as u64);
        return Err(Error::TooLarge { what: "tokenizer_config.json: chat_template".to_owned(), size, limit });
    }
    Ok(text)
}

fn optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match read_regular(path, limit) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Compares the base's name with the one in the configuration: last path component, letters and digits only.
fn compare_base(said: Option<&str>, model: &ModelConfig, limits: &Limits, findings: &mut Findings) {
    let Some(said) = said.filter(|said| !said.is_empty()) else { return };
    let known = std::iter::once(&model.name).chain(&limits.base_names);
    if known.into_iter().any(|name| plain(name) == plain(said)) {
        return;
    }
    let said = config::name(said);
    match limits.other_base {
        OtherBase::Warn => {
            findings.warn(format!("made for the base {said:?}; this one is {:?}", config::name(&model.name)));
        }
        OtherBase::Refuse => {
            let problem = format!("is {said:?}, this base is {:?}", config::name(&model.name));
            findings.incompatible("base_model_name_or_path", problem);
        }
    }
}

fn plain(name: &str) -> String {
    let last = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    last.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
