//! From wherever an artifact is to a blob: uploads, confined folders, the hub, the web, registries.
//!
//! Everything streams: a file is judged by its first bytes, counted while it comes, hashed into the blob store, and
//! never held in memory whole. What a caller may make the host read or call is decided here: `file://` reaches the
//! configured folders only, the rest only public addresses, looked up once. Whether an adapter is any good is
//! [`verify`]'s business.

mod address;
pub mod artifacts;
mod files;
mod hub;
mod local;
mod magic;
mod oci;
mod source;
mod stream;
mod upload;
pub mod verify;
mod web;

pub use address::is_global;
pub use source::Source;
pub use stream::{BodyStream, ByteReader};
pub use upload::{Upload, UploadKind};

use super::action::{AdapterSpec, FileSpec};
use super::error::{AdminError, Kind, Result};
use crate::records::Digest;
use crate::store::{Blobs, LocalFile};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Files that came with a request, by adapter and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Uploads {
    /// Adapters by name, their files by name.
    pub adapters: BTreeMap<String, BTreeMap<String, LocalFile>>,
    /// The component.
    pub module: Option<LocalFile>,
}

impl Uploads {
    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.adapters.is_empty() && self.module.is_none()
    }
}

/// By digest: where a blob lies does not matter to what was asked for.
impl Serialize for Uploads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let digests = |files: &BTreeMap<String, LocalFile>| -> BTreeMap<String, Digest> {
            files.iter().map(|(name, file)| (name.clone(), file.digest.clone())).collect()
        };
        let adapters: BTreeMap<_, _> =
            self.adapters.iter().map(|(name, files)| (name.clone(), digests(files))).collect();
        (adapters, self.module.as_ref().map(|file| &file.digest)).serialize(serializer)
    }
}

/// Bounds and places of ingestion.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Folders that `file://` may name things in.
    pub roots: Vec<PathBuf>,
    /// Bytes of an adapter's tensor file.
    pub file_bytes_max: u64,
    /// Bytes of a component.
    pub module_bytes_max: u64,
    /// The hub's address.
    pub hub: String,
    /// A token for the hub.
    pub hub_token: Option<super::Secret>,
    /// Allows addresses of private networks and plain http to them: for registries inside a cluster.
    pub private_addresses: bool,
    /// Takes the proxy of the environment; it then resolves names, and the check of addresses is its business.
    pub proxy: bool,
    /// Endings of host names that a redirect may lead to, beside the host itself.
    pub redirect_hosts: Vec<String>,
    /// Silence after which a transfer counts as broken.
    pub stall: Duration,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            file_bytes_max: 512 << 20,
            module_bytes_max: 32 << 20,
            hub: "https://huggingface.co".to_owned(),
            hub_token: None,
            private_addresses: false,
            proxy: false,
            // Where the hub and two common registries keep their blobs.
            redirect_hosts: [".hf.co", ".huggingface.co", ".githubusercontent.com", ".cloudflare.docker.com"]
                .map(str::to_owned)
                .to_vec(),
            stall: Duration::from_secs(30),
        }
    }
}

/// An adapter's files, stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// Its name inside the function.
    pub name: String,
    /// Its files.
    pub files: BTreeMap<String, LocalFile>,
    /// Where they came from.
    pub source: Option<String>,
}

/// Brings artifacts into the blob store.
pub struct Ingest {
    blobs: Arc<dyn Blobs>,
    options: IngestOptions,
    web: Arc<web::Web>,
}

impl Ingest {
    /// With these bounds.
    pub fn new(blobs: Arc<dyn Blobs>, options: IngestOptions) -> Self {
        let web = Arc::new(web::Web::new(&options));
        Self { blobs, options, web }
    }

    /// Its bounds.
    pub fn options(&self) -> &IngestOptions {
        &self.options
    }

    /// Stores an adapter's files.
    ///
    /// # Errors
    /// What is wrong with the reference, the files or the way to them.
    pub async fn adapter(&self, spec: &AdapterSpec, uploads: &Uploads) -> Result<Staged> {
        let uploaded = uploads.adapters.get(&spec.name);
        let (files, source) = match (&spec.uri, spec.files.is_empty(), uploaded) {
            (Some(uri), true, None) => {
                let source = Source::parse(uri)?;
                (self.by_reference(&source, spec.digest.as_deref()).await?, Some(source.to_string()))
            }
            (None, false, None) => (self.one_by_one(&spec.files).await?, None),
            (None, true, Some(files)) => (files.clone(), None),
            (None, true, None) => {
                let problem = format!(
                    "adapter `{}` has neither a uri nor files: name one, or upload it as parts named `adapter.{0}`",
                    spec.name
                );
                return Err(AdminError::invalid("adapters.uri", problem));
            }
            _ => {
                let problem = format!(
                    "adapter `{}` comes from more than one place: give uri, files or parts",
                    spec.name
                );
                return Err(AdminError::invalid("adapters", problem));
            }
        };
        files::check_set(files.keys().map(String::as_str))?;
        Ok(Staged { name: spec.name.clone(), files, source })
    }

    /// Stores a component.
    ///
    /// # Errors
    /// As [`Ingest::adapter`].
    pub async fn module(&self, spec: Option<&FileSpec>, uploads: &Uploads) -> Result<Option<LocalFile>> {
        match (spec, &uploads.module) {
            (None, uploaded) => Ok(uploaded.clone()),
            (Some(_), Some(_)) => {
                Err(AdminError::invalid("module", "it is uploaded and referred to: leave one out"))
            }
            (Some(spec), None) => self.file(files::MODULE, spec).await.map(Some),
        }
    }

