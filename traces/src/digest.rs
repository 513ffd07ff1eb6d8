//! SHA-256 of a source file, so that a report can say which bytes it speaks of.

use crate::record::TraceError;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// SHA-256 of a file as it lies on disk (packed if it is packed), in lower-case hex.
pub fn sha256_file(path: &Path) -> Result<String, TraceError> {
    let io_error = |source| TraceError::Io { file: path.to_owned(), source };
    let mut file = File::open(path).map_err(io_error)?;
    let (mut hash, mut buf) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buf).map_err(io_error)? {
            0 => return Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect()),
            n => hash.update(&buf[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_a_known_file() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        std::io::Write::write_all(&mut file, b"abc").expect("writes");
        let want = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(super::sha256_file(file.path()).expect("reads"), want);
    }
}
