//! A form with files, streamed from disk: what `curl -F` would send.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::PathBuf;

/// A part.
pub enum Part {
    /// Bytes of its own, such as a manifest.
    Text(String),
    /// A file.
    File(PathBuf),
}

/// A form.
pub struct Form {
    boundary: String,
    parts: Vec<(String, Part)>,
}

impl Default for Form {
    fn default() -> Self {
        // The clock makes it unlikely in any file; a file that holds it all the same breaks the upload, not the server.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { boundary: format!("coldframe-{:032x}", now.as_nanos()), parts: Vec::new() }
    }
}

impl Form {
    /// Adds a part.
    pub fn add(&mut self, name: impl Into<String>, part: Part) {
        self.parts.push((name.into(), part));
    }

    /// Its media type.
    pub fn media(&self) -> String {
        format!("multipart/form-data; boundary={}", self.boundary)
    }

    /// The whole as it is sent.
    ///
    /// # Errors
    /// Where a file cannot be opened.
    pub fn reader(self) -> Result<Box<dyn Read>> {
        let mut all: Box<dyn Read> = Box::new(Cursor::new(Vec::new()));
        for (name, part) in self.parts {
            let open = format!("--{}\r\ncontent-disposition: form-data; name=\"{name}\"", self.boundary);
            let (head, body): (String, Box<dyn Read>) = match part {
                Part::Text(text) => {
                    (format!("{open}\r\ncontent-type: application/json\r\n\r\n"), Box::new(Cursor::new(text)))
                }
                Part::File(path) => {
                    let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
                    let name = path.file_name().unwrap_or_default().to_string_lossy().replace('"', "%22");
                    let media = "content-type: application/octet-stream";
                    (format!("{open}; filename=\"{name}\"\r\n{media}\r\n\r\n"), Box::new(file))
                }
            };
            all = Box::new(all.chain(Cursor::new(head)).chain(body).chain(Cursor::new("\r\n")));
        }
        Ok(Box::new(all.chain(Cursor::new(format!("--{}--\r\n", self.boundary)))))
    }
}