    async fn one_by_one(&self, files: &BTreeMap<String, FileSpec>) -> Result<BTreeMap<String, LocalFile>> {
        let mut stored = BTreeMap::new();
        for (name, spec) in files {
            let name = files::adapter_file(name)?;
            stored.insert(name.to_owned(), self.file(name, spec).await?);
        }
        Ok(stored)
    }

    /// One file by reference.
    async fn file(&self, name: &str, spec: &FileSpec) -> Result<LocalFile> {
        let wanted = spec.digest.as_deref();
        if let Some(digest) = wanted {
            super::names::digest("digest", digest)?;
        }
        match Source::parse(&spec.uri)? {
            Source::Web(url) => self.web_file(name, &url, wanted).await,
            Source::File(path) => {
                let (file, _) = local::open(&self.options.roots, &path, local::Want::File).await?.file()?;
                self.store(name, Box::pin(file), wanted).await
            }
            Source::Oci(reference) => oci::file(self, &reference, name).await,
            Source::Hub { .. } => {
                Err(AdminError::invalid("uri", "hf:// names a whole adapter, not one file"))
            }
        }
    }

    async fn by_reference(
        &self,
        source: &Source,
        digest: Option<&str>,
    ) -> Result<BTreeMap<String, LocalFile>> {
        match source {
            Source::File(path) => self.local(path, digest).await,
            Source::Hub { repo, revision, folder } => {
                hub::adapter(self, repo, revision, folder.as_deref()).await
            }
            Source::Oci(reference) => oci::adapter(self, reference).await,
            Source::Web(url) => {
                let name = files::adapter_file(url.path().rsplit('/').next().unwrap_or_default())?;
                if name != files::GGUF {
                    let problem = "an https:// uri names one .gguf file; give the files of a PEFT adapter one by one in `files`";
                    return Err(AdminError::invalid("uri", problem));
                }
                Ok(BTreeMap::from([(name.to_owned(), self.web_file(name, url, digest).await?)]))
            }
        }
    }

    async fn local(
        &self,
        path: &std::path::Path,
        digest: Option<&str>,
    ) -> Result<BTreeMap<String, LocalFile>> {
        let mut stored = BTreeMap::new();
        for (name, file) in local::open(&self.options.roots, path, local::Want::Adapter).await?.files {
            let wanted = digest.filter(|_| name == files::GGUF);
            let blob = self.store(&name, Box::pin(file), wanted).await?;
            stored.insert(name, blob);
        }
        Ok(stored)
    }

    /// A file of the web: its digest is required, since nothing else says that it is still the same.
    async fn web_file(&self, name: &str, url: &url::Url, digest: Option<&str>) -> Result<LocalFile> {
        let Some(digest) = digest else {
            let problem = "a file of the web needs its SHA-256 in `digest`";
            return Err(AdminError::invalid("digest", problem));
        };
        super::names::digest("digest", digest)?;
        // What is here already need not come again.
        if let Ok(file) = self.blobs.open(digest, true).await {
            return self.known(name, file).await;
        }
        let reply = self.web.get(url, &[], self.redirects(url)).await?.success()?;
        self.store(name, Box::pin(reply.into_reader()), Some(digest)).await
    }

    /// A blob that is here is judged like one that comes.
    async fn known(&self, name: &str, file: LocalFile) -> Result<LocalFile> {
        let source = tokio::fs::File::open(&file.path).await;
        let mut source = source.map_err(|error| AdminError::internal(format!("blob: {error}")))?;
        let mut head = Vec::new();
        use tokio::io::AsyncReadExt;
        let read = (&mut source).take(magic::HEAD as u64).read_to_end(&mut head).await;
        read.map_err(|error| AdminError::internal(format!("blob: {error}")))?;
        magic::check(name, &head)?;
        self.limit(name, file.bytes)?;
        Ok(file)
    }

    fn limit(&self, name: &str, bytes: u64) -> Result<()> {
        let limit = files::limit(name, &self.options);
        if bytes <= limit {
            return Ok(());
        }
        let problem = format!("{name} has {bytes} bytes; at most {limit} are taken");
        Err(AdminError::new(Kind::TooLarge, "lora_adapter_file_too_large", problem).about(name))
    }

    fn redirects(&self, url: &url::Url) -> web::Redirects {
        let own = url.host_str().unwrap_or_default().to_owned();
        web::Redirects { own, also: self.options.redirect_hosts.clone() }
    }

    /// Stores bytes under their hash, judged by name and first bytes.
    async fn store(
        &self,
        name: &str,
        source: crate::store::Source,
        wanted: Option<&str>,
    ) -> Result<LocalFile> {
        let limit = files::limit(name, &self.options);
        let (source, trouble) = stream::judged(name, source).await?;
        let stored = self.blobs.put(source, limit, wanted).await;
        // The store only sees that its source failed; why is known here.
        if let Some(error) = trouble.take() {
            return Err(error);
        }
        stored.map_err(|error| match AdminError::from(error) {
            error if error.kind == Kind::TooLarge => AdminError::new(
                Kind::TooLarge,
                "lora_adapter_file_too_large",
                format!("{name} has more than {limit} bytes"),
            )
            .about(name),
            error => error,
        })
    }
}
