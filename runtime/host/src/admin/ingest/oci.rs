//! OCI registries: a manifest named by its digest, its layers as files. Anonymous, over HTTPS.
//!
//! A layer is a file under the name of its `org.opencontainers.image.title`, as `oras push` makes them; archives are
//! not unpacked. Every byte is checked against a digest that the reference pins.

use super::web::{Redirects, Reply};
use super::{Ingest, files};
use crate::admin::error::{AdminError, Kind, Result};
use crate::admin::names;
use crate::store::LocalFile;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use url::Url;

/// Layers of a manifest that are looked at.
const LAYERS_MAX: usize = 16;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json, \
                        application/vnd.docker.distribution.manifest.v2+json";

/// `host/name@sha256:…`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Host and port.
    pub host: String,
    /// Repository.
    pub name: String,
    /// SHA-256 of the manifest.
    pub digest: String,
}

impl Reference {
    /// Reads what follows `oci://`.
    ///
    /// # Errors
    /// `invalid_request`.
    pub fn parse(rest: &str) -> Result<Self> {
        let form =
            || AdminError::invalid("uri", "oci:// takes host/name@sha256:… (a tag can change, a digest not)");
        let (place, digest) = rest.split_once("@sha256:").ok_or_else(form)?;
        names::digest("uri", digest)?;
        let (host, name) = place.split_once('/').ok_or_else(form)?;
        let plain_host = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
        let good = !host.is_empty() && host.chars().all(plain_host) && name.split('/').all(part);
        good.then(|| Self { host: host.into(), name: name.into(), digest: digest.into() }).ok_or_else(form)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}@sha256:{}", self.host, self.name, self.digest)
    }
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default, rename = "mediaType")]
    media_type: String,
}

impl Layer {
    fn title(&self) -> &str {
        self.annotations.get("org.opencontainers.image.title").map_or("", String::as_str)
    }

    fn sha256(&self) -> Result<&str> {
        let digest = self.digest.strip_prefix("sha256:").unwrap_or_default();
        names::digest("layers.digest", digest).map_err(|_| nonsense("a layer without a SHA-256"))?;
        Ok(digest)
    }
}

/// Stores an adapter's files.
///
/// # Errors
/// What the registry says, or what is missing.
pub async fn adapter(ingest: &Ingest, reference: &Reference) -> Result<BTreeMap<String, LocalFile>> {
    let mut pull = Pull { ingest, reference, token: None };
    let mut stored = BTreeMap::new();
    for layer in pull.layers().await? {
        let Ok(name) = files::adapter_file(layer.title()) else { continue };
        stored.insert(name.to_owned(), pull.layer(&layer, name).await?);
    }
    Ok(stored)
}

/// Stores the only file that fits `name`.
///
/// # Errors
/// As [`adapter`].
pub async fn file(ingest: &Ingest, reference: &Reference, name: &str) -> Result<LocalFile> {
    let mut pull = Pull { ingest, reference, token: None };
    let fits = |layer: &Layer| match name {
        files::MODULE => layer.title().ends_with(".wasm") || layer.media_type.contains("wasm"),
        name => files::adapter_file(layer.title()).is_ok_and(|found| found == name),
    };
    let layer = pull.layers().await?.into_iter().find(fits);
    let layer = layer.ok_or_else(|| {
        AdminError::new(
            Kind::Absent,
            "adapter_file_not_found",
            format!("the manifest has no layer for {name}"),
        )
        .about("uri")
    })?;
    pull.layer(&layer, name).await
}

struct Pull<'a> {
    ingest: &'a Ingest,
    reference: &'a Reference,
    token: Option<String>,
}

impl Pull<'_> {
    async fn layers(&mut self) -> Result<Vec<Layer>> {
        let page = self.ask(&format!("manifests/sha256:{}", self.reference.digest), MANIFEST).await?;
        let page = page.page().await?;
        if crate::admin::cursor::hex(&Sha256::digest(&page)) != self.reference.digest {
            let problem = "the manifest is not the one with this digest";
            return Err(AdminError::new(Kind::Unprocessable, "digest_mismatch", problem).about("uri"));
        }
        let manifest: Manifest =
            serde_json::from_slice(&page).map_err(|error| nonsense(&format!("a manifest: {error}")))?;
        Ok(manifest.layers.into_iter().take(LAYERS_MAX).collect())
    }

    async fn layer(&mut self, layer: &Layer, name: &str) -> Result<LocalFile> {
        let digest = layer.sha256()?;
        let reply = self.ask(&format!("blobs/sha256:{digest}"), "*/*").await?;
        self.ingest.store(name, Box::pin(reply.into_reader()), Some(digest)).await
    }

    async fn ask(&mut self, path: &str, accept: &str) -> Result<Reply> {
        let reply = self.once(path, accept).await?;
        if reply.status != 401 || self.token.is_some() {
            return reply.success();
        }
        let challenge = reply.header("www-authenticate").unwrap_or_default().to_owned();
        self.token = Some(self.anonymous(&challenge).await?);
        self.once(path, accept).await?.success()
    }

    async fn once(&self, path: &str, accept: &str) -> Result<Reply> {
        let options = self.ingest.options();
        // Registries inside a cluster often speak plain http on a port of their own.
        let scheme =
            if options.private_addresses && self.reference.host.contains(':') { "http" } else { "https" };
        let url = parsed(&format!("{scheme}://{}/v2/{}/{path}", self.reference.host, self.reference.name))?;
        let mut headers = vec![("accept", accept.to_owned())];
        headers.extend(self.token.as_ref().map(|token| ("authorization", format!("Bearer {token}"))));
        self.ingest.web.get(&url, &headers, self.ingest.redirects(&url)).await
    }

    /// The token that a registry gives to anyone.
    async fn anonymous(&self, challenge: &str) -> Result<String> {
        #[derive(Deserialize)]
        struct Token {
            #[serde(alias = "access_token")]
            token: String,
        }
        let part = |name: &str| {
            let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
            rest.split_once('"').map(|(value, _)| value)
        };
        let realm = part("realm").filter(|_| challenge.starts_with("Bearer "));
        let mut url = parsed(realm.ok_or_else(|| nonsense("a challenge that is no Bearer"))?)?;
        for name in ["service", "scope"] {
            if let Some(value) = part(name) {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        let redirects = Redirects { own: url.host_str().unwrap_or_default().to_owned(), also: Vec::new() };
        let page = self.ingest.web.get(&url, &[], redirects).await?.success()?.page().await?;
        let token: Token = serde_json::from_slice(&page).map_err(|_| nonsense("a token that is none"))?;
        Ok(token.token)
    }
}

fn parsed(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|error| nonsense(&format!("an address: {error}")))
}

fn nonsense(problem: &str) -> AdminError {
    AdminError::new(Kind::Upstream, "upstream_broken", format!("the registry answers nonsense: {problem}"))
        .about("uri")
}
