//! C: clang makes a core module, this program the component. No C library, no WASI.

use super::Work;
use super::tools::{find, need, run};
use super::world::componentize;
use crate::function::templates::HEADER;
use anyhow::{Context, Result, ensure};
use std::process::Command;

const HOW: &str = "install clang and lld (Debian: apt-get install clang lld)";

/// Small and plain: the features are those of every engine, the stack comes first so that running over it traps.
const FLAGS: [&str; 17] = [
    "--target=wasm32",
    "-mbulk-memory",
    "-msign-ext",
    "-mreference-types",
    "-Os",
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wno-missing-field-initializers",
    "-ffreestanding",
    "-nostdlib",
    "-Wl,--no-entry",
    "-Wl,--gc-sections",
    "-Wl,--stack-first",
    "-Wl,-z,stack-size=65536",
    "-Wl,--strip-all",
    "-fvisibility=hidden",
];

/// Builds the component.
pub fn build(work: &Work<'_>) -> Result<Vec<u8>> {
    let clang =
        need(&["clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"], HOW)?;
    let linker = find(&["wasm-ld", "wasm-ld-19", "wasm-ld-18", "wasm-ld-17", "wasm-ld-16", "wasm-ld-14"]);
    ensure!(linker.is_some(), "wasm-ld is not on the path: {HOW}");
    let (header, module) = (work.scratch.join("coldframe.h"), work.scratch.join("module.wasm"));
    std::fs::write(&header, HEADER).with_context(|| format!("cannot write {}", header.display()))?;
    let mut command = Command::new(clang);
    // The function's own copy of the header comes first where it has one: quotes look beside the source.
    command.args(FLAGS).arg("-I").arg(work.scratch).arg("-o").arg(&module);
    command.args(&work.build.sources).current_dir(&work.project.folder);
    run(&mut command, "clang")?;
    let core = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    componentize(core)
}
