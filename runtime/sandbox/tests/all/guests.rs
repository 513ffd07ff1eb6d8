//! Guests for tests: core modules in text, wrapped as components of `functions/wit`, and scripts for `guests/script.wat`.

use crate::wasi::web_guest;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A core module in text as a component of a world of `functions/wit`.
pub fn component(text: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(folder("../../functions/wit")).expect("the interface can be read");
    encode(text, &resolve, package, world)
}

/// A core module in text as a component of a world in further packages of WIT, the last of which has the world.
pub fn component_of(text: &str, packages: &[&str], world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (mut package, _) =
        resolve.push_dir(folder("../../functions/wit")).expect("the interface can be read");
    for (place, text) in packages.iter().enumerate() {
        package = resolve.push_source(&format!("{place}.wit"), text).expect("WIT");
    }
    encode(text, &resolve, package, world)
}

fn encode(text: &str, resolve: &Resolve, package: wit_parser::PackageId, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(text).expect("WebAssembly text");
    let world = resolve.select_world(&[package], Some(world)).expect("a world");
    embed_component_metadata(&mut module, resolve, world, StringEncoding::UTF8).expect("metadata");
    let encoder = ComponentEncoder::default().validate(true).module(&module).expect("a core module");
    let mut encoder = encoder;
    encoder.encode().expect("a component")
}

fn text(name: &str) -> String {
    std::fs::read_to_string(folder("guests").join(name)).expect("a guest's text")
}

/// The guest that does what the body says.
pub fn script() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| component(&text("script.wat"), "function"))
}

/// The guest with a token hook.
pub fn hook() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| component(&text("hook.wat"), "function-with-hook"))
}

/// The smallest guest.
pub fn bare() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| component(&text("bare.wat"), "function"))
}

/// The committed components are what their texts make. `COLDFRAME_UPDATE=1` writes them.
#[test]
fn committed_guests_are_made_of_their_texts() {
    for (name, bytes) in [("script", script()), ("hook", hook()), ("bare", bare()), ("web", &web_guest(1))] {
        let path = folder("guests").join(format!("{name}.wasm"));
        if std::env::var_os("COLDFRAME_UPDATE").is_some() {
            std::fs::write(&path, bytes).expect("written");
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(committed == bytes, "{name}.wasm is stale: run this test with COLDFRAME_UPDATE=1");
    }
}

/// A script for the guest `script`.
#[derive(Debug, Clone, Default)]
pub struct Script(pub Vec<u8>);

/// Where a literal lies.
pub const LITERAL: u32 = 4096;

impl Script {
    pub fn new() -> Self {
        Self::default()
    }

    /// One deed and its arguments.
    pub fn op(mut self, op: u8, arguments: &[u32]) -> Self {
        self.0.push(op);
        self.0.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
        self
    }

    /// One deed with a byte for a handle.
    pub fn on(mut self, op: u8, handle: u8) -> Self {
        self.0.extend([op, handle]);
        self
    }

    /// A literal to [`LITERAL`].
    pub fn literal(mut self, text: &[u8]) -> Self {
        self.0.extend([32, u8::try_from(text.len()).expect("a short literal")]);
        self.0.extend(text);
        self
    }

    /// Writes a text to the caller.
    pub fn say(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).expect("short");
        self.literal(text.as_bytes()).op(2, &[LITERAL, len])
    }

    /// Writes a line of log.
    pub fn log(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).expect("short");
        let mut script = self.literal(text.as_bytes());
        script.0.extend([1, 1]);
        script.0.extend([LITERAL, len].iter().flat_map(|argument| argument.to_le_bytes()));
        script
    }

    /// A deed on a literal: its place and length as arguments.
    pub fn with(self, op: u8, text: &str) -> Self {
        let len = u32::try_from(text.len()).expect("short");
        self.literal(text.as_bytes()).op(op, &[LITERAL, len])
    }
}
