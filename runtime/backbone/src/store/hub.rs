//! The Hugging Face hub: which commit a revision is, which files it has, and their digests.
//!
//! Large files (LFS) come with a SHA-256 that is checked; small ones with
//! their size only, over https.

use super::address::{Address, percent_encoded};
use super::download::{Wanted, download};
use super::http::{Ask, Client};
use super::local::{INDEX, model_files};
use super::manifest::check_digest;
use super::source::{check_file_name, check_inner_path};
use super::{FileEntry, Format, Places, Store, Watch};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// Pages of a listing that are followed: 1,000 files each.
const PAGES_MAX: usize = 20;

/// What came from the hub.
pub struct FromHub {
    /// Kind of files.
    pub format: Format,
    /// The commit.
    pub commit: String,
    /// The licence on the model's card.
    pub licence: Option<String>,
    /// The files, all blobs now.
    pub files: Vec<FileEntry>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default, rename = "cardData")]
    card: Option<Card>,
}

#[derive(Deserialize)]
struct Card {
    /// A text on most cards, a list on some.
    #[serde(default)]
    license: serde_json::Value,
}

#[derive(Deserialize, Clone)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize, Clone)]
struct Lfs {
    oid: String,
    size: u64,
}

struct Hub<'a> {
    store: &'a Store,
    client: &'a Client,
    watch: &'a Watch<'a>,
    endpoint: String,
    token: Option<String>,
    repo: &'a str,
}

/// Gets a model.
///
/// # Errors
/// [`Error::Network`], [`Error::NotFound`], [`Error::Digest`], [`Error::Corrupt`] where the hub answers nonsense.
pub fn pull(
    store: &Store,
    client: &Client,
    (repo, revision, file): (&str, &str, Option<&str>),
    places: &Places,
    watch: &Watch<'_>,
) -> Result<FromHub> {
    let hub = Hub {
        store,
        client,
        watch,
        endpoint: places.hub.trim_end_matches('/').to_owned(),
        token: places.hub_token.clone(),
        repo,
    };
    let info: Info = hub.page(&format!("api/models/{repo}/revision/{revision}"))?;
    check_file_name(&info.sha).map_err(|problem| hub.nonsense(&problem))?;
    let entries = hub.tree(&info.sha)?;
    let (format, chosen) = hub.choose(&info.sha, &entries, file)?;
    let mut files = Vec::new();
    for entry in chosen {
        files.push(hub.get(&info.sha, &entry)?);
    }
    let licence =
        info.card.and_then(|card| card.license.as_str().map(|text| text.chars().take(100).collect()));
    Ok(FromHub { format, commit: info.sha, licence, files })
}

impl Hub<'_> {
    fn ask(&self, path: &str) -> Result<Ask> {
        let address = Address::parse(&format!("{}/{path}", self.endpoint))?;
        Ok(Ask { token: self.token.clone(), ..Ask::new(address) })
    }

    fn page<T: for<'de> Deserialize<'de>>(&self, path: &str) -> Result<T> {
        let page = self.client.get(&self.ask(path)?, self.watch)?.page(self.watch)?;
        serde_json::from_slice(&page).map_err(|e| self.nonsense(&e.to_string()))
    }

    /// Every file of a commit.
    fn tree(&self, commit: &str) -> Result<Vec<Entry>> {
        let mut ask = self.ask(&format!("api/models/{}/tree/{commit}?recursive=true", self.repo))?;
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let reply = self.client.get(&ask, self.watch)?;
            let next = reply.header("link").and_then(next_link).map(|link| reply.address.join(link));
            let page = reply.page(self.watch)?;
            let page: Vec<Entry> =
                serde_json::from_slice(&page).map_err(|e| self.nonsense(&e.to_string()))?;
            all.extend(page.into_iter().filter(|entry| entry.kind == "file"));
            match next.transpose()? {
                // The token follows the address, so a page elsewhere gets none.
                Some(next) if next.host() == ask.address.host() => ask.address = next,
                _ => return Ok(all),
            }
        }
        Err(self.nonsense(&format!("more than {PAGES_MAX} pages of files")))
    }

    fn choose(&self, commit: &str, all: &[Entry], file: Option<&str>) -> Result<(Format, Vec<Entry>)> {
        let find = |path: &str| all.iter().find(|entry| entry.path == path).cloned();
        let ggufs: Vec<&Entry> = all.iter().filter(|entry| entry.path.ends_with(".gguf")).collect();
        let missing = |hint: String| Error::NotFound { what: format!("a model in hf://{}", self.repo), hint };
        let listed =
            || ggufs.iter().take(40).map(|entry| entry.path.escape_default().to_string()).collect::<Vec<_>>();
        if let Some(file) = file {
            let entry = find(file).ok_or_else(|| {
                missing(format!("it has no `{file}`; its GGUF files: {}", listed().join(", ")))
            })?;
            return Ok((Format::Gguf, vec![entry]));
        }
        let names: BTreeSet<String> = all.iter().map(|entry| entry.path.clone()).collect();
        let weights = names.iter().any(|name| !name.contains('/') && name.ends_with(".safetensors"));
        if weights && names.contains("config.json") {
            let index = find(INDEX).map(|entry| self.index(commit, &entry)).transpose()?;
            let chosen = model_files(&names, index.as_deref()).map_err(missing)?;
            return Ok((Format::Safetensors, chosen.iter().filter_map(|name| find(name)).collect()));
        }
        match ggufs[..] {
            [only] => Ok((Format::Gguf, vec![only.clone()])),
            [] => Err(missing("it holds neither safetensors nor a GGUF file".into())),
            _ => Err(missing(format!("it holds several; add one to the source: {}", listed().join(", ")))),
        }
    }

    fn index(&self, commit: &str, entry: &Entry) -> Result<Vec<u8>> {
        let file = self.get(commit, entry)?;
        let path = self.store.blob(&file.sha256);
        std::fs::read(&path).map_err(Error::io(&path))
    }

    /// One file, as a blob.
    fn get(&self, commit: &str, entry: &Entry) -> Result<FileEntry> {
        check_inner_path(&entry.path).map_err(|problem| self.nonsense(&problem))?;
        let name = entry.path.rsplit('/').next().unwrap_or_default().to_owned();
        let bytes = entry.lfs.as_ref().map_or(entry.size, |lfs| lfs.size);
        if let Some(lfs) = &entry.lfs {
            check_digest(&lfs.oid).map_err(|problem| self.nonsense(&problem))?;
            if self.store.sound(&lfs.oid, bytes, self.watch)? {
                return Ok(FileEntry { path: name, sha256: lfs.oid.clone(), bytes });
            }
        }
        let ask = self.ask(&format!("{}/resolve/{commit}/{}", self.repo, percent_encoded(&entry.path)))?;
        let sha256 = entry.lfs.as_ref().map(|lfs| lfs.oid.as_str());
        let wanted = Wanted { ask, sha256, bytes: Some(bytes), label: &name };
        let finished = download(self.store, self.client, &wanted, self.watch)?;
        let sha256 = finished.sha256.clone();
        finished.adopt(self.store)?;
        Ok(FileEntry { path: name, sha256, bytes })
    }

    fn nonsense(&self, problem: &str) -> Error {
        Error::corrupt(Path::new(&self.endpoint), format!("answer for {}", self.repo), problem)
    }
}

/// The target of `<…>; rel="next"`.
fn next_link(header: &str) -> Option<&str> {
    let part = header.split(',').find(|part| part.contains("rel=\"next\""))?;
    part.split_once('<')?.1.split_once('>').map(|(link, _)| link)
}
