//! Reads a component without compiling it: is it well formed, is it small enough, what does it import, what is it.
//!
//! Runs in the parent process, so it is bounded by the size of its input: one pass that counts and one that validates. Whether
//! each import has the type the host gives it is seen when the component is linked.

mod count;
mod world;

pub use world::World;
pub(crate) use world::{HANDLER, HOOK};

use crate::error::Error;
use crate::limits::Grants;
use crate::options::ModuleLimits;
use wasmparser::{Validator, WasmFeatures};

/// What a component is and wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What it exports.
    pub world: World,
    /// Names of its imports, sorted.
    pub imports: Vec<String>,
    /// Its size.
    pub bytes: usize,
    /// SHA-256 of it, in hexadecimal.
    pub digest: String,
    /// Core functions in it.
    pub functions: u32,
}

impl Checked {
    /// Capabilities it imports, by the words of the manifest: `state`, `clock`, `random`, `http`.
    pub fn capabilities(&self) -> Vec<&'static str> {
        let has = |word: &str| self.imports.iter().any(|import| world::capability(import) == Some(word));
        world::CAPABILITIES.into_iter().filter(|word| has(word)).collect()
    }

    /// Imports of capabilities that these grants do not open; using one ends a call with `not_granted`.
    ///
    /// WASI's own clocks and random numbers are not among them: without the grant they stand still and repeat.
    pub fn not_granted(&self, grants: &Grants) -> Vec<&str> {
        let granted = |word: &str| match word {
            "state" => grants.state,
            "clock" => grants.clock,
            "random" => grants.random,
            _ => !grants.outbound.is_empty(),
        };
        let shut = |import: &&String| world::capability(import).is_some_and(|word| !granted(word));
        self.imports.iter().filter(shut).map(String::as_str).collect()
    }
}

/// What WebAssembly may use here: the finished proposals that need no threads, no collector and no 64-bit memory.
pub(crate) fn features() -> WasmFeatures {
    let shut = WasmFeatures::THREADS
        | WasmFeatures::MEMORY64
        | WasmFeatures::GC
        | WasmFeatures::FUNCTION_REFERENCES
        | WasmFeatures::EXCEPTIONS
        | WasmFeatures::LEGACY_EXCEPTIONS
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::STACK_SWITCHING
        | WasmFeatures::SHARED_EVERYTHING_THREADS
        | WasmFeatures::CUSTOM_PAGE_SIZES
        | WasmFeatures::WIDE_ARITHMETIC
        | WasmFeatures::MEMORY_CONTROL
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_THREADING;
    WasmFeatures::default() & !shut
}

/// Reads a component and says what it is, or why it is refused.
///
/// # Errors
/// It is malformed, too large, a core module, exports no handler, or imports what no host of this version has.
pub fn check(bytes: &[u8], limits: &ModuleLimits) -> Result<Checked, Error> {
    if bytes.len() > limits.bytes {
        return Err(Error::TooLarge { what: "bytes", found: bytes.len() as u64, limit: limits.bytes as u64 });
    }
    let counted = count::count(bytes, limits)?;
    let valid = Validator::new_with_features(features()).validate_all(bytes);
    valid.map_err(|error| Error::Invalid(error.to_string()))?;
    let world = world::world(&counted)?;
    let mut imports = counted.imports;
    imports.sort();
    Ok(Checked { world, imports, bytes: bytes.len(), digest: digest(bytes), functions: counted.functions })
}

/// SHA-256 in hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}
