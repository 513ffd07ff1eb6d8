//! The world that a function's component is made for, and the component around a core module.
//!
//! componentize-js and componentize-py import everything that the world has, used or not. So they are given a world with
//! no more than the manifest grants, and a component never asks for what it was not granted.

use crate::function::manifest::{Capability, Manifest};
use crate::function::templates::WIT;
use anyhow::{Context, Result, anyhow};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The export that makes a module one with a token hook.
const HOOK: &str = "coldframe:function/token-hook@0.1.0#before-token";

/// Name of the world that [`write()`] writes.
pub const NAME: &str = "granted";

/// Writes WIT with the world `granted` into a folder of `scratch` and returns the folder.
pub fn write(scratch: &Path, manifest: &Manifest, hook: bool) -> Result<PathBuf> {
    let folder = scratch.join("wit");
    let package = folder.join("deps/coldframe-function");
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    std::fs::create_dir_all(&package).with_context(|| format!("cannot make {}", package.display()))?;
    write(&package.join("function.wit"), WIT)?;
    write(&folder.join("granted.wit"), &granted(manifest, hook))?;
    Ok(folder)
}

fn granted(manifest: &Manifest, hook: bool) -> String {
    let mut interfaces = vec!["import model", "import reply", "import log"];
    for capability in &manifest.capabilities {
        interfaces.push(match capability {
            Capability::State => "import state",
            Capability::Clock => "import clock",
            Capability::Random => "import random",
        });
    }
    if !manifest.allowed_outbound_hosts.is_empty() {
        interfaces.push("import http");
    }
    interfaces.push("export handler");
    if hook {
        interfaces.push("export token-hook");
    }
    let mut text = format!("package coldframe:granted;\n\nworld {NAME} {{\n");
    for line in interfaces {
        let (verb, interface) = line.split_once(' ').expect("two words");
        writeln!(text, "    {verb} coldframe:function/{interface}@0.1.0;").expect("a string");
    }
    text + "}\n"
}

/// Makes a component of a core module that keeps to the canonical ABI. Interfaces that the module does not import are not
/// the component's imports either.
pub fn componentize(mut core: Vec<u8>) -> Result<Vec<u8>> {
    let mut resolve = Resolve::default();
    let package =
        resolve.push_str("function.wit", WIT).map_err(|error| anyhow!("function.wit: {error:#}"))?;
    let name = if exports(&core, HOOK)? { "function-with-hook" } else { "function" };
    let world = resolve.select_world(&[package], Some(name)).map_err(|error| anyhow!("{error:#}"))?;
    let whole = embed_component_metadata(&mut core, &resolve, world, StringEncoding::UTF8)
        .and_then(|()| ComponentEncoder::default().validate(true).module(&core)?.encode());
    whole.map_err(|error| anyhow!("the module does not fit function.wit: {error:#}"))
}

/// Whether a core module exports something of this name.
fn exports(core: &[u8], name: &str) -> Result<bool> {
    for payload in Parser::new(0).parse_all(core) {
        if let Payload::ExportSection(section) = payload? {
            for export in section {
                if export?.name == name {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::{granted, write};
    use crate::function::manifest::parse;

    #[test]
    fn a_world_has_what_is_granted_and_no_more() {
        let bare = parse("name = \"a\"\nbackbone = \"b\"").expect("a manifest");
        let text = granted(&bare, false);
        assert!(text.contains("import coldframe:function/model@0.1.0;"), "{text}");
        assert!(!text.contains("state") && !text.contains("http") && !text.contains("token-hook"), "{text}");
        let more = "name = \"a\"\nbackbone = \"b\"\ncapabilities = [\"state\"]\n\
                    allowed_outbound_hosts = [\"https://a.example\"]";
        let text = granted(&parse(more).expect("a manifest"), true);
        for interface in ["import coldframe:function/state", "import coldframe:function/http", "token-hook"] {
            assert!(text.contains(interface), "{text}");
        }
    }

    #[test]
    fn the_world_can_be_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest =
            parse("name = \"a\"\nbackbone = \"b\"\ncapabilities = [\"random\"]").expect("a manifest");
        let folder = write(folder.path(), &manifest, true).expect("written");
        let mut resolve = wit_parser::Resolve::default();
        let (package, _) = resolve.push_path(&folder).expect("WIT");
        resolve.select_world(&[package], Some(super::NAME)).expect("the world");
    }
}
