//! Python: componentize-py puts the source and CPython (18 MB) into a component.

use super::Work;
use super::tools::{Package, need, run};
use super::world;
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

const PACKAGE: Package =
    Package { name: "componentize-py", version: "0.25.1", registry: "PyPI", size: "72 MB on disk" };

const HOW: &str = "install Python 3.10 or newer with venv (Debian: apt-get install python3-venv)";

/// Builds the component.
pub fn build(work: &Work<'_>) -> Result<Vec<u8>> {
    let folder = PACKAGE.folder(work, install)?;
    let output = work.scratch.join("component.wasm");
    let wit = world::write(work.scratch, &work.project.manifest, work.build.hook)?;
    let source = work.source()?;
    let module = source.file_stem().context("the source has no name")?;
    work.ui.say("componentize-py is at work; it takes some seconds");
    let mut command = Command::new(folder.join("venv/bin/componentize-py"));
    command.arg("-d").arg(wit).args(["-w", world::NAME, "componentize", "--stub-wasi"]).arg(module);
    // The bindings it makes must not be found in the working folder of whoever builds.
    command.arg("-p").arg(source.parent().context("the source has no folder")?).arg("-o").arg(&output);
    run(command.current_dir(work.scratch), "componentize-py")?;
    std::fs::read(&output).with_context(|| format!("cannot read {}", output.display()))
}

fn install(folder: &Path) -> Result<()> {
    let python = need(&["python3"], HOW)?;
    let venv = folder.join("venv");
    run(Command::new(python).args(["-m", "venv"]).arg(&venv), "python3 -m venv").context(HOW)?;
    let mut command = Command::new(venv.join("bin/pip"));
    command.args(["install", "--quiet", "--disable-pip-version-check"]);
    run(command.arg(format!("{}=={}", PACKAGE.name, PACKAGE.version)), "pip install").map(drop)
}
