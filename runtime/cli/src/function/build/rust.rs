//! Rust: cargo makes a component for wasm32-wasip2 by itself.

use super::Work;
use super::tools::{need, run};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";

/// Builds the component.
pub fn build(work: &Work<'_>) -> Result<Vec<u8>> {
    let cargo = need(&["cargo"], "install Rust (rustup.rs)")?;
    let folder = work.source()?;
    let mut rustc = Command::new(need(&["rustc"], "install Rust (rustup.rs)")?);
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(&folder);
    let library = PathBuf::from(String::from_utf8_lossy(&run(&mut rustc, "rustc")?).trim());
    ensure!(library.is_dir(), "Rust has no target {TARGET} here: `rustup target add {TARGET}`");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    let said = run(command.current_dir(&folder), "cargo build")?;
    let component = artifact(&String::from_utf8_lossy(&said))
        .context("cargo made no .wasm: the crate needs `crate-type = [\"cdylib\"]`")?;
    std::fs::read(&component).with_context(|| format!("cannot read {}", component.display()))
}

/// The last `.wasm` that cargo says it made.
fn artifact(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let files = messages.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let mut files = files.filter_map(|file| file.as_str().map(PathBuf::from));
    files.find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::artifact;

    #[test]
    fn the_component_is_found_in_what_cargo_says() {
        let said = "{\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/libx.rlib\"]}\n\
                    {\"reason\":\"compiler-artifact\",\"filenames\":[\"/t/hello.wasm\"]}\n\
                    {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(artifact(said), Some("/t/hello.wasm".into()));
        assert_eq!(artifact("{\"filenames\":[\"/t/libx.rlib\"]}"), None);
    }
}
