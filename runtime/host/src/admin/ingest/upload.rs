//! `multipart/form-data`: the manifest, the adapters' files and the component, streamed to blobs as they come.
//!
//! Parts: `manifest` (JSON, the registration's body); `adapter` or `adapter.NAME`, once for each file, with the file's
//! name; `module`. So that `curl -F` suffices.

use super::stream::BodyStream;
use super::{Ingest, Uploads, files};
use crate::admin::action::{AdapterSpec, DEFAULT_ADAPTER, FunctionSpec};
use crate::admin::error::{AdminError, Kind, Result};
use crate::admin::names;
use futures_util::StreamExt;
use multer::{Field, Multipart};
use std::io;

/// Parts of a request at most; an adapter has four files.
const PARTS_MAX: usize = 128;

/// Bytes of the manifest.
const MANIFEST_MAX: usize = 256 << 10;

/// What a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadKind {
    /// The registration's body.
    Manifest,
    /// A file of this adapter.
    Adapter(String),
    /// The component.
    Module,
}

impl UploadKind {
    fn of(name: &str) -> Result<Self> {
        match (name, name.split_once('.')) {
            ("manifest", _) => Ok(Self::Manifest),
            ("module", _) => Ok(Self::Module),
            ("adapter", _) => Ok(Self::Adapter(DEFAULT_ADAPTER.to_owned())),
            (_, Some(("adapter", name))) => {
                names::adapter(name)?;
                Ok(Self::Adapter(name.to_owned()))
            }
            _ => {
                let problem = "parts are named `manifest`, `adapter`, `adapter.NAME` and `module`";
                Err(AdminError::invalid("multipart", problem))
            }
        }
    }
}

/// What came.
#[derive(Debug, Default)]
pub struct Upload {
    /// The manifest; without one, what the parts say by themselves.
    pub spec: FunctionSpec,
    /// The files, stored.
    pub uploads: Uploads,
}

impl Ingest {
    /// Reads a multipart body to its end.
    ///
    /// # Errors
    /// What is wrong with it; files that came before are left for the collector.
    pub async fn upload(&self, content_type: &str, body: BodyStream) -> Result<Upload> {
        let boundary = multer::parse_boundary(content_type).map_err(|error| malformed(&error))?;
        let mut multipart = Multipart::new(body, boundary);
        let (mut upload, mut manifest) = (Upload::default(), None);
        for part in 0.. {
            let Some(field) = multipart.next_field().await.map_err(|error| malformed(&error))? else { break };
            if part == PARTS_MAX {
                return Err(AdminError::invalid("multipart", format!("more than {PARTS_MAX} parts")));
            }
            match UploadKind::of(field.name().unwrap_or_default())? {
                UploadKind::Manifest => manifest = Some(text(field).await?),
                UploadKind::Adapter(name) => self.part(name, field, &mut upload.uploads).await?,
                UploadKind::Module => {
                    upload.uploads.module = Some(self.store(files::MODULE, source(field), None).await?);
                }
            }
        }
        if let Some(manifest) = manifest {
            upload.spec = super::super::decode(&manifest)?;
        }
        mention(&mut upload);
        Ok(upload)
    }

    async fn part(&self, adapter: String, field: Field<'static>, uploads: &mut Uploads) -> Result<()> {
        let given = field.file_name().unwrap_or_default();
        let name = files::adapter_file(given.rsplit(['/', '\\']).next().unwrap_or_default())?;
        let file = self.store(name, source(field), None).await?;
        match uploads.adapters.entry(adapter).or_default().insert(name.to_owned(), file) {
            None => Ok(()),
            Some(_) => Err(AdminError::invalid(name, "it came twice for one adapter")),
        }
    }
}

/// Adapters that came as parts and that the manifest does not speak of are adapters all the same.
fn mention(upload: &mut Upload) {
    let known: Vec<_> = upload.spec.adapters.iter().map(|spec| spec.name.clone()).collect();
    let new = upload.uploads.adapters.keys().filter(|name| !known.contains(name));
    let new: Vec<_> = new.map(|name| AdapterSpec { name: name.clone(), ..AdapterSpec::default() }).collect();
    upload.spec.adapters.extend(new);
}

async fn text(mut field: Field<'static>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(bytes) = field.chunk().await.map_err(|error| malformed(&error))? {
        all.extend_from_slice(&bytes);
        if all.len() > MANIFEST_MAX {
            let problem = format!("the manifest has more than {MANIFEST_MAX} bytes");
            return Err(AdminError::new(Kind::TooLarge, "request_body_too_large", problem).about("manifest"));
        }
    }
    Ok(all)
}

/// A part's bytes; why they stopped coming survives inside the error.
fn source(field: Field<'static>) -> crate::store::Source {
    let stream = field.map(|bytes| bytes.map_err(|error| io::Error::other(malformed(&error))));
    Box::pin(super::ByteReader::new(Box::pin(stream)))
}

fn malformed(error: &multer::Error) -> AdminError {
    match error {
        multer::Error::StreamReadFailed(inner) => match inner.downcast_ref::<io::Error>() {
            Some(io) => match io.get_ref().and_then(|inner| inner.downcast_ref::<AdminError>()) {
                Some(own) => own.clone(),
                None => AdminError::new(Kind::Invalid, "transfer_broken", format!("the upload broke: {io}")),
            },
            None => AdminError::new(Kind::Invalid, "transfer_broken", "the upload broke"),
        },
        other => AdminError::new(Kind::Invalid, "invalid_multipart", other.to_string()).about("multipart"),
    }
}
