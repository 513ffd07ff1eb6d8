//! Which world a component belongs to, by the names at its edge.

use super::count::Counted;
use crate::error::Error;

/// What a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// `coldframe:function/handler`.
    Function,
    /// The same and `coldframe:function/token-hook`.
    FunctionWithHook,
    /// `wasi:http/incoming-handler`, for `/invoke` only.
    Http,
}

/// Words of the manifest for capabilities.
pub(super) const CAPABILITIES: [&str; 4] = ["state", "clock", "random", "http"];

/// Our interfaces, all of one version.
pub(crate) const HANDLER: &str = "coldframe:function/handler@0.1.0";
/// The token hook.
pub(crate) const HOOK: &str = "coldframe:function/token-hook@0.1.0";
const OURS: [&str; 9] = ["types", "model", "reply", "log", "state", "clock", "random", "http", "token-hook"];
/// Packages of WASI 0.2 that are linked, each shut but for what is granted.
const WASI: [&str; 7] = [
    "wasi:io/",
    "wasi:clocks/",
    "wasi:random/",
    "wasi:cli/",
    "wasi:filesystem/",
    "wasi:sockets/",
    "wasi:http/",
];

/// The word of the manifest that opens an import, where one is needed.
pub(super) fn capability(import: &str) -> Option<&'static str> {
    if import.starts_with("wasi:http/outgoing-handler@") {
        return Some("http");
    }
    let name = import.strip_prefix("coldframe:function/")?.strip_suffix("@0.1.0")?;
    CAPABILITIES.into_iter().find(|word| *word == name)
}

fn is_known(import: &str) -> bool {
    let ours = import.strip_prefix("coldframe:function/").and_then(|rest| rest.strip_suffix("@0.1.0"));
    let is_wasi = || WASI.iter().any(|package| import.starts_with(package)) && import.contains("@0.2.");
    ours.is_some_and(|name| OURS.contains(&name)) || is_wasi()
}

pub(super) fn world(counted: &Counted) -> Result<World, Error> {
    if let Some(import) = counted.imports.iter().find(|import| !is_known(import)) {
        return Err(Error::UnknownImport(import.clone()));
    }
    let exports = |name: &str| counted.exports.iter().any(|export| export == name);
    let http = counted.exports.iter().any(|export| export.starts_with("wasi:http/incoming-handler@0.2."));
    match (exports(HANDLER), exports(HOOK), http) {
        (true, true, _) => Ok(World::FunctionWithHook),
        (true, false, _) => Ok(World::Function),
        (false, _, true) => Ok(World::Http),
        (false, _, false) => Err(Error::NoHandler),
    }
}
