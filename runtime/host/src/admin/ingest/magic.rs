//! Files told by their first bytes: archives and pickles are refused before anything opens them.

use super::files;
use crate::admin::error::{AdminError, Kind, Result};
use coldframe_backbone::Error;
use std::path::Path;

/// First bytes that are looked at; a tar archive tells itself at 257.
pub const HEAD: usize = 512;

/// A component's first bytes: the magic word, then version 13 of layer 1 (a component) or version 1 (a core module).
const WASM: &[u8] = b"\0asm";

/// Checks the first bytes of a file that is kept as `name`.
///
/// # Errors
/// `forbidden_file`.
pub fn check(name: &str, head: &[u8]) -> Result<()> {
    match name {
        files::GGUF => require(name, head.starts_with(b"GGUF"), head, "no GGUF file"),
        files::MODULE => require(name, head.starts_with(WASM), head, "no WebAssembly"),
        files::TENSORS => foreign(name, head),
        // Text: JSON and templates hold no NUL.
        _ => require(name, !head.contains(&0), head, "no text"),
    }
}

fn foreign(name: &str, head: &[u8]) -> Result<()> {
    coldframe_backbone::safetensors::refuse_foreign(Path::new(name), head).map_err(|error| match error {
        Error::Forbidden { problem, .. } => refusal(name, &problem),
        other => AdminError::from(other),
    })
}

/// Names what came where it can be told.
fn require(name: &str, good: bool, head: &[u8], otherwise: &str) -> Result<()> {
    if good {
        return Ok(());
    }
    foreign(name, head)?;
    Err(refusal(name, &format!("it is {otherwise}")))
}

fn refusal(name: &str, problem: &str) -> AdminError {
    AdminError::new(Kind::Unsupported, "forbidden_file", format!("{name}: {problem}")).about(name)
}
