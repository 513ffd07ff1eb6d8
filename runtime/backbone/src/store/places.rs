//! Which hub and which package index are asked, and with what credentials.

use std::fmt;
use std::path::PathBuf;

/// Where names of sources lead.
#[derive(Clone, PartialEq, Eq)]
pub struct Places {
    /// The hub's address.
    pub hub: String,
    /// A token for gated models.
    pub hub_token: Option<String>,
    /// The package index's address; may hold credentials.
    pub index: String,
    /// Folders looked into for wheels before the index is asked.
    pub find_links: Vec<PathBuf>,
}

impl Default for Places {
    /// The public ones.
    fn default() -> Self {
        Self {
            hub: "https://huggingface.co".into(),
            hub_token: None,
            index: "https://pypi.org/simple".into(),
            find_links: Vec::new(),
        }
    }
}

impl Places {
    /// The public ones, changed by `HF_ENDPOINT`, `HF_TOKEN`, `UV_DEFAULT_INDEX`, `UV_INDEX_URL`, `PIP_INDEX_URL` and
    /// the folders of `PIP_FIND_LINKS`.
    pub fn from_env() -> Self {
        let set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let first = |names: &[&str]| names.iter().find_map(|name| set(name));
        let usual = Self::default();
        let links = set("PIP_FIND_LINKS").unwrap_or_default();
        let folder = |link: &str| PathBuf::from(link.strip_prefix("file://").unwrap_or(link));
        Self {
            hub: set("HF_ENDPOINT").unwrap_or(usual.hub),
            hub_token: first(&["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]),
            index: first(&["UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"]).unwrap_or(usual.index),
            // Pages among the links are the index's work.
            find_links: links.split_whitespace().map(folder).filter(|folder| folder.is_absolute()).collect(),
        }
    }
}

/// Without the token, and without what the index's address may hold.
impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.index.rsplit('@').next().unwrap_or_default();
        f.debug_struct("Places")
            .field("hub", &self.hub)
            .field("index", &index)
            .field("find_links", &self.find_links)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_printed() {
        let places = Places {
            hub_token: Some("hf_secret".into()),
            index: "https://me:secret@index.example/simple".into(),
            ..Places::default()
        };
        let shown = format!("{places:?}");
        assert!(shown.contains("index.example") && !shown.contains("secret"), "{shown}");
    }
}
