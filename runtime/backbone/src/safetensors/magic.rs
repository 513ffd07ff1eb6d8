//! Files of other formats, told by their first bytes, so that the refusal can say what came and what to give.

use crate::error::{Error, Result};
use std::path::Path;

const FORMATS: &[(&[u8], &str)] = &[
    (b"PK\x03\x04", "a zip archive (torch.save writes those)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (b"version https://git-lfs", "a Git LFS pointer instead of the file (git lfs pull fetches it)"),
];

/// Refuses files that are plainly no safetensors: archives, pickles, GGUF. Nothing past the first bytes is read.
///
/// # Errors
/// [`Error::Forbidden`] with the format's name.
pub fn refuse_foreign(path: &Path, bytes: &[u8]) -> Result<()> {
    // A header's length may begin like any of these; the brace behind it tells.
    if bytes.get(8) == Some(&b'{') && !bytes.starts_with(b"GGUF") {
        return Ok(());
    }
    let tar = bytes.get(257..262) == Some(b"ustar");
    let found = FORMATS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, name)| name);
    match found.or(tar.then_some("a tar archive")) {
        None => Ok(()),
        Some(name) => Err(Error::Forbidden {
            path: path.to_owned(),
            problem: format!("it is {name} and is not opened; convert it to safetensors"),
        }),
    }
}
