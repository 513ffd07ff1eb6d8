//! JavaScript: componentize-js puts the source and an engine (12 MB) into a component.

use super::Work;
use super::tools::{Package, need, run};
use super::world;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

const PACKAGE: Package = Package {
    name: "@bytecodealliance/componentize-js",
    version: "0.23.0",
    registry: "the npm registry",
    size: "385 MB on disk",
};

/// Runs in the folder where the package is installed.
const SCRIPT: &str = include_str!("../../../../../functions/templates/js/componentize.mjs");

/// Builds the component.
pub fn build(work: &Work<'_>) -> Result<Vec<u8>> {
    let node = need(&["node", "nodejs"], "install Node.js 20 or newer and npm")?;
    let folder = PACKAGE.folder(work, install)?;
    let (script, output) = (folder.join("componentize.mjs"), work.scratch.join("component.wasm"));
    std::fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    let wit = world::write(work.scratch, &work.project.manifest, work.build.hook)?;
    work.ui.say("componentize-js is at work; it takes some seconds");
    let mut command = Command::new(node);
    command.arg(&script).arg(work.source()?).arg(wit).arg(world::NAME).arg(&output);
    run(command.current_dir(&folder), "componentize-js")?;
    std::fs::read(&output).with_context(|| format!("cannot read {}", output.display()))
}

fn install(folder: &Path) -> Result<()> {
    let npm = need(&["npm"], "install Node.js 20 or newer and npm")?;
    let mut command = Command::new(npm);
    command.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(folder);
    command.arg(format!("{}@{}", PACKAGE.name, PACKAGE.version));
    run(command.current_dir(folder), "npm install").map(drop)
}
