//! `coldframe function build`: a component out of a function's source, with the tools of its language.
//!
//! Rust needs cargo, C needs clang and lld. The tools for JavaScript and Python are packages: the first build installs
//! them, in the version pinned here, into a folder of the store.

mod c;
mod js;
mod py;
mod rust;
mod tools;
mod world;

use super::manifest::{Build, Lang, Project};
use crate::backbone::{HomeArg, size};
use crate::ui::Ui;
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};

/// Make a function's component from its source
#[derive(Args)]
pub struct BuildArgs {
    /// The function's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Write the component here instead of the manifest's `module`
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    home: HomeArg,
}

/// What a build works with.
struct Work<'a> {
    project: &'a Project,
    build: &'a Build,
    /// Folder of installed tools.
    tools: PathBuf,
    /// A folder that goes when the build is over.
    scratch: &'a Path,
    ui: &'a Ui,
}

impl Work<'_> {
    /// The one source, as an absolute path.
    fn source(&self) -> Result<PathBuf> {
        let path = self.project.folder.join(&self.build.sources[0]);
        path.canonicalize().with_context(|| format!("cannot find the source {}", path.display()))
    }
}

/// Runs the command.
pub fn run(args: &BuildArgs, ui: &Ui) -> Result<()> {
    let project = Project::open(&args.folder)?;
    let Some(build) = &project.manifest.build else {
        ui.say("nothing to build: the manifest has no [build]");
        return Ok(());
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let tools = args.home.store()?.root().join("tools");
    let work = Work { project: &project, build, tools, scratch: scratch.path(), ui };
    let bytes = match build.lang {
        Lang::C => c::build(&work),
        Lang::Rust => rust::build(&work),
        Lang::Js => js::build(&work),
        Lang::Py => py::build(&work),
    }?;
    let target =
        args.output.clone().or_else(|| project.module()).context("the manifest names no `module`")?;
    write(&target, &bytes)?;
    ui.say(&format!("built {} ({})", target.display(), size(bytes.len() as u64)));
    Ok(())
}

fn write(target: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = crate::ui::WholeFile::create(target)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", target.display()))?;
    file.finish()
}
