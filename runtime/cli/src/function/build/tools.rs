//! Finding and running the tools of a language, and installing those that are packages.

use super::Work;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program on the path, under the first of its names that is there.
pub fn find(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    names.iter().find_map(|name| folders.iter().map(|folder| folder.join(name)).find(|file| file.is_file()))
}

/// Runs a tool and returns what it prints; what it says on stderr is shown only when it fails.
pub fn run(command: &mut Command, what: &str) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {what}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [output.stderr, output.stdout].concat();
    bail!("{what} failed ({}):\n{}", output.status, String::from_utf8_lossy(&said).trim())
}

/// A package that is a tool.
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// The version that this program was tried with.
    pub version: &'static str,
    /// Where it comes from, in words.
    pub registry: &'static str,
    /// Its size once installed, in words.
    pub size: &'static str,
}

impl Package {
    /// Folder of the installed package; installs it where it is missing.
    pub fn folder(&self, work: &Work<'_>, install: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let short = self.name.rsplit('/').next().expect("at least one part");
        let folder = work.tools.join(format!("{short}-{}", self.version));
        // Written last, so that an install that was cut off is done again.
        let mark = folder.join("installed");
        if mark.is_file() {
            return Ok(folder);
        }
        let (name, version) = (self.name, self.version);
        work.ui.say(&format!("installing {name} {version} from {} ({}), once", self.registry, self.size));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        install(&folder).with_context(|| {
            format!("cannot install {name} {version}: is {} reachable from here?", self.registry)
        })?;
        std::fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
        Ok(folder)
    }
}

/// Fails with what to do where a program is missing.
pub fn need(names: &[&str], how: &str) -> Result<PathBuf> {
    let found = find(names);
    ensure!(found.is_some(), "{} is not on the path: {how}", names[0]);
    Ok(found.expect("just checked"))
}
