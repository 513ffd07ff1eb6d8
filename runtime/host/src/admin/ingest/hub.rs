//! The Hugging Face hub: a revision becomes a commit, and the adapter's files of that commit are stored.
//!
//! Tensor files (LFS) come with a SHA-256 that is checked. A repository's other files are not looked at.

use super::web::{Redirects, Reply};
use super::{Ingest, files};
use crate::admin::error::{AdminError, Kind, Result};
use crate::store::LocalFile;
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
}

/// Stores an adapter of the hub.
///
/// # Errors
/// What the hub says, or what is missing.
pub async fn adapter(
    ingest: &Ingest,
    repo: &str,
    revision: &str,
    folder: Option<&str>,
) -> Result<BTreeMap<String, LocalFile>> {
    let info: Info = listing(ingest, &format!("api/models/{repo}/revision/{revision}")).await?;
    if info.sha.len() != 40 || !info.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(nonsense("a commit that is none"));
    }
    let below = folder.map(|folder| format!("/{folder}")).unwrap_or_default();
    let tree = format!("api/models/{repo}/tree/{}{below}", info.sha);
    let entries: Vec<Entry> = listing(ingest, &tree).await?;
    let mut stored = BTreeMap::new();
    for (name, entry) in chosen(&entries) {
        let path = format!("{repo}/resolve/{}/{}", info.sha, entry.path);
        let reply = ask(ingest, &path).await?;
        let digest = entry.lfs.as_ref().map(|lfs| lfs.oid.as_str());
        let file = ingest.store(name, Box::pin(reply.into_reader()), digest).await?;
        stored.insert(name.to_owned(), file);
    }
    Ok(stored)
}

/// The files of a PEFT adapter, else the only GGUF file.
fn chosen(entries: &[Entry]) -> Vec<(&'static str, &Entry)> {
    let base = |entry: &Entry| entry.path.rsplit('/').next().unwrap_or_default().to_owned();
    let all = entries.iter().filter(|entry| entry.kind == "file" && safe(&entry.path));
    let known = all.filter_map(|entry| Some((files::adapter_file(&base(entry)).ok()?, entry)));
    let (gguf, peft): (Vec<_>, Vec<_>) = known.partition(|(name, _)| *name == files::GGUF);
    if peft.iter().any(|(name, _)| *name == files::TENSORS) { peft } else { gguf }
}

/// Paths come from the hub and become parts of an address.
fn safe(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
        && path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
}

async fn listing<T: for<'de> Deserialize<'de>>(ingest: &Ingest, path: &str) -> Result<T> {
    let page = ask(ingest, path).await?.page().await?;
    serde_json::from_slice(&page).map_err(|error| nonsense(&error.to_string()))
}

async fn ask(ingest: &Ingest, path: &str) -> Result<Reply> {
    let options = ingest.options();
    let url = format!("{}/{path}", options.hub.trim_end_matches('/'));
    let url =
        Url::parse(&url).map_err(|error| AdminError::internal(format!("the hub's address: {error}")))?;
    let token =
        options.hub_token.as_ref().map(|token| ("authorization", format!("Bearer {}", token.reveal())));
    let own = url.host_str().unwrap_or_default().to_owned();
    let redirects = Redirects { own, also: options.redirect_hosts.clone() };
    ingest.web.get(&url, token.as_slice(), redirects).await?.success()
}

fn nonsense(problem: &str) -> AdminError {
    AdminError::new(Kind::Upstream, "upstream_broken", format!("the hub answers nonsense: {problem}"))
        .about("uri")
}
