//! Which files an adapter may consist of, under which names, and how large each may be.

use super::IngestOptions;
use crate::admin::error::{AdminError, Kind, Result};

/// PEFT's configuration.
pub const CONFIG: &str = "adapter_config.json";
/// PEFT's tensors.
pub const TENSORS: &str = "adapter_model.safetensors";
/// The chat template that came with it.
const TEMPLATE: &str = "chat_template.jinja";
/// Another place for a chat template.
const TOKENIZER: &str = "tokenizer_config.json";
/// A llama.cpp adapter, whatever it was called.
pub const GGUF: &str = "adapter.gguf";
/// A component, whatever it was called.
pub const MODULE: &str = "module.wasm";

/// Files of a PEFT folder that are taken; the first two must be there.
pub const PEFT: [&str; 4] = [CONFIG, TENSORS, TEMPLATE, TOKENIZER];

/// The name under which an adapter's file is kept.
///
/// # Errors
/// `forbidden_file` for pickles and anything else that no adapter needs.
pub fn adapter_file(name: &str) -> Result<&'static str> {
    if let Some(known) = PEFT.into_iter().find(|known| *known == name) {
        return Ok(known);
    }
    if name.len() > ".gguf".len() && name.to_ascii_lowercase().ends_with(".gguf") {
        return Ok(GGUF);
    }
    let shown: String = name.chars().take(60).flat_map(char::escape_default).collect();
    let pickle = [".bin", ".pt", ".pth", ".pkl", ".ckpt"].iter().any(|ending| name.ends_with(ending));
    let problem = match pickle {
        true => format!(
            "`{shown}` is a Python pickle, which can run code, and is not taken; save with safetensors"
        ),
        false => format!("`{shown}` is no file of an adapter: {} or one .gguf file are", PEFT.join(", ")),
    };
    Err(AdminError::new(Kind::Unsupported, "forbidden_file", problem).about(shown))
}

/// Whether these files make an adapter.
///
/// # Errors
/// `adapter_file_not_found`.
pub fn check_set<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let names: Vec<&str> = names.collect();
    let has = |name| names.contains(&name);
    if has(GGUF) && names.len() == 1 || has(CONFIG) && has(TENSORS) && !has(GGUF) {
        return Ok(());
    }
    let problem = format!(
        "an adapter is {CONFIG} with {TENSORS}, or one .gguf file; this one has {}",
        if names.is_empty() { "no file".to_owned() } else { names.join(", ") }
    );
    Err(AdminError::new(Kind::Unprocessable, "adapter_file_not_found", problem))
}

/// Bytes of a file at most. The small ones are as the loader's own limits, which say more when they are passed.
pub fn limit(name: &str, options: &IngestOptions) -> u64 {
    match name {
        CONFIG => 1 << 20,
        TEMPLATE => 256 << 10,
        TOKENIZER => 8 << 20,
        MODULE => options.module_bytes_max,
        _ => options.file_bytes_max,
    }
}
