//! Manifests: which files make up a backbone and where they came from, one JSON file each.

use super::source::check_file_name;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest manifest that is read, bytes: a model has hundreds of files at most.
const BYTES_MAX: u64 = 4 << 20;

/// What kind of files a backbone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One `.gguf` file.
    Gguf,
    /// A folder with `config.json` and safetensors.
    Safetensors,
}

/// A file of a backbone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name; files lie side by side.
    pub path: String,
    /// Lower-case hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// A backbone in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this form: 1.
    pub manifest: u32,
    /// What it is called.
    pub name: String,
    /// Where it came from, without credentials.
    pub source: String,
    /// The exact version the source gave: a commit, a package's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Kind of files.
    pub format: Format,
    /// The licence that the source names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// When it was pulled, RFC 3339, UTC.
    pub pulled: String,
    /// Where its files lie, where they are used in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linked: Option<PathBuf>,
    /// Its files.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Bytes of all its files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// SHA-256 over the files' names and digests: the same files have the same digest, whatever they are called here.
    pub fn digest(&self) -> String {
        let mut files: Vec<&FileEntry> = self.files.iter().collect();
        files.sort_by_key(|file| &file.path);
        let mut hash = Sha256::new();
        for file in files {
            hash.update(format!("{}\0{}\n", file.path, file.sha256));
        }
        hex(&hash.finalize())
    }

    pub(super) fn read(path: &Path, name: &str) -> Result<Self> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotFound {
                    what: format!("backbone `{name}`"),
                    hint: "pull it first".into(),
                });
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        let mut text = String::new();
        file.take(BYTES_MAX).read_to_string(&mut text).map_err(Error::io(path))?;
        let again = "pull the backbone again";
        let manifest: Self = serde_json::from_str(&text)
            .map_err(|e| Error::corrupt(path, "manifest", format!("{e}; {again}")))?;
        manifest
            .check(name)
            .map_err(|problem| Error::corrupt(path, "manifest", format!("{problem}; {again}")))?;
        Ok(manifest)
    }

    /// A manifest names blobs and files to link: nothing of it may lead out of the store.
    fn check(&self, name: &str) -> Result<(), String> {
        if self.manifest != 1 {
            return Err(format!("version {} is not 1", self.manifest));
        }
        if self.name != name {
            return Err(format!("it is for `{}`", self.name));
        }
        if self.files.is_empty() {
            return Err("it names no file".into());
        }
        for file in &self.files {
            check_file_name(&file.path)?;
            check_digest(&file.sha256)?;
        }
        Ok(())
    }

    pub(super) fn write(&self, folder: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self).expect("plain data");
        text.push('\n');
        write_whole(folder, &format!("{}.json", self.name), text.as_bytes())
    }
}

/// 64 lower-case hex digits.
pub fn check_digest(text: &str) -> Result<(), String> {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() == 64 && text.bytes().all(hex) {
        return Ok(());
    }
    Err(format!("`{}` is not a SHA-256: 64 lower-case hex digits", text.escape_default()))
}

/// Bytes as lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a file that appears whole or not at all, and outlives a power cut.
pub fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder))?;
    let path = folder.join(name);
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(Error::io(&path))?;
    file.persist(&path).map_err(|e| Error::io(&path)(e.error))?;
    sync_folder(folder)
}

/// Makes names in a folder outlive a power cut.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io(folder))
}

/// Now, as RFC 3339 in UTC.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    rfc3339(seconds)
}

/// Civil date by Howard Hinnant's `civil_from_days`.
fn rfc3339(unix: u64) -> String {
    let (days, second) = (unix / 86_400 + 719_468, unix % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(rfc3339(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn a_manifest_leads_nowhere_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("m.json");
        let good = |file: &str, digest: &str| {
            format!(
                r#"{{"manifest":1,"name":"m","source":"x","format":"gguf","pulled":"y",
                "files":[{{"path":"{file}","sha256":"{digest}","bytes":1}}]}}"#
            )
        };
        let digest = "0".repeat(64);
        for (text, fine) in [
            (good("a.gguf", &digest), true),
            (good("../a.gguf", &digest), false),
            (good("/etc/passwd", &digest), false),
            (good("a.gguf", "../../../../etc/passwd"), false),
            (good("a.gguf", &"A".repeat(64)), false),
            (good("a.gguf", &digest).replace("\"m\"", "\"n\""), false),
            ("{".into(), false),
        ] {
            std::fs::write(&path, &text).expect("written");
            assert_eq!(Manifest::read(&path, "m").is_ok(), fine, "{text}");
        }
    }
}
