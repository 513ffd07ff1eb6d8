//! Where an artifact may be, as a caller writes it.

use super::oci::Reference;
use crate::admin::error::{AdminError, Result};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use url::Url;

/// A reference, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A folder or file of this machine, absolute and without `..`.
    File(PathBuf),
    /// A repository of the hub.
    Hub {
        /// `org/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// A folder in it.
        folder: Option<String>,
    },
    /// A file of the web.
    Web(Url),
    /// A manifest of a registry.
    Oci(Reference),
}

impl Source {
    /// Reads a reference.
    ///
    /// # Errors
    /// `invalid_request` saying which form is meant.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > 2048 || text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(wrong("it is too long, or holds control characters or backslashes"));
        }
        match text.split_once("://") {
            Some(("file", path)) => file(path),
            Some(("hf" | "huggingface", rest)) => hub(rest),
            Some(("https" | "http", _)) => web(text),
            Some(("oci", rest)) => Ok(Self::Oci(Reference::parse(rest)?)),
            None if text.starts_with('/') => file(text),
            _ => Err(wrong("give file:///…, hf://org/repo@revision, https://… or oci://host/name@sha256:…")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Hub { repo, revision, folder } => {
                write!(f, "hf://{repo}@{revision}")?;
                folder.as_ref().map_or(Ok(()), |folder| write!(f, "/{folder}"))
            }
            Self::Web(url) => {
                // A query may be a signature.
                let mut plain = url.clone();
                plain.set_query(None);
                write!(f, "{plain}")
            }
            Self::Oci(reference) => write!(f, "{reference}"),
        }
    }
}

fn wrong(problem: &str) -> AdminError {
    AdminError::invalid("uri", format!("this is no reference to an artifact: {problem}"))
}

/// The path as it stands: a `%` is a character of it and no escape.
fn file(path: &str) -> Result<Source> {
    let path = Path::new(path);
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(wrong("file:// takes an absolute path without `..`"));
    }
    Ok(Source::File(path.to_owned()))
}

fn hub(rest: &str) -> Result<Source> {
    let form = || wrong("hf:// takes org/repo, then @revision and /folder where needed");
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = |part: &str| {
        !part.is_empty() && part.len() <= 200 && !part.starts_with('.') && part.chars().all(plain)
    };
    let (org, rest) = rest.split_once('/').ok_or_else(form)?;
    let (name, folder) = rest.split_once('/').map_or((rest, None), |(name, folder)| (name, Some(folder)));
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    let folder = folder.map(|folder| folder.trim_end_matches('/')).filter(|folder| !folder.is_empty());
    let inside = folder.is_none_or(|folder| folder.split('/').all(good));
    if !good(org) || !good(name) || !good(revision) || !inside {
        return Err(form());
    }
    Ok(Source::Hub {
        repo: format!("{org}/{name}"),
        revision: revision.to_owned(),
        folder: folder.map(str::to_owned),
    })
}

fn web(text: &str) -> Result<Source> {
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("an address holds no credentials"));
    }
    if url.host_str().is_none_or(str::is_empty) || url.fragment().is_some() {
        return Err(wrong("an address has a host and no fragment"));
    }
    Ok(Source::Web(url))
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn references() {
        let digest = "a".repeat(64);
        let oci = format!("oci://ghcr.io/acme/pirate@sha256:{digest}");
        for good in [
            "file:///srv/adapters/a",
            "/srv/a",
            "hf://acme/pirate",
            "hf://acme/pirate@v1.0/sub/folder",
            "https://example.com/a.gguf?x=1",
            &oci,
        ] {
            assert!(Source::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "file://relative",
            "file:///a/../b",
            "file:///a\0b",
            "hf://acme",
            "hf://../x",
            "hf://acme/x@..",
            "hf://acme/x/../y",
            "https://user:pw@example.com/a.gguf",
            "https://",
            "https://example.com\\@evil/a.gguf",
            "ftp://example.com/a",
            "oci://ghcr.io/acme/pirate:latest",
            "https://example.com/a\r\nb",
        ] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }
}
